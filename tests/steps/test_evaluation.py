"""Several crops of an image on the devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speedpaper_jax.data.averaged_crops import AveragedCrops
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.steps.evaluation import make_answers_step

SIZE, CLASSES = 16, 5
CROP = EvaluationCrop(SIZE, 0.8)


class Network(nn.Module):
  """Maps that need much more memory than the image."""

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.relu(nn.Conv(64, (3, 3))(images))
    return nn.Dense(CLASSES)(nn.Conv(64, (3, 3))(x).mean((1, 2)))


@pytest.fixture(scope="module")
def variables():
  return Network().init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)


def batch_of(crops, rows):
  image = np.random.default_rng(0).integers(0, 256, (rows, 24, 30, 3)).astype(np.uint8)
  sheets = np.stack([crops.of(CROP)(each) for each in image])
  return {"image": sheets, "label": np.zeros(rows, np.int32), "mask": np.ones(rows, np.float32)}


@pytest.mark.parametrize("number", [10, 12, 144])
def test_the_crops_are_those_of_the_windows(variables, number):
  """Cut on the host and shown one by one."""
  crops = AveragedCrops(number)
  windows, batch = crops.of(CROP).windows, batch_of(crops, rows=3)
  found = jax.jit(make_answers_step(Network(), DEFAULT, windows))(variables, batch)
  for sheets, log_p in zip(batch["image"], found["log_probabilities"], strict=True):
    each = [
      jax.nn.softmax(Network().apply(variables, DEFAULT.apply(crop[None]), train=False))
      for crop in windows.cut(sheets)
    ]
    assert len(each) == number
    np.testing.assert_allclose(np.exp(log_p), np.mean(each, 0)[0], rtol=0, atol=1e-6)


def test_the_memory_does_not_grow_with_the_number_of_crops(variables):
  """But for the sheets themselves."""

  def needed(number, rows=4):
    crops = AveragedCrops(number)
    batch = batch_of(crops, rows)
    step = jax.jit(make_answers_step(Network(), DEFAULT, crops.of(CROP).windows))
    analysis = step.lower(variables, batch).compile().memory_analysis()
    return analysis.temp_size_in_bytes - 2 * batch["image"].nbytes

  maps_of_all_crops = 4 * 144 * SIZE * SIZE * 64 * 4
  assert needed(144) < 1.1 * needed(12) < maps_of_all_crops / 5
