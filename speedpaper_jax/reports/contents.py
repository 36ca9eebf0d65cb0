"""What a report takes from a run's files, checked before it is shown.

The rules say what a value is, so that a damaged file ends in a sentence that names it and the key,
and not somewhere in a figure.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules
from speedpaper_jax.storage.run_directory import RunDirectory

LOSS = rules.or_nothing(rules.RESULT)  # None where it was not finite
EVALUATION: Mapping[str, Any] = {
  "top1": rules.FRACTION,
  "top5": rules.FRACTION,
  "loss": LOSS,
  "count": rules.COUNT,
}


def read(directory: RunDirectory, name: str, of: rules.Rules) -> dict[str, Any]:
  """Reads a JSON file.

  Args:
    directory: of the run.
    name: of the file.
    of: what is taken from it.

  Raises:
    UserError: it is missing or damaged.
  """
  return _checked(directory, name, directory.read(name), of)


def read_config(directory: RunDirectory, of: rules.Rules) -> dict[str, Any]:
  """Reads config.json, with today's defaults where it was written before there were such fields.

  Raises:
    UserError: it is missing or damaged.
  """
  return _checked(directory, "config.json", directory.read_config(), of)


def _checked(
  directory: RunDirectory, name: str, content: dict[str, Any], of: rules.Rules
) -> dict[str, Any]:
  try:
    rules.check(content, of)
  except UserError as error:
    raise damaged(directory, name, str(error)) from error
  return content


def with_nan(numbers: Mapping[str, Any]) -> dict[str, Any]:
  """The same, with NaN for None, as which numbers that are not finite are written."""
  return {name: math.nan if value is None else value for name, value in numbers.items()}


def damaged(directory: RunDirectory, name: str, what: str) -> UserError:
  """The error that says what is wrong with a file."""
  return UserError(f"{directory.path / name} is damaged, or of another version: {what}")


def read_arrays(
  directory: RunDirectory, axes: Mapping[str, str], **lengths: int
) -> dict[str, np.ndarray]:
  """Reads arrays.npz.

  Args:
    directory: of the run.
    axes: a letter for each axis of the arrays that are taken, as "TL"; equal letters are axes of
      equal length.
    **lengths: of axes whose length is known, by their letters.

  Raises:
    UserError: it is missing or damaged, an array is, or it has no numbers or another shape.
  """
  arrays = directory.read_arrays()
  for name, letters in axes.items():
    if name not in arrays:
      raise damaged(directory, "arrays.npz", f"it has no '{name}'.")
    array = arrays[name]
    if array.dtype.kind not in "iuf":
      raise damaged(directory, "arrays.npz", f"'{name}' holds no numbers.")
    expected = [lengths.get(letter) for letter in letters]
    fits = len(array.shape) == len(letters) and all(
      found == wanted if wanted is not None else found > 0
      for found, wanted in zip(array.shape, expected, strict=True)
    )
    if not fits:
      wanted = ", ".join("any" if length is None else str(length) for length in expected)
      what = f"'{name}' has the shape {list(array.shape)}, not [{wanted}]."
      raise damaged(directory, "arrays.npz", what)
    lengths |= dict(zip(letters, array.shape, strict=True))
  return arrays


def check_steps(directory: RunDirectory, steps: np.ndarray) -> None:
  """Raises a UserError unless the steps of measurements are whole, not negative and rising."""
  if steps.dtype.kind not in "iu" or steps[0] < 0 or np.any(steps[1:] <= steps[:-1]):
    raise damaged(directory, "arrays.npz", "'step' does not rise.")
