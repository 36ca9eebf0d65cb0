"""From a name to the network: a server of this machine stands in for those of the packages."""

import concurrent.futures
import dataclasses
import json
import pathlib

import matplotlib.cbook
import numpy as np
import pytest
from packages import require
from PIL import Image
from random_weights import (
  CLASSES,
  file_of,
  names_of,
  own_transform,
  publishing,
  sure_keras_network,
  sure_network,
)

from speedpaper_jax import predict
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import files, published, references
from speedpaper_jax.published_weights import table

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def settings_of_jax_as_they_are(monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


@pytest.fixture
def cache(monkeypatch, tmp_path):
  """An empty cache of the user's."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache" / "speedpaper_jax" / "weights"


def left_in(cache):
  return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


@pytest.fixture
def publish(monkeypatch):
  with publishing(monkeypatch) as publish:
    yield publish


@pytest.mark.slow
class TestPredictions:
  """They are the package's own, each through its own reading, cropping and normalization."""

  @pytest.mark.parametrize(
    "name",
    [
      "timm/inception_v3.tv_in1k",
      "timm/inception_v4.tf_in1k",
      "torchvision/googlenet",
      "torchvision/inception_v3",
      "pretrainedmodels/bninception",
      "pytorchcv/bninception",
      "pytorch-fid/inception_v3",
    ],
  )
  def test_of_pytorchs_packages(self, name, publish, cache, photographs, tmp_path):
    row = table.find(name)
    require(row.package)
    names = names_of(row)
    module = sure_network(row.model, names)
    publish(name, file_of(row, module, tmp_path))
    torch = references.import_package("torch")
    transform = own_transform(row, module)
    with torch.no_grad():
      outputs = [transform(Image.open(path).convert("RGB")) for path in photographs]
    logits = [references.split_logits(names, output)[0] for output in outputs]
    self.compare(name, photographs, torch.softmax(torch.cat(logits), -1).numpy(), tmp_path)

  @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
  def test_of_keras(self, publish, cache, photographs, tmp_path):
    require("keras", "h5py")
    keras, network = sure_keras_network()
    network.save(tmp_path / "it.h5")
    publish("keras/inception_v3", (tmp_path / "it.h5").read_bytes())
    pixels = [
      keras.utils.img_to_array(
        keras.utils.load_img(path, target_size=(299, 299), interpolation="bilinear")
      )
      for path in photographs
    ]
    inputs = keras.applications.inception_v3.preprocess_input(np.stack(pixels))
    theirs = network.predict(inputs, verbose=0)
    self.compare("keras/inception_v3", photographs, theirs, tmp_path)

  def compare(self, name, photographs, theirs, tmp_path):
    out = tmp_path / "out.json"
    arguments = [f"--weights={name}", *map(str, photographs), f"--json={out}", f"--top={CLASSES}"]
    predict.main(predict.parse(["predict", *arguments]))
    content = json.loads(out.read_text())
    ours = np.zeros_like(theirs)
    for row, path in zip(ours, photographs, strict=True):
      for each in content[str(path)]:
        row[each["class"]] = each["probability"]
    assert np.all(theirs.max(-1) > 0.2)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.fixture
def photographs(tmp_path):
  """JPEG files; more of them where ../shared is."""
  path = tmp_path / "photograph.jpg"
  with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as whole:
    whole.crop((50, 20, 390, 331)).save(path)
  return [path, *sorted(SHARED.glob("flowers/*/*.jpg"))[::400]]


class TestFaults:
  """They end in a sentence, and leave nothing behind."""

  NAME = "torchvision/googlenet"

  @pytest.fixture
  def content(self, tmp_path):
    pytest.importorskip("torch")
    files.write(tmp_path / "it.pth", {"conv1.conv.weight": np.zeros((2, 3), "float32")})
    return (tmp_path / "it.pth").read_bytes()

  def refusal(self):
    with pytest.raises(UserError) as refusal:
      published.model_directory(self.NAME)
    return str(refusal.value)

  def test_a_wrong_checksum(self, publish, cache, content):
    row = publish(self.NAME, content)
    publish.handler.contents[f"/{row.file_name}"] = content[::-1]
    assert "is not the published file (its SHA256 is" in self.refusal()
    assert left_in(cache) == []

  def test_half_a_download(self, publish, cache, content):
    row = publish(self.NAME, content)
    publish.handler.cut.add(f"/{row.file_name}")
    assert "broke off after" in self.refusal()
    assert left_in(cache) == []

  def test_no_network(self, publish, cache, content, monkeypatch):
    row = dataclasses.replace(publish(self.NAME, content), url="http://127.0.0.1:1/it.pth")
    monkeypatch.setattr(table, "ROWS", (row,))
    assert f"get the file another way, put it at {cache}/files/it.pth, and" in self.refusal()
    assert left_in(cache) == []

  def test_weights_of_another_network(self, publish, cache, content):
    publish(self.NAME, content)
    assert f"{self.NAME} lacks the tensor" in self.refusal()
    assert left_in(cache) == []

  def test_a_cache_that_cannot_be_written(self, publish, content, monkeypatch, tmp_path):
    publish(self.NAME, content)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "cannot be kept in " in self.refusal()
    assert "name another place with XDG_CACHE_HOME." in self.refusal()


class TestOnce:
  """What is there is not fetched again, and two that want it at once share it."""

  NAME = "pretrainedmodels/bninception"

  @pytest.fixture
  def content(self, tmp_path):
    pytest.importorskip("torch")
    from speedpaper_jax.interop import conversion, tensors
    from speedpaper_jax.interop.names import implementation

    names = implementation("bn_inception", "pretrainedmodels")
    network = conversion.create_network("bn_inception", names, CLASSES, has_aux=False)
    rng = np.random.default_rng(0)
    state_dict = {
      tensor.theirs: rng.uniform(0.1, 1, tensor.their_shape).astype("float32")
      for tensor in tensors.tensors(network, names, names.image_size)
    }
    files.write(tmp_path / "it.pth", state_dict)
    return (tmp_path / "it.pth").read_bytes()

  def test_two_at_once(self, publish, cache, content):
    row = publish(self.NAME, content)
    killed = cache / "staging" / "pretrainedmodels-bninception"  # by another process
    (killed / "model").mkdir(parents=True)
    (killed / row.file_name).write_bytes(content[:100])
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
      first, second = executor.map(published.model_directory, [self.NAME] * 2)
    assert first == second == cache / self.NAME
    assert publish.handler.asked == [f"/{row.file_name}"]
    assert published.model_directory(self.NAME) == first
    assert publish.handler.asked == [f"/{row.file_name}"]
    description = json.loads((first / "model.json").read_text())
    assert description["preprocessing"] == row.preprocessing.to_json()
    assert description["source"].startswith(f"{self.NAME}, BSD-3, from {row.url}, SHA-256 ")
    assert {path.parts[0] for path in map(pathlib.Path, left_in(cache))} == {"pretrainedmodels"}

  def test_a_file_of_ones_own(self, cache, content, tmp_path):
    path = tmp_path / "it.pth"
    first = published.of_file(path, "bn_inception", None)
    assert published.of_file(path, "bn_inception", None) == first
    assert first.parent == cache / "local"
    assert json.loads((first / "model.json").read_text())["source"].startswith("it.pth, SHA-256 ")


def test_a_path_is_a_path(cache, tmp_path):
  for name in (tmp_path, tmp_path / "nowhere", "runs/timm"):
    assert published.model_directory(name) == pathlib.Path(name)


def test_a_directory_of_ones_own_comes_before_a_published_name(cache, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "timm" / "inception_v4").mkdir(parents=True)
  assert published.model_directory("timm/inception_v4") == pathlib.Path("timm/inception_v4")
