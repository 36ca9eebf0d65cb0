"""Packages that only some of the work needs: which extra brings each."""

import contextlib
import importlib.metadata
from collections.abc import Iterator

from speedpaper_jax.errors import UserError

# Module → the extra of pyproject.toml that brings it.
EXTRAS = {
  "PIL": "train",
  "array_record": "train",
  "flatbuffers": "train",
  "grain": "train",
  "h5py": "keras",
  "importlib_resources": "train",
  "jinja2": "reports",
  "matplotlib": "reports",
  "ml_collections": "train",
  "optax": "train",
  "orbax": "train",
  "safetensors": "torch",
  "tensorboard": "train",
  "tensorflow_datasets": "train",
  "torch": "torch",
  "tqdm": "train",
}

# What was tested, for a clone that is not installed.
_LOCK = "pip install -r requirements.txt"
LOCKS = {
  "keras": "pip install h5py==3.16.0",
  "torch": "pip install torch==2.13.0 safetensors==0.8.0",
}


@contextlib.contextmanager
def named() -> Iterator[None]:
  """Turns the error of a missing module into a UserError, where an extra brings the module."""
  try:
    yield
  except ModuleNotFoundError as error:
    if error.name not in EXTRAS:
      raise
    command = install(EXTRAS[error.name])
    raise UserError(f"The package {error.name} is not installed; `{command}` brings it.") from error


def install(extra: str) -> str:
  """The command that installs an extra, or in a clone that is not installed the lock."""
  try:
    importlib.metadata.distribution("speedpaper_jax")
  except importlib.metadata.PackageNotFoundError:
    return LOCKS.get(extra, _LOCK)
  return f'pip install "speedpaper_jax[{extra}]"'
