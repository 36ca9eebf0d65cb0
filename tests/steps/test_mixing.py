"""Mixup and CutMix of neighbouring images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speedpaper_jax.steps.mixing import NO_MIXING, Mixing, mix

ROWS, HEIGHT, WIDTH = 4000, 12, 20


def mixed(mixing, rows=ROWS, masked=(), seed=0):
  """Of images each of which has one value, its row's number plus 1."""
  values = 1.0 + np.arange(rows, dtype=np.float32)
  images = np.broadcast_to(values[:, None, None, None], (rows, HEIGHT, WIDTH, 3))
  mask = np.ones(rows, np.float32)
  mask[list(masked)] = 0
  batch = {"label": np.arange(rows, dtype=np.int32), "mask": mask}
  images, batch = jax.jit(lambda *given: mix(*given, mixing, jax.random.key(seed)))(images, batch)
  return np.asarray(images), jax.tree.map(np.asarray, batch)


def shares(images):
  """Of each row's own value in its image, taken from the pixels."""
  rows = len(images)
  own = 1.0 + np.arange(rows)
  neighbour = 1.0 + (np.arange(rows) ^ 1)
  return (images.mean((1, 2, 3), np.float64) - neighbour) / (own - neighbour)


@pytest.mark.parametrize("mixing", [Mixing(0.2), Mixing(1.0), Mixing(cutmix=1.0), Mixing(0.8, 1.0)])
def test_targets_are_what_is_in_the_image(mixing):
  rows = 200  # so that float32 tells the shares
  images, batch = mixed(mixing, rows)
  numbers = np.arange(rows)
  of_own = np.where(batch["label"] == numbers, batch["share"], 1 - batch["share"])
  np.testing.assert_allclose(shares(images), of_own, atol=1e-4)
  assert np.all(batch["share"] >= 0.5)
  assert np.all(np.sort([batch["label"], batch["other_label"]], 0)[0] == numbers // 2 * 2)
  assert np.all(np.sort([batch["label"], batch["other_label"]], 0)[1] == numbers // 2 * 2 + 1)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_draws_from_a_beta_distribution(alpha):
  images, _ = mixed(Mixing(mixup=alpha))
  of_own = shares(images)[::2]
  # Mean and variance of Beta(α, α) are 1/2 and 1/(4 (2α + 1)).
  np.testing.assert_allclose(of_own.mean(), 0.5, atol=0.03)
  np.testing.assert_allclose(of_own.var(), 1 / (4 * (2 * alpha + 1)), atol=0.02)
  assert all(np.ptp(image) < 1e-3 for image in images[:50])


def test_cutmix_pastes_a_box():
  images, _ = mixed(Mixing(cutmix=1.0))
  areas, sides = [], []
  for row, image in enumerate(images):
    assert np.all((image == 1 + row) | (image == 1 + (row ^ 1)))
    inside = np.any(image == 1 + (row ^ 1), -1)
    heights, widths = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside.sum() == len(heights) * len(widths)  # a rectangle
    areas.append(inside.mean())
    if 0 < len(heights) < HEIGHT - 2 and heights[0] > 0 and heights[-1] < HEIGHT - 1:
      sides.append(len(widths) / len(heights))
  assert 0.25 < np.mean(areas) < 0.5  # half of the image, less what is beyond its edges
  assert 0.5 * WIDTH / HEIGHT < np.median(sides) < 2 * WIDTH / HEIGHT


def test_neighbours_have_the_same_box():
  images, _ = mixed(Mixing(cutmix=1.0))
  changed = [np.any(images[row] == 1 + (row ^ 1)) for row in range(ROWS)]
  pairs = np.flatnonzero(np.array(changed).reshape(-1, 2).all(1))
  assert len(pairs) > 1000
  for pair in pairs[:100]:
    box = images[2 * pair] == 2 * pair + 2
    np.testing.assert_array_equal(box, images[2 * pair + 1] == 2 * pair + 1)


def test_either_is_as_probable():
  images, _ = mixed(Mixing(mixup=1.0, cutmix=1.0))
  blended = np.mean(
    [np.any((image != 1 + row) & (image != 1 + (row ^ 1))) for row, image in enumerate(images)]
  )
  assert 0.45 < blended < 0.55


def test_an_image_whose_neighbour_does_not_count_stays():
  images, batch = mixed(Mixing(mixup=1.0, cutmix=1.0), rows=100, masked=[4, 9])
  for row in (4, 5, 8, 9):
    assert np.all(images[row] == 1 + row)
    assert (batch["label"][row], batch["share"][row]) == (row, 1)
  assert np.mean(batch["share"] < 1) > 0.8


def test_draws_belong_to_the_place_in_the_global_batch():
  whole, of_whole = mixed(Mixing(0.4, 1.0), rows=64)
  values = 1.0 + np.arange(64, dtype=np.float32)
  images = np.broadcast_to(values[:, None, None, None], (64, HEIGHT, WIDTH, 3)).reshape(
    4, 16, HEIGHT, WIDTH, 3
  )
  batch = {
    "label": np.arange(64, dtype=np.int32).reshape(4, 16),
    "mask": np.ones((4, 16), np.float32),
  }
  parts, of_parts = jax.vmap(
    lambda images, batch: mix(images, batch, Mixing(0.4, 1.0), jax.random.key(0), "devices"),
    axis_name="devices",
  )(images, batch)
  np.testing.assert_allclose(np.reshape(parts, whole.shape), whole, rtol=1e-6)
  for name, values in of_whole.items():
    np.testing.assert_allclose(np.reshape(of_parts[name], values.shape), values, rtol=1e-6)


def test_another_key_draws_others():
  one, other = (mixed(Mixing(mixup=1.0), rows=10, seed=seed)[0] for seed in (0, 1))
  assert np.all(jnp.abs(one - other).max((1, 2, 3)) > 0)


def test_none_is_false():
  assert not NO_MIXING
  assert Mixing(mixup=0.1)
  assert Mixing(cutmix=0.1)
