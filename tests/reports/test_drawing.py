"""How figures look: on both grounds, to every eye."""

import itertools

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.reports.drawing import COLORS, DARK, LIGHT, draw
from speedpaper_jax.storage.run_directory import RunDirectory

# Linear RGB as people without the long (protanopia) or the middle (deuteranopia) cones see it:
# Machado, Oliveira and Fernandes 2009, severity 1.
SIGHTS = {
  "normal": np.eye(3),
  "protanopia": [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  "deuteranopia": [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
  ],
}


def linear_rgb(color):
  """Of `#rrggbb`; sRGB's transfer function."""
  srgb = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
  return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(color, other):
  """WCAG 2's."""
  low, high = sorted(linear_rgb(each) @ [0.2126, 0.7152, 0.0722] for each in (color, other))
  return (high + 0.05) / (low + 0.05)


def oklab(linear):
  """Björn Ottosson's; equal distances look about equally different."""
  cones = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
  ]
  opponents = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
  ]
  return opponents @ np.cbrt(cones @ linear)


class TestColors:
  @pytest.mark.parametrize("color", COLORS)
  def test_stand_out_from_both_grounds(self, color):
    assert contrast(color, LIGHT.background) >= 3
    assert contrast(color, DARK.background) >= 3

  @pytest.mark.parametrize("ground", [LIGHT, DARK])
  def test_text_is_legible(self, ground):
    assert contrast(ground.text, ground.background) >= 7

  @pytest.mark.parametrize("sight", SIGHTS)
  def test_differ_to_every_eye(self, sight):
    seen = [oklab(np.clip(SIGHTS[sight] @ linear_rgb(color), 0, 1)) for color in COLORS]
    for one, other in itertools.combinations(seen, 2):
      assert np.linalg.norm(one - other) >= 0.08


def paint(figure):
  axes = figure.subplots()
  axes.plot([0, 1], [0, 1])
  axes.set_xlabel("step")


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / "run")


class TestDraw:
  def test_once_for_each_ground(self, directory):
    draw(directory, "loss", paint)
    assert sorted(path.name for path in directory.plots.iterdir()) == ["loss.dark.png", "loss.png"]
    for name, ground in (("loss.png", LIGHT), ("loss.dark.png", DARK)):
      pixels = matplotlib.image.imread(directory.plots / name)
      assert pixels.shape[:2] == (840, 1400)
      corner = np.round(255 * pixels[0, 0, :3]).astype(int)
      assert "#{:02x}{:02x}{:02x}".format(*corner) == ground.background
      assert pixels.std() > 0.01

  def test_size(self, directory):
    draw(directory, "wide", paint, width=9, height=3)
    assert matplotlib.image.imread(directory.plots / "wide.png").shape[:2] == (600, 1800)

  def test_the_users_own_settings_are_neither_used_nor_changed(self, directory, monkeypatch):
    draw(directory, "loss", paint)
    monkeypatch.setitem(matplotlib.rcParams, "xtick.major.size", 40)
    before = dict(matplotlib.rcParams)
    draw(directory, "again", paint)
    assert dict(matplotlib.rcParams) == before
    first, again = ((directory.plots / name).read_bytes() for name in ("loss.png", "again.png"))
    assert first == again

  def test_a_directory_that_cannot_be_written(self, directory):
    directory.path.touch()
    with pytest.raises(UserError, match=r"loss\.png cannot be written: Not a directory\."):
      draw(directory, "loss", paint)
