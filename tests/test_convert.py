"""`python -m speedpaper_jax.convert`: PyTorch's files to model directories and back."""

import hashlib
import json
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speedpaper_jax import convert
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import model_directory, prediction
from speedpaper_jax.interop import conversion, files, tensors
from speedpaper_jax.interop.names import implementation
from speedpaper_jax.steps import build
from speedpaper_jax.training import fine_tuning

pytest.importorskip("torch")
SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def settings_of_jax_as_they_are(monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


def run(*arguments):
  convert.main(convert.parse(["convert", *map(str, arguments)]))


def to_jax(weights, out, *arguments):
  run(f"--weights={weights}", f"--out={out}", *arguments)


@pytest.fixture(scope="module")
def state_dict():
  """BN-Inception's as pretrainedmodels has it, for ten classes, after seven steps."""
  names = implementation("bn_inception", "pretrainedmodels")
  network = conversion.create_network("bn_inception", names, 10, has_aux=False)
  table = tensors.tensors(network, names, names.image_size)
  rng = np.random.default_rng(0)
  state_dict = {
    tensor.theirs: rng.uniform(0.1, 1, tensor.their_shape).astype("float32") for tensor in table
  }
  return state_dict | {name: np.asarray(7) for name in tensors.counters(table)}


@pytest.fixture(scope="module")
def weights(state_dict, tmp_path_factory):
  path = tmp_path_factory.mktemp("weights") / "bn_inception.pth"
  files.write(path, state_dict)
  return path


@pytest.fixture(scope="module")
def converted(weights, tmp_path_factory):
  out = tmp_path_factory.mktemp("converted") / "model"
  to_jax(weights, out, "--model=bn_inception")
  return out


class TestToJax:
  def test_the_directory_tells_what_the_network_expects(self, converted, weights):
    description = json.loads((converted / "model.json").read_text())
    assert (description["name"], description["dialect"]) == ("bn_inception", "pretrainedmodels")
    assert description["num_classes"] == 10
    assert description["preprocessing"] == {
      "image_size": 224,
      "central_fraction": 0.875,
      "resize": "short_side",
      "interpolation": "bilinear",
      "channels": "BGR",
      "mean": [104.0, 117.0, 128.0],
      "std": [1.0, 1.0, 1.0],
    }
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert description["source"] == f"bn_inception.pth, SHA-256 {sha256}"

  def test_it_loads(self, converted, state_dict):
    loaded = model_directory.load(converted, parallel.make_mesh())
    assert loaded.step == 7
    assert loaded.network.settings.batch_norm.epsilon == 1e-5
    np.testing.assert_array_equal(
      loaded.variables["params"]["logits"]["kernel"], state_dict["last_linear.weight"].T
    )

  def test_the_input_can_be_another(self, weights, tmp_path, capsys):
    normalization = ["--channels=RGB", "--mean", "127.5", "127.5", "127.5", "--std", "1", "2", "3"]
    to_jax(weights, tmp_path / "out", "--model=bn_inception", *normalization)
    preprocessing = json.loads((tmp_path / "out" / "model.json").read_text())["preprocessing"]
    assert (preprocessing["channels"], preprocessing["std"]) == ("RGB", [1.0, 2.0, 3.0])
    assert "input: RGB, mean [127.5, 127.5, 127.5], std [1.0, 2.0, 3.0]" in capsys.readouterr().out

  def test_classes_have_the_names_that_are_given(self, weights, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"flower {i}\n" for i in range(10)))
    to_jax(weights, tmp_path / "out", "--model=bn_inception", f"--class_names={names}")
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    assert description["class_names"][9] == "flower 9"


