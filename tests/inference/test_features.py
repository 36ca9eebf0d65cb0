"""Features are those of the network, in the order of the files, for any batch size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from speedpaper_jax import models
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import feature_file
from speedpaper_jax.inference.features import extract
from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription


@pytest.fixture(scope="module")
def model():
  network = models.create("bn_inception", num_classes=4)
  variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
  preprocessing = Preprocessing(EvaluationCrop(32), DEFAULT)
  description = ModelDescription("bn_inception", "paper", 4, (), preprocessing, "a test")
  return LoadedModel(0, train_config(), description, network, jax.device_get(variables))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  folder = tmp_path_factory.mktemp("images")
  for index in range(10):
    pixels = np.random.default_rng(index).integers(0, 256, (40, 50 + index, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{index}.png")
  return sorted(folder.iterdir(), reverse=True)


@pytest.fixture(scope="module")
def expected(model, images):
  """All stages, and what the softmax layer sees, computed in one piece."""
  pixels = np.stack([EvaluationCrop(32)(path.read_bytes()) for path in images])
  inputs = DEFAULT.apply(pixels)
  stages = models.extract_features(model.network, model.variables, inputs)
  pooled = model.network.clone(num_classes=0).apply(model.variables, inputs, train=False)
  return {**stages, None: pooled}


def found(model, images, **settings):
  batches = list(extract(model, parallel.make_mesh(), images, **{"batch_size": 8, **settings}))
  return [path for paths, _ in batches for path in paths], np.concatenate(
    [each for _, each in batches]
  )


@pytest.mark.parametrize("batch_size", [8, 100])
def test_what_the_softmax_layer_sees(model, images, expected, batch_size):
  paths, features = found(model, images, batch_size=batch_size)
  assert paths == images
  np.testing.assert_allclose(features, expected[None], rtol=1e-4, atol=1e-5)
  assert np.ptp(features, axis=0).max() > 0.01


@pytest.mark.parametrize("stage", ["conv2", "inception_4e"])
def test_a_stage(model, images, expected, stage):
  _, maps = found(model, images, stage=stage, pooled=False)
  np.testing.assert_allclose(maps, expected[stage], rtol=1e-4, atol=1e-4)
  _, pooled = found(model, images, stage=stage)
  np.testing.assert_allclose(pooled, expected[stage].mean((1, 2)), rtol=1e-4, atol=1e-4)


def test_bfloat16(model, images, expected):
  _, features = found(model, images, stage="inception_3a", dtype="bfloat16")
  assert features.dtype == np.float32
  exact = expected["inception_3a"].mean((1, 2))
  error = np.abs(features - exact).max() / np.std(exact)
  assert 1e-5 < error < 0.1


def test_a_stage_that_is_none(model, images):
  with pytest.raises(UserError, match=r"no stage 'inception_3'\. Did you mean 'inception_3[abc]'"):
    found(model, images, stage="inception_3")


def test_what_cannot_be_used_is_left_out(model, images, tmp_path, capsys):
  (tmp_path / "text.png").write_text("no image")
  paths, features = found(model, [images[0], tmp_path / "text.png", images[1]])
  assert (paths, len(features)) == (images[:2], 2)
  assert "cannot be decoded and is left out" in capsys.readouterr().err


def test_features_that_are_no_numbers_are_left_out(model, images, capsys):
  params = {**model.variables["params"]}
  params["conv1"] = jax.tree.map(lambda leaf: leaf * np.nan, params["conv1"])
  damaged = dataclasses.replace(model, variables={**model.variables, "params": params})
  assert found(damaged, images[:2])[0] == []
  assert capsys.readouterr().err.count("its features are no finite numbers") == 2


class TestFile:
  def batches(self, images):
    return [(images[:3], np.arange(6.0).reshape(3, 2)), (images[3:4], np.ones((1, 2)))]

  def test_has_names_beside_the_rows(self, images, tmp_path):
    path = tmp_path / "it.npz"
    assert feature_file.write(path, self.batches(images), {"stage": "mixed_6e"}) == (4, 2)
    with np.load(path) as file:
      assert file["features"].dtype == np.float32
      assert file["features"].tolist() == [[0, 1], [2, 3], [4, 5], [1, 1]]
      assert file["files"].tolist() == list(map(str, images[:4]))
      assert file["stage"].item() == "mixed_6e"
    assert list(tmp_path.iterdir()) == [path]

  def test_nothing_is_left_of_one_that_fails(self, images, tmp_path):
    def failing():
      yield from self.batches(images)
      raise UserError("a test")

    with pytest.raises(UserError, match="a test"):
      feature_file.write(tmp_path / "it.npz", failing(), {})
    with pytest.raises(UserError, match="None of the images gives features"):
      feature_file.write(tmp_path / "it.npz", [], {})
    assert list(tmp_path.iterdir()) == []
