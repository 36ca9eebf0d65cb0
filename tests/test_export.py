"""`python -m speedpaper_jax.export DIR --out=FILE`, and what is written in a process without it."""

import hashlib
import json
import re

import jax
import numpy as np
import pytest
import shortened
import tiny
from commands import ROOT, finish, run, start
from networks import trained
from PIL import Image

from speedpaper_jax import export, predict
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT, IMAGENET
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import model_directory
from speedpaper_jax.models import registry
from speedpaper_jax.papers.networks import NETWORKS
from speedpaper_jax.steps import build

NAMES = [name for name in registry.MODELS if name != "small_inception"]
CLASSES = ("n02119789", "rose", "tulip")
PAGE = ROOT / "docs" / "export.md"

# Calls each program with its images, eight and then one, twice.
ALONE = """
import sys
sys.modules["speedpaper_jax"] = None  # importing it is an error
import jax, jax.export
import numpy as np

for path in sys.argv[1:]:
  with open(path, "rb") as file:
    program = jax.jit(jax.export.deserialize(bytearray(file.read())).call)
  images = np.load(f"{path}.images.npy")
  for _ in range(2):
    found = {rows: np.asarray(program(images[:rows])) for rows in (8, 1)}
  assert program._cache_size() == 2  # one for each shape
  np.savez(f"{path}.npz", eight=found[8], one=found[1])
"""


def write_directory(path, name, preprocessing, **batch_norm):
  """A model directory of random weights and of statistics as after training."""
  config = train_config()
  config.model.update(name=name, dialect=registry.dialects(name)[0], width=0.25)
  config.model.aux_heads = registry.has_field(name, "use_aux_heads")
  config.batch_norm.enabled = registry.find_dialect(name).batch_norm is not None
  config.batch_norm.update(batch_norm)
  config.data.image_size = preprocessing.crop.image_size
  network = build.build_inference_model(config, len(CLASSES), parallel.make_mesh())
  images = np.zeros((1, *preprocessing.crop.shape), np.float32)
  shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
  description = model_directory.ModelDescription(
    name, config.model.dialect, len(CLASSES), CLASSES, preprocessing, "a test"
  )
  model_directory.write(path, config, description.to_json(), trained(shapes, np.float32))


def probabilities(path):
  """[N, classes] of predict's `--json`."""
  rows = json.loads(path.read_text()).values()
  return np.array(
    [[each["probability"] for each in sorted(row, key=lambda each: each["class"])] for row in rows]
  )