class TestClassNames:
  """One a line, in UTF-8."""

  @pytest.mark.parametrize(
    "content",
    [
      "a\nb c\nčé\n玫瑰\n",
      "a\r\nb c\r\nčé\r\n玫瑰\r\n",
      "\ufeffa\nb c\nčé\n玫瑰",
      "a \n\tb c\nčé\n玫瑰\n\n  \n",
    ],
  )
  def test_are_read(self, content, tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(content.encode())
    assert convert._read_class_names(path) == ["a", "b c", "čé", "玫瑰"]

  @pytest.mark.parametrize(
    ("content", "message"),
    [
      ("玫瑰\n".encode("gb18030"), "is not in UTF-8 (invalid start byte); save it in UTF-8."),
      ("a\nb\n".encode("utf-16"), "is not in UTF-8 (invalid start byte); save it in UTF-8."),
      ("a\nb\n".encode("utf-16-le"), r"is no text ('a\x00'); save it in UTF-8."),
      (b"a\n\nb\n", "is empty; put the name of a class there."),
      (b"", "is empty; put the name of a class there."),
    ],
  )
  def test_or_refused(self, content, message, tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as refusal:
      convert._read_class_names(path)
    assert message in str(refusal.value)

  def test_equal_ones_are_told(self, tmp_path, capsys):
    """ImageNet's own have two cranes."""
    path = tmp_path / "names.txt"
    path.write_text("crane\nhen\ncrane\n")
    assert convert._read_class_names(path) == ["crane", "hen", "crane"]
    assert "gives several classes one name, 'crane'" in capsys.readouterr().err

  def test_are_as_many_as_classes(self, weights, tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a\nb\n")
    with pytest.raises(UserError, match=f"{path} has 2 names, but there are 10 classes"):
      to_jax(weights, tmp_path / "out", "--model=bn_inception", f"--class_names={path}")


class TestWithoutClasses:
  """A backbone's directory; its features serve training on other classes."""

  @pytest.fixture(scope="class")
  @classmethod
  def directory(cls, state_dict, tmp_path_factory):
    path = tmp_path_factory.mktemp("backbone") / "weights.safetensors"
    backbone = {name: state_dict[name] for name in state_dict if not name.startswith("last_")}
    files.write(path, backbone)
    to_jax(path, path.parent / "out", "--model=bn_inception")
    return path.parent / "out"

  def test_nothing_can_be_predicted(self, directory, tmp_path):
    mesh = parallel.make_mesh()
    loaded = model_directory.load(directory, mesh)
    assert loaded.description.num_classes == 0
    with pytest.raises(UserError, match="was saved without classes to predict"):
      next(prediction.predict(loaded, mesh, [tmp_path / "x.png"], batch_size=1, top=1))

  def test_training_takes_it(self, directory):
    loaded = model_directory.load(directory, parallel.make_mesh())
    config = loaded.config
    config.init_from = str(directory)
    network = build.build_inference_model(config, 3, parallel.make_mesh())
    images = jnp.zeros((1, 224, 224, 3))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
    fresh = types.SimpleNamespace(**shapes)
    taken = fine_tuning.transfer(config, loaded, fresh, ("a", "b", "c"))
    assert taken.fresh == ["logits"]
    assert taken.variables["params"]["logits"]["kernel"].shape == (1024, 3)

  def test_and_so_does_pytorch(self, directory, state_dict, tmp_path):
    run("--to=torch", f"--weights={directory}", f"--out={tmp_path}/again.pth")
    again = files.read(tmp_path / "again.pth")
    assert again.keys() == {name for name in state_dict if not name.startswith("last_")}


class TestPlacesAreCheckedFirst:
  """Before weights are read, which takes long."""

  @pytest.fixture(autouse=True)
  def weights_that_must_not_be_read(self, monkeypatch):
    def read(*arguments):
      raise AssertionError

    monkeypatch.setattr(files, "read", read)
    monkeypatch.setattr(model_directory, "load", read)

  def test_a_file_that_is_there(self, converted, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("mine")
    with pytest.raises(UserError, match=r"There is something at '.*' already; name another file"):
      run("--to=torch", f"--weights={converted}", f"--out={path}")
    assert path.read_text() == "mine"

  def test_no_directory_to_write_in(self, converted, tmp_path):
    with pytest.raises(UserError, match="there is no directory"):
      run("--to=torch", f"--weights={converted}", f"--out={tmp_path}/nowhere/weights.pth")

  def test_the_weights_themselves(self, weights, converted):
    with pytest.raises(UserError, match="There is something at"):
      to_jax(weights, weights, "--model=bn_inception")
    with pytest.raises(UserError, match="let it end in"):
      run("--to=torch", f"--weights={converted}", f"--out={converted}")

  def test_a_file_in_the_place_of_a_directory(self, weights):
    with pytest.raises(UserError, match="is no directory"):
      to_jax(weights, weights / "out" / "model", "--model=bn_inception")


class TestToTorch:
  @pytest.mark.parametrize("ending", [".pth", ".safetensors"])
  def test_every_tensor_comes_back_bit_for_bit(self, ending, converted, state_dict, tmp_path):
    if ending == ".safetensors":
      pytest.importorskip("safetensors")
    path = tmp_path / f"again{ending}"
    run("--to=torch", f"--weights={converted}", f"--out={path}")
    again = files.read(path)
    assert again.keys() == state_dict.keys()
    for name, values in state_dict.items():
      assert again[name].tobytes() == values.tobytes(), name
      assert (again[name].dtype, again[name].shape) == (values.dtype, values.shape), name

  def test_a_package_that_has_not_this_network(self, converted, tmp_path):
    with pytest.raises(UserError, match="Valid for --source: 'pretrainedmodels', 'pytorchcv'"):
      run("--to=torch", f"--weights={converted}", f"--out={tmp_path}/x.pth", "--source=timm")


class TestMistakes:
  def refusal(self, *arguments):
    with pytest.raises(UserError) as refusal:
      to_jax(*arguments)
    return str(refusal.value)

  def test_no_model(self, weights, tmp_path):
    assert "Name the network" in self.refusal(weights, tmp_path / "out")

  def test_an_unknown_model(self, weights, tmp_path):
    message = self.refusal(weights, tmp_path / "out", "--model=inception_v5")
    assert "There is no model 'inception_v5'. Did you mean 'inception_v" in message

  def test_another_network(self, weights, tmp_path):
    message = self.refusal(weights, tmp_path / "out", "--model=inception_v4")
    assert f"{weights} lacks the tensor 'features.0." in message
    assert not (tmp_path / "out").exists()

  def test_a_place_that_is_taken(self, weights, converted):
    message = self.refusal(weights, converted, "--model=bn_inception")
    assert message == f"There is something at '{converted}' already; name another directory."

  @pytest.mark.parametrize(
    ("arguments", "message"),
    [
      (["--channels=RBG"], "channels='RBG' is unknown. Did you mean 'RGB'?"),
      (["--std", "1", "0", "1"], "std is (1.0, 0.0, 1.0); it must be"),
      (["--num_classes=7"], "has 10 classes, not 7; leave --num_classes out"),
      (["--class_names=/nowhere"], "/nowhere cannot be read"),
      (["--image_size=-1"], "argument --image_size: -1 is below 1; see --help"),
    ],
  )
  def test_values(self, arguments, message, weights, tmp_path):
    assert message in self.refusal(weights, tmp_path / "out", "--model=bn_inception", *arguments)
