"""Image files that the user names, one by one or by their directory."""

import pathlib
from collections.abc import Iterable

from speedpaper_jax.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def find_images(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """Puts in the place of each directory the images in it and below it, in alphabetical order.

  Raises:
    UserError: there are none in a directory.
  """
  images = []
  for path in paths:
    if not path.is_dir():
      images.append(path)
      continue
    found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
    if not found:
      raise UserError(
        f"There are no images in '{path}'; files that end in {', '.join(SUFFIXES)} are taken for "
        "such."
      )
    images += found
  return images
