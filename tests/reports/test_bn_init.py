"""The report of initial scales."""

import numpy as np
import past_experiments
import pytest
from past_experiments import figures, paragraphs, parts

from speedpaper_jax.errors import UserError
from speedpaper_jax.reports import bn_init
from speedpaper_jax.reports.page import Figure, Table

SEEDS, LAYERS = 3, 100
NONE = [None] * SEEDS
SOUND = {
  "first": 0.578,
  "last": 0.58,
  "last_in_float64": 0.582,
  "dead": NONE,
  "overflow": NONE,
  "nan": NONE,
}
DYING = {"first": 0.338, "last": 0.0, "last_in_float64": 6.2e-40, "dead": [97, 96, 97]}
OVERFLOWING = {
  "first": 9366.8,
  "last": None,
  "last_in_float64": 1.19e105,
  "overflow": [37, 36, 37],
  "nan": [37, 37, 37],
}
SCALES = [0.01, 0.1, 1.0]
# [scales, seeds]
WITHOUT = [[0.1, 0.1, 0.1], [0.91, 0.92, 0.93], [0.1, 0.1, 0.1]]
WITH = [[0.97] * SEEDS] * 3


def deviations(last, dtype):
  """[seeds, layers] from 1 to `last`, as far as the type's range goes."""
  layers = np.geomspace(1, last, LAYERS)
  if dtype == "float32":
    layers = np.where(layers > 3.4e38, np.nan, np.where(layers < 1.2e-38, 0, layers))
  return np.tile(layers, (SEEDS, 1))


def write(path, deep=None, lasts=(1e-40, 1e105, 0.5)):
  if deep is None:
    deep = {
      "default": {"without": SOUND | DYING, "with": SOUND},
      "normal": {"without": SOUND | OVERFLOWING, "with": SOUND},
      "kaiming": {"without": SOUND, "with": SOUND},
    }
  arrays = {
    f"deep/{initializer}/{network}/{dtype}": deviations(last if network == "without" else 1, dtype)
    for initializer, last in zip(deep, lasts, strict=True)
    for network in ("without", "with")
    for dtype in ("float32", "float64")
  }
  arrays |= {
    "trained/without": np.array(WITHOUT),
    "trained/with": np.array(WITH),
    "scales": np.array(SCALES),
  }
  summary = {
    "steps": 2000,
    "seconds": 60.0,
    "deep": deep,
    "scales": SCALES,
    "trained": {"without": {"top1": [0.1, 0.92, 0.1]}, "with": {"top1": [0.97] * 3}},
  }
  changes = {
    "deep__initializers": tuple(deep),
    "deep__seeds": SEEDS,
    "trained__seeds": SEEDS,
    "trained__scales": tuple(SCALES),
    "trained__learning_rates": (0.1, 0.3),
  }
  return past_experiments.write(path, "bn_init", arrays, summary, **changes)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(directory):
  return bn_init.present(directory)


class TestPage:
  def test_result(self, page):
    assert page.result == (
      "Without batch normalization the outputs of 100 layers vanish or overflow in float32 from 2 "
      "of 3 initialisations, with it from none. Networks of 8 layers learn the digits to 90 % "
      "accuracy or more from 1 of 3 initial scales without it, and from 3 with it."
    )

  def test_every_figure_is_drawn(self, page, directory):
    assert figures(directory) == {"deep", "trained"}
    assert {figure.name for figure in parts(page, Figure)} == figures(directory)

  def test_where_float32_ends(self, page):
    table = parts(page, Table)[0]
    assert len(table.rows) == 6
    assert table.rows[0] == (
      "PyTorch's default",
      "without BN",
      "0.338",
      "0",
      "6.2e-40",
      "zero from layer 96–97",
    )
    assert table.rows[2] == (
      "normal, σ = 1",
      "without BN",
      "9,367",
      "not finite",
      "1.2e+105",
      "not finite from layer 36–37; NaN from layer 37",
    )
    assert table.rows[3] == ("normal, σ = 1", "with BN", "0.578", "0.580", "0.582", "–")

  def test_accuracies(self, page):
    table = parts(page, Table)[1]
    assert table.rows == [("0.01", "10.0", "97.0"), ("0.1", "92.0", "97.0"), ("1", "10.0", "97.0")]

  def test_the_search_and_the_flushing_of_subnormal_numbers_are_told(self, page):
    text = paragraphs(page)
    assert "among the learning rates 0.1, 0.3 for each deviation" in text
    assert "on average of 3 seeds" in text
    assert "On CPUs XLA takes numbers below 1.2·10⁻³⁸" in text
    caption = parts(page, Figure)[1].caption
    assert "the mean of 3 seeds" in caption
    assert "the rate that is best of 2 for each network and deviation" in caption
    assert "√(2/64) = 0.177" in caption


class TestOtherRuns:
  def test_one_initialisation(self, tmp_path):
    directory = write(tmp_path, {"kaiming": {"without": SOUND, "with": SOUND}}, [0.5])
    page = bn_init.present(directory)
    assert "from 0 of 1 initialisations, with it from none" in page.result
    assert figures(directory) == {"deep", "trained"}

  def test_nan_from_the_first_layer_on(self, tmp_path):
    ends = {"overflow": [1] * SEEDS, "nan": [1] * SEEDS, "first": None, "last": None}
    broken = SOUND | ends | {"last_in_float64": None}
    directory = write(tmp_path, {"normal1000": {"without": broken, "with": broken}}, [0.5])
    past_experiments.replace(
      directory,
      deep__normal1000__without__float32=np.full((SEEDS, LAYERS), np.nan),
      deep__normal1000__without__float64=np.full((SEEDS, LAYERS), np.inf),
      trained__without=np.full((3, SEEDS), np.nan),
    )
    page = bn_init.present(directory)
    assert "with it from 1." in page.result
    row = parts(page, Table)[0].rows[0]
    assert row[2:] == ("not finite", "not finite", "not finite", "NaN from layer 1")
    assert figures(directory) == {"deep", "trained"}

  def test_no_arrays(self, tmp_path):
    directory = write(tmp_path)
    (tmp_path / "arrays.npz").unlink()
    with pytest.raises(UserError, match=r"has no arrays\.npz; run its experiment again"):
      bn_init.present(directory)