@pytest.fixture(autouse=True)
def settings_of_jax_as_they_are(monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """Eight noisy pictures in one directory, wider than they are high."""
  path = tmp_path_factory.mktemp("images")
  for index in range(8):
    blurred = np.random.default_rng(index).integers(0, 256, (8, 11, 3)).astype(np.uint8)
    Image.fromarray(blurred).resize((110, 80), Image.Resampling.BICUBIC).save(path / f"{index}.png")
  return path


def run_export(*arguments):
  export.main(export.parse(["export", *map(str, arguments)]))


def run_predict(*arguments):
  predict.main(predict.parse(["predict", *map(str, arguments)]))


@pytest.mark.slow
def test_without_the_package_it_says_what_predict_says(images, scratch, tmp_path, monkeypatch):
  shortened.shorten(monkeypatch)
  for name in NAMES:
    preprocessing = Preprocessing(EvaluationCrop(NETWORKS[name].smallest_image_size), DEFAULT)
    write_directory(tmp_path / name, name, preprocessing)
    run_export(tmp_path / name, f"--out={tmp_path}/{name}.stablehlo")
    run_predict(tmp_path / name, images, f"--json={tmp_path}/{name}.predicted.json")
    pixels = [preprocessing.crop(path.read_bytes()) for path in sorted(images.iterdir())]
    np.save(tmp_path / f"{name}.stablehlo.images.npy", pixels)
  run(scratch, "-c", ALONE, *(tmp_path / f"{name}.stablehlo" for name in NAMES), cwd=tmp_path)
  for name in NAMES:
    expected = probabilities(tmp_path / f"{name}.predicted.json")
    assert np.ptp(expected, 0).min() > 1e-3  # images differ in them
    with np.load(tmp_path / f"{name}.stablehlo.npz") as found:
      np.testing.assert_allclose(found["eight"], expected, rtol=0, atol=1e-6, err_msg=name)
      np.testing.assert_allclose(found["one"], expected[:1], rtol=0, atol=1e-6, err_msg=name)


@pytest.fixture
def directory(tmp_path, monkeypatch):
  """Of a network that compiles in a moment."""
  monkeypatch.setattr(registry, "create", tiny.create)
  crop = EvaluationCrop(8, 0.875, "short_side", "bicubic")
  tiny.write_model_directory(tmp_path / "tiny", CLASSES, Preprocessing(crop, IMAGENET))
  return tmp_path / "tiny"


class TestThePage:
  BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

  @pytest.mark.parametrize(
    "crop",
    [
      EvaluationCrop(8, 0.8, "squash", "bilinear"),
      EvaluationCrop(8, 0.875, "short_side", "bicubic"),
    ],
    ids=["squash", "short_side"],
  )
  def test_its_program_names_the_classes_that_predict_names(
    self, crop, images, scratch, tmp_path, monkeypatch
  ):
    monkeypatch.setattr(registry, "create", tiny.create)
    tiny.write_model_directory(tmp_path / "tiny", CLASSES, Preprocessing(crop, IMAGENET))
    run_export(tmp_path / "tiny", f"--out={tmp_path}/it.stablehlo")
    run_predict(tmp_path / "tiny", images, f"--json={tmp_path}/predicted.json")
    blocked = f"import sys\nsys.modules['speedpaper_jax'] = None\n{self.BLOCKS[0]}"
    paths = sorted(images.iterdir())
    printed = run(scratch, "-c", blocked, tmp_path / "it.stablehlo", *paths, cwd=tmp_path)
    expected = json.loads((tmp_path / "predicted.json").read_text())
    assert printed.splitlines() == [
      f"{path}: {row[0]['name']}, {100 * row[0]['probability']:.2f} %"
      for path, row in expected.items()
    ]

  def test_its_function_for_converters_says_what_predict_says(self, directory, images, tmp_path):
    names = {}
    exec(self.BLOCKS[1].replace("DIR", str(directory)), names)  # as a reader does it
    run_predict(directory, images, f"--json={tmp_path}/predicted.json")
    crop = names["preprocessing"].crop
    pixels = np.stack([crop(path.read_bytes()) for path in sorted(images.iterdir())])
    found = names["probabilities"](np.float32(pixels))
    np.testing.assert_allclose(found, probabilities(tmp_path / "predicted.json"), atol=1e-6)


def test_what_is_written_is_told(directory, tmp_path, capsys):
  out = tmp_path / "it.stablehlo"
  run_export(directory, f"--out={out}", "--platforms=cpu,tpu")
  assert capsys.readouterr().out == (
    "bn_inception (paper), 3 classes, 0.0 MB for cpu, tpu\n"
    "pixels, uint8 [b, 8, 8, 3] → probabilities, float32 [b, 3]\n"
    f"written to {out} and {out}.json\n"
  )
  description = json.loads((tmp_path / "it.stablehlo.json").read_text())
  assert description["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
  assert description["class_names"] == ["kit fox", "rose", "tulip"]


def test_normalizations_that_cannot_be_folded_are_told(tmp_path, capsys, monkeypatch):
  shortened.shorten(monkeypatch)
  preprocessing = Preprocessing(EvaluationCrop(32), DEFAULT)
  write_directory(tmp_path / "model", "bn_inception", preprocessing, per_activation="inception_5b")
  run_export(tmp_path / "model", f"--out={tmp_path}/it.stablehlo", "--platforms=cpu")
  assert (
    "Note: batch normalization per activation, as in 'inception_5b/conv_1x1/batch_norm', cannot be "
    "folded; the program has the network as it was trained."
  ) in capsys.readouterr().err


class TestMistakes:
  """Each is told before anything is written."""

  @pytest.mark.parametrize(
    ("flags", "message"),
    [
      (["--platforms=gpu"], r"There is no platform 'gpu'; take some of cpu, cuda, rocm, tpu\."),
      (["--platforms=cpu,cpu"], r"A platform is named twice; name each once\."),
      (["--dtype=float16"], "argument --dtype: invalid choice: 'float16'"),
      (["--inputs=images"], "argument --inputs: invalid choice: 'images'"),
      (["--image_size=0"], "argument --image_size: 0 is below 1"),
    ],
  )
  def test_flags(self, directory, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
      run_export(directory, f"--out={tmp_path}/it", *flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]

  @pytest.mark.parametrize("there", ["it", "it.json"])
  def test_a_file_that_is_there(self, directory, tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=rf"There is something at '.*/{there}' already; name"):
      run_export(directory, f"--out={tmp_path}/it")
    assert (tmp_path / there).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [there, "tiny"]

  def test_a_place_that_there_is_not(self, directory, tmp_path):
    with pytest.raises(UserError, match=r"cannot be written: there is no directory '.*/missing'"):
      run_export(directory, f"--out={tmp_path}/missing/it")

  def test_a_file_of_a_run(self, directory):
    with pytest.raises(UserError, match=r"model\.json' is a file of a run; name another one"):
      run_export(directory, f"--out={directory}/model.json")

  def test_weights_that_nobody_has_published(self, tmp_path):
    with pytest.raises(UserError, match=r"no published weights 'timm/inception_v5'\. Did you mean"):
      run_export("timm/inception_v5", f"--out={tmp_path}/it")

  def test_images_that_are_too_small(self, tmp_path, monkeypatch):
    shortened.shorten(monkeypatch)
    write_directory(tmp_path / "model", "inception_v4", Preprocessing(EvaluationCrop(75), DEFAULT))
    with pytest.raises(UserError, match="The images are too small for InceptionV4"):
      run_export(tmp_path / "model", f"--out={tmp_path}/it", "--image_size=74")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]

  def test_as_a_command(self, scratch, tmp_path):
    process = start(scratch, "-m", "speedpaper_jax.export", tmp_path, f"--out={tmp_path}/it")
    status, output, errors = finish(process)
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: '{tmp_path}' is not the directory of a run")
