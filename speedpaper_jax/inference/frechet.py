"""The Fréchet distance of features (Heusel et al., arXiv 1706.08500, section 4 and equation 6).

d² = |μ₁ − μ₂|² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), in float64.
"""

import pathlib
import zipfile
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from speedpaper_jax.errors import UserError, warn


class Statistics(NamedTuple):
  """Of the features of some images.

  Attributes:
    mean: [C].
    covariance: [C, C].
  """

  mean: np.ndarray
  covariance: np.ndarray


def statistics(batches: Iterable[np.ndarray], what: str) -> Statistics:
  """Mean and covariance, with n − 1 in its denominator.

  Args:
    batches: of features [N, C].
    what: they are of, in messages.

  Raises:
    UserError: there are fewer than two images.
  """
  found = list(batches)
  count = sum(map(len, found))
  if count < 2:
    raise UserError(f"A covariance takes two images at least; '{what}' has {count}.")
  features = np.concatenate(found).astype(np.float64)
  channels = features.shape[1]
  if count <= channels:
    warn(
      f"the covariance of {channels} features of the {count:,} images in '{what}' is singular, and "
      f"the distance is too large; take more than {channels:,} images, and as many on both sides."
    )
  return Statistics(features.mean(0), np.cov(features, rowvar=False))


def distance(first: Statistics, second: Statistics) -> float:
  """The Fréchet distance d² of two normal distributions.

  The trace of the root of Σ₁Σ₂ is that of the symmetric Σ₁^½ Σ₂ Σ₁^½, which has the same
  eigenvalues, and whose root is exact where the covariances are singular.

  Raises:
    UserError: they are of other numbers of features.
  """
  if first.mean.shape != second.mean.shape:
    raise UserError(
      f"The features are {first.mean.size} on one side and {second.mean.size} on the other; take "
      "them from one stage of one network."
    )
  values, vectors = np.linalg.eigh(first.covariance)
  root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
  eigenvalues = np.linalg.eigvalsh(root @ second.covariance @ root)
  difference = first.mean - second.mean
  return float(
    difference @ difference
    + np.trace(first.covariance)
    + np.trace(second.covariance)
    - 2 * np.sqrt(eigenvalues.clip(0)).sum()
  )


def read(path: pathlib.Path) -> Statistics:
  """Reads saved statistics (`mu` and `sigma`, as pytorch-fid has them) or features.

  Raises:
    UserError: the file is damaged, or holds something else.
  """
  try:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
      names = set(file.files)
      if {"mu", "sigma"} <= names:
        found = Statistics(file["mu"].astype(np.float64), file["sigma"].astype(np.float64))
      elif "features" in names:
        return statistics([_flat(file["features"], path)], str(path))
      else:
        raise UserError(f"{path} holds neither statistics, `mu` and `sigma`, nor features.")
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise UserError(f"{path} is damaged, or no .npz file of numbers: {error}.") from error
  channels = found.mean.size
  if found.mean.shape != (channels,) or found.covariance.shape != (channels, channels):
    shapes = f"{list(found.mean.shape)} and {list(found.covariance.shape)}"
    raise UserError(f"`mu` and `sigma` of {path} have the shapes {shapes}, not [C] and [C, C].")
  if not all(np.isfinite(values).all() for values in found):
    raise UserError(f"The statistics in {path} are not finite.")
  return found


def _flat(features: np.ndarray, path: pathlib.Path) -> np.ndarray:
  if features.ndim != 2:
    raise UserError(f"{path} holds maps; take pooled features, [N, C].")
  return features
