"""What the devices make of images: answers for one crop or several, moments for Algorithm 2."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_network import Network, assert_close, make_batch, make_step

from speedpaper_jax.data.averaged_crops import AveragedCrops
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.steps.evaluation import make_answers_step, make_moments_step
from speedpaper_jax.steps.step import example_metrics

SIZE, CLASSES = 16, 5
CROP = EvaluationCrop(SIZE, 0.8)


class WideMaps(nn.Module):
  """They need much more memory than the image."""

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.relu(nn.Conv(64, (3, 3))(images))
    return nn.Dense(CLASSES)(nn.Conv(64, (3, 3))(x).mean((1, 2)))


@pytest.fixture(scope="module")
def variables():
  return WideMaps().init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)


def batch_of(crops, rows):
  image = np.random.default_rng(0).integers(0, 256, (rows, 24, 30, 3)).astype(np.uint8)
  sheets = np.stack([crops.of(CROP)(each) for each in image])
  return {"image": sheets, "label": np.zeros(rows, np.int32), "mask": np.ones(rows, np.float32)}


@pytest.mark.parametrize("number", [10, 12, 144])
def test_the_crops_are_those_of_the_windows(variables, number):
  """Cut on the host and shown one by one."""
  crops = AveragedCrops(number)
  windows, batch = crops.of(CROP).windows, batch_of(crops, rows=3)
  found = jax.jit(make_answers_step(WideMaps(), DEFAULT, windows))(variables, batch)
  for sheets, log_p in zip(batch["image"], found["log_probabilities"], strict=True):
    each = [
      jax.nn.softmax(WideMaps().apply(variables, DEFAULT.apply(crop[None]), train=False))
      for crop in windows.cut(sheets)
    ]
    assert len(each) == number
    np.testing.assert_allclose(np.exp(log_p), np.mean(each, 0)[0], rtol=0, atol=1e-6)


def test_the_memory_does_not_grow_with_the_number_of_crops(variables):
  """But for the sheets themselves."""

  def needed(number, rows=4):
    crops = AveragedCrops(number)
    batch = batch_of(crops, rows)
    step = jax.jit(make_answers_step(WideMaps(), DEFAULT, crops.of(CROP).windows))
    analysis = step.lower(variables, batch).compile().memory_analysis()
    return analysis.temp_size_in_bytes - 2 * batch["image"].nbytes

  maps_of_all_crops = 4 * 144 * SIZE * SIZE * 64 * 4
  assert needed(144) < 1.1 * needed(12) < maps_of_all_crops / 5


@pytest.mark.usefixtures("float64")
def test_answers_use_running_statistics_and_no_dropout():
  network = Network(BatchNorm(), dropout_rate=0.5)
  _, state = make_step(network)
  batch = make_batch(8)
  batch["mask"][:3] = 0
  logits = network.apply(state.evaluated, DEFAULT.apply(batch["image"]), train=False)
  expected = example_metrics(logits, batch)
  answers = make_answers_step(network)(state.evaluated, batch)
  assert_close(example_metrics(answers.pop("log_probabilities"), answers), expected)
  assert expected["count"] == 5


@pytest.mark.usefixtures("float64")
class TestMoments:
  def test_they_are_those_of_the_rows_that_count(self):
    network = Network(BatchNorm())
    _, state = make_step(network)
    moments_step = make_moments_step(network)
    batch = make_batch(8)
    batch["mask"][[0, 5]] = 0
    without = {name: np.delete(rows, [0, 5], 0) for name, rows in batch.items()}
    assert_close(moments_step(state.evaluated, batch), moments_step(state.evaluated, without))

  def test_they_are_those_of_the_batch(self):
    network = Network(BatchNorm(), dropout_rate=0.5)
    _, state = make_step(network)
    batch = make_batch(8)
    kernel = state.params["conv"]["conv"]["kernel"]
    convolved = nn.Conv(6, (3, 3), (2, 2), use_bias=False).apply(
      {"params": {"kernel": kernel}}, DEFAULT.apply(batch["image"]).astype(jnp.float64)
    )
    moments = make_moments_step(network)(state.evaluated, batch)
    assert_close(
      moments["conv"]["batch_norm"],
      {"mean": np.mean(convolved, (0, 1, 2)), "var": np.var(convolved, (0, 1, 2), ddof=1)},
    )
