"""The distance against its definition, SciPy's root and pytorch-fid, and against what is known."""

import numpy as np
import pytest
import scipy.linalg
from packages import require

from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import frechet
from speedpaper_jax.inference.frechet import Statistics
from speedpaper_jax.interop import references


def drawn(seed, count=200, channels=20):
  rng = np.random.default_rng(seed)
  mixing = rng.standard_normal((channels, channels))
  return rng.standard_normal((count, channels)) @ mixing + rng.standard_normal(channels)


def statistics(seed, **sizes):
  return frechet.statistics([drawn(seed, **sizes)], "it")


def test_statistics_do_not_depend_on_batches():
  features = drawn(0)
  whole = frechet.statistics([features], "it")
  parts = frechet.statistics(np.split(features, [3, 90]), "it")
  np.testing.assert_allclose(whole.mean, features.mean(0), rtol=1e-12)
  np.testing.assert_allclose(whole.covariance, np.cov(features.T), rtol=1e-12)
  np.testing.assert_array_equal(parts.covariance, whole.covariance)


class TestDistance:
  def test_by_its_definition(self):
    first, second = statistics(0), statistics(1)
    root = scipy.linalg.sqrtm(first.covariance @ second.covariance)
    expected = np.sum((first.mean - second.mean) ** 2) + np.trace(
      first.covariance + second.covariance - 2 * root.real
    )
    assert frechet.distance(first, second) == pytest.approx(expected, rel=1e-10)
    assert frechet.distance(second, first) == pytest.approx(expected, rel=1e-10)

  @pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # of SciPy's root
  def test_is_pytorch_fids(self):
    require("pytorch-fid")
    fid_score = references.import_package("pytorch_fid.fid_score")
    first, second = statistics(0), statistics(1)
    theirs = fid_score.calculate_frechet_distance(*first, *second)
    assert frechet.distance(first, second) == pytest.approx(theirs, rel=1e-9)

  def test_of_one_set_to_itself_is_zero(self):
    it = statistics(0)
    assert frechet.distance(it, it) == pytest.approx(0, abs=1e-9 * np.trace(it.covariance))

  def test_of_a_shift_is_its_square(self):
    it = statistics(0)
    shifted = Statistics(it.mean + 2, it.covariance)
    assert frechet.distance(it, shifted) == pytest.approx(4 * it.mean.size, rel=1e-9)

  def test_of_covariances_that_are_singular(self):
    """As of fewer images than features; of Σ and 4Σ it is the trace of Σ."""
    it = statistics(0, count=10)
    wider = Statistics(it.mean, 4 * it.covariance)
    assert frechet.distance(it, wider) == pytest.approx(np.trace(it.covariance), rel=1e-6)

  def test_of_other_features(self):
    with pytest.raises(UserError, match="The features are 20 on one side and 5 on the other"):
      frechet.distance(statistics(0), statistics(0, channels=5))


def test_few_images_are_warned_of(capsys):
  statistics(0, count=20)
  assert "the covariance of 20 features of the 20 images in 'it' is singular" in (
    capsys.readouterr().err
  )
  statistics(0, count=21)
  assert capsys.readouterr().err == ""


def test_one_image_has_no_covariance():
  with pytest.raises(UserError, match="takes two images at least; 'it' has 1"):
    statistics(0, count=1)


class TestRead:
  def test_saved_statistics(self, tmp_path):
    it = statistics(0)
    np.savez(tmp_path / "it.npz", mu=it.mean, sigma=it.covariance)
    again = frechet.read(tmp_path / "it.npz")
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(again, it, strict=True))

  def test_features(self, tmp_path):
    np.savez(tmp_path / "it.npz", features=drawn(0), files=["a"])
    np.testing.assert_array_equal(frechet.read(tmp_path / "it.npz").mean, statistics(0).mean)

  @pytest.mark.parametrize(
    ("arrays", "message"),
    [
      ({"other": np.ones(2)}, "holds neither statistics, `mu` and `sigma`, nor features"),
      ({"features": np.ones((2, 3, 3, 4))}, "holds maps; take pooled features"),
      ({"mu": np.ones(2), "sigma": np.ones((3, 3))}, r"have the shapes \[2\] and \[3, 3\], not"),
      ({"mu": np.ones(1), "sigma": np.full((1, 1), np.nan)}, "are not finite"),
      ({"mu": np.array([{}]), "sigma": np.ones((1, 1))}, "is damaged, or no .npz file of numbers"),
    ],
  )
  def test_something_else(self, tmp_path, arrays, message):
    np.savez(tmp_path / "it.npz", **arrays)
    with pytest.raises(UserError, match=message):
      frechet.read(tmp_path / "it.npz")

  def test_no_file(self, tmp_path):
    with pytest.raises(UserError, match="No such file"):
      frechet.read(tmp_path / "none.npz")
    (tmp_path / "it.npz").write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match="is damaged"):
      frechet.read(tmp_path / "it.npz")
