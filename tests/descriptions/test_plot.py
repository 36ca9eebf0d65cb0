"""The figure of one network, of two, and of what changed between them."""

import matplotlib.image
import numpy as np
import pytest

from speedpaper_jax.descriptions import changes, plot, stages
from speedpaper_jax.errors import UserError


@pytest.fixture(scope="module")
def pair():
  return [stages.describe(name, image_size=32) for name in ("googlenet", "bn_inception")]


@pytest.fixture(scope="module")
def way():
  return changes.count(32, 1000)


def drawn(path, *arguments):
  plot.write(path, *arguments)
  return matplotlib.image.imread(path)


def test_two_networks_have_bars_of_two_colours(pair, tmp_path):
  googlenet, bn_inception = pair
  one = drawn(tmp_path / "one.png", googlenet)
  two = drawn(tmp_path / "two.png", googlenet, bn_inception)
  assert two.shape[0] == one.shape[0] + round(plot._ROW * 200)  # BN-Inception's 3c

  def has(pixels, color):
    rgb = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return bool(np.any(np.all(np.abs(pixels[..., :3] - rgb) < 0.01, axis=-1)))

  assert [has(one, color) for color in (plot._BLUE, plot._ORANGE)] == [False, True]
  assert [has(two, color) for color in (plot._BLUE, plot._ORANGE)] == [True, True]


def test_changes_have_a_part_of_their_own(pair, way, tmp_path):
  googlenet, bn_inception = pair
  without = drawn(tmp_path / "without.png", bn_inception, googlenet)
  with_changes = drawn(tmp_path / "with.png", bn_inception, googlenet, way)
  assert with_changes.shape[0] > 1.4 * without.shape[0]


def test_rows_keep_the_order_of_both(pair):
  googlenet, bn_inception = pair
  modules = ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
  assert plot._rows([googlenet, bn_inception]) == [
    *("conv1", "conv2_reduce", "conv2"),
    *(f"inception_{name}" for name in modules),
    "logits",
  ]


def test_a_directory_that_is_not_there(pair, tmp_path):
  with pytest.raises(UserError, match=r"x.png cannot be written: No such file or directory\."):
    plot.write(tmp_path / "missing" / "x.png", pair[0])
