"""The training images of a run that could not be decoded, in its report."""

from collections.abc import Mapping, Sequence
from typing import Any

from speedpaper_jax.reports.page import Table
from speedpaper_jax.storage import undecodable
from speedpaper_jax.storage.run_directory import RunDirectory

_MOST_ROWS = 20


def in_words(directory: RunDirectory, entries: Sequence[Mapping[str, Any]]) -> list[str]:
  """How many there were, in a sentence; nothing where there were none.

  Args:
    directory: of the run.
    entries: the lines of its metrics.

  Raises:
    UserError: a file of the run cannot be read.
  """
  images = len(undecodable.read(directory))
  rows = sum(entry.get("left_out", 0) for entry in entries)
  if not images and not rows:
    return []
  cannot = "1 training image cannot" if images == 1 else f"{images:,} training images cannot"
  times = "once" if rows == 1 else f"{rows:,} times"
  return [
    f"{cannot} be decoded: {times} a mini-batch went without, in its gradient and its batch "
    f"statistics, too."
  ]


def table(directory: RunDirectory) -> list[Table]:
  """Which they are and why; nothing where there were none."""
  images = undecodable.read(directory)
  if not images:
    return []
  rows = [(image.name, image.reason, f"{image.step:,}") for image in images[:_MOST_ROWS]]
  caption = "Training images that cannot be decoded, and the first step that went without each."
  if len(images) > _MOST_ROWS:
    caption += f" The first {_MOST_ROWS} of {len(images):,}; {undecodable.NAME} has all of them."
  return [Table(("image", "reason", "first step"), rows, caption)]
