"""Model directories of weights that others have trained."""

import hashlib
import pathlib
from collections.abc import Sequence

from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.inference import model_directory
from speedpaper_jax.interop import conversion


def write(
  out: pathlib.Path,
  model: str,
  weights: conversion.Weights,
  preprocessing: Preprocessing,
  class_names: Sequence[str],
  source: str,
) -> None:
  """Writes one, whole or not at all.

  Args:
    out: of a directory that does not exist yet, or is empty.
    model: name of the network.
    weights: of it.
    preprocessing: that they were trained with.
    class_names: one a class, or none at all.
    source: where they come from, in words.

  Raises:
    UserError: there is something at the path, or it cannot be written.
  """
  description = model_directory.ModelDescription(
    name=model,
    dialect=weights.names.dialect,
    num_classes=weights.num_classes,
    class_names=class_names,
    preprocessing=preprocessing,
    source=source,
  )
  model_directory.write(
    out,
    conversion.config_of(model, weights, preprocessing.crop),
    description.to_json(),
    weights.variables,
    step=weights.steps,
  )


def sha256(path: pathlib.Path) -> str:
  """Of a file, for its `source`."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
