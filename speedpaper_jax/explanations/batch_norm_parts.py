"""The explanation of Batch Normalization, part by part in the paper's order."""

from collections.abc import Iterator, Mapping

import numpy as np

from speedpaper_jax.explanations import (
  batch_norm_algorithms,
  batch_norm_identities,
  batch_norm_whitening,
)
from speedpaper_jax.explanations.inputs import Inputs
from speedpaper_jax.explanations.layout import Part


def parts(inputs: Inputs, values: Mapping[str, dict[str, np.ndarray]]) -> Iterator[Part]:
  """Computes one part after the other.

  Args:
    inputs: the numbers that everything is computed from.
    values: what each reference computes, by its name; see `references.all_values`.
  """
  yield batch_norm_algorithms.algorithm_1(inputs, values)
  yield batch_norm_algorithms.gradient(inputs, values)
  yield batch_norm_algorithms.algorithm_2(inputs)
  yield batch_norm_identities.identities(inputs)
  yield batch_norm_whitening.whitening(inputs)
