"""Small real data sets that TFDS has prepared, which lie beside the project and not in it.

A user's clone has none beside it, and skips the tests that need them. Where SAMPLES=required is
set, as in CI, those fail instead.
"""

import os
import pathlib

import pytest
import tensorflow_datasets as tfds

from speedpaper_jax.data.records import ArrayRecordSource

DIRECTORY = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tfds"


def require():
  """Skips a test where they are not."""
  if not DIRECTORY.is_dir():
    message = "needs ../shared/data/tfds"
    if os.environ.get("SAMPLES") == "required":
      pytest.fail(message)
    pytest.skip(message)


def imagenet(split):
  """The records of a split of ImageNet's sample."""
  require()
  builder = tfds.builder_from_directory(DIRECTORY / "imagenet2012" / "5.1.0")
  return ArrayRecordSource(builder, split)
