"""The images of a split that files of the user's choose, in all processes; told by the main one."""

import pathlib
from collections.abc import Sequence

from speedpaper_jax.data import selection, validation_labels
from speedpaper_jax.data.sources import Split
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import inform


def choose(
  images: Split, labels: pathlib.Path | None, excluded: pathlib.Path | None = None
) -> tuple[Split, Sequence[Sequence[int]] | None]:
  """Leaves out images, and finds the right classes of the others.

  Args:
    images: with ImageNet's validation images, where a file is named.
    labels: real.json; None for the labels of the data.
    excluded: a list of images to leave out; None for none.

  Returns:
    The images that are left; and of each the classes of which any is right, or None for its label.

  Raises:
    UserError: in all processes, if a file is damaged or does not match in one.
  """
  if labels is None and excluded is None:
    return images, None

  def read_and_choose() -> selection.Chosen:
    return selection.choose(
      images,
      None if excluded is None else validation_labels.read_excluded(excluded),
      None if labels is None else validation_labels.read_right_labels(labels),
    )

  chosen = hosts.in_all(read_and_choose)
  if hosts.is_main():
    for sentence in chosen.told:
      inform(f"Note: {sentence}")
  return chosen.split, chosen.right
