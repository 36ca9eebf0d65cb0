"""`real.json`: ImageNet's validation images with all classes that are right for each.

Beyer et al. have reassessed them (arXiv 2006.07159). 388,478 bytes, from
https://raw.githubusercontent.com/google-research/reassessed-imagenet/master/real.json.
"""

import pathlib
from typing import Any

from speedpaper_jax.data import imagenet_classes
from speedpaper_jax.data.imagenet_labels import file_name
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import json_files, regular_files, rules

WHAT = "real.json of google-research/reassessed-imagenet"


def read(path: pathlib.Path) -> list[list[int]]:
  """The right classes of the images 1, 2, …, from 0 to 999; of some images none.

  Raises:
    UserError: there is no such file, it is damaged, or there are other classes.
  """
  try:
    content = json_files.loads(regular_files.read_named(path, WHAT))
  except ValueError as error:
    raise UserError(f"'{path}' is damaged, no JSON ({error}); fetch it again.") from error
  if not isinstance(content, list):
    raise UserError(f"'{path}' has no list of images; name {WHAT}.")
  for number, classes in enumerate(content, 1):
    _check(path, number, classes)
  return content


def _check(path: pathlib.Path, number: int, classes: Any) -> None:
  """Of one image."""
  count = len(imagenet_classes.class_names())
  if not isinstance(classes, list):
    raise UserError(
      f"'{path}' has for {file_name(number)} {classes!r:.40}, not a list of classes; fetch it "
      "again."
    )
  for each in classes:
    if not (rules.is_whole(each) and 0 <= each < count):
      raise UserError(
        f"'{path}' has for {file_name(number)} the class {each!r:.40}, which is none from 0 to "
        f"{count - 1}; fetch it again."
      )
