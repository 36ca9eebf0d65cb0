"""`python -m speedpaper_jax.features DIR IMAGE… --out=FILE.npz`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from speedpaper_jax import features, models
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import model_directory


@pytest.fixture(autouse=True)
def settings_of_jax_as_they_are(monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  """BN-Inception with random weights, for images of 32 pixels."""
  path = tmp_path_factory.mktemp("models") / "bn_inception"
  config = train_config()
  config.data.image_size = 32
  network = models.create("bn_inception", num_classes=4)
  variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
  description = model_directory.ModelDescription(
    "bn_inception", "paper", 4, (), Preprocessing(EvaluationCrop(32), DEFAULT), "a test"
  )
  model_directory.write(path, config, description.to_json(), variables)
  return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("images")
  for index in range(5):
    pixels = np.random.default_rng(index).integers(0, 256, (40, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path / f"{index}.png")
  return path


def run(*arguments):
  features.main(features.parse(["features", *map(str, arguments)]))


def test_pooled_features_with_the_names_of_their_files(directory, folder, tmp_path, capsys):
  out = tmp_path / "it.npz"
  run(directory, folder, f"--out={out}")
  assert capsys.readouterr().out == f"5×1024 features in {out}\n"
  with np.load(out) as file:
    assert file["files"].tolist() == [str(folder / f"{index}.png") for index in range(5)]
    assert file["features"].shape == (5, 1024)
    assert file["weights"].item() == "a test"


def test_maps_of_a_stage_at_another_size(directory, folder, tmp_path):
  out = tmp_path / "it.npz"
  run(directory, folder, "--stage=inception_3c", "--maps", "--image_size=64", f"--out={out}")
  with np.load(out) as file:
    assert file["features"].shape == (5, 4, 4, 576)
    assert file["stage"].item() == "inception_3c"


def test_what_is_left_out_is_an_error_after_the_others_are_saved(directory, folder, tmp_path):
  (tmp_path / "text.png").write_text("no image")
  out = tmp_path / "it.npz"
  with pytest.raises(UserError, match="1 of 6 images are left out"):
    run(directory, tmp_path / "text.png", folder, f"--out={out}")
  with np.load(out) as file:
    assert len(file["files"]) == 5


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--maps", "--out=it.npz"], "--maps are those of a stage; name one with --stage"),
    ([], "the following arguments are required: --out"),
    (["--stage=mixed_6e", "--out=it.npz"], "bn_inception has no stage 'mixed_6e'"),
    (["--out=nowhere/it.npz"], "there is no directory 'nowhere'"),
    (["--dtype=float16", "--out=it.npz"], "invalid choice: 'float16'"),
  ],
)
def test_mistakes(directory, folder, flags, message, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=message):
    run(directory, folder, *flags)
  assert list(tmp_path.iterdir()) == []
