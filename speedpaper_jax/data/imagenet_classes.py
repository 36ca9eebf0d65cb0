"""English names of ImageNet's 1,000 classes, in the order of their labels.

`imagenet_classes.tsv` holds one class a line: its WordNet identifier, as TFDS names it; its name,
as torchvision has it, where no two are the same; and in which of the data sets "A" and "R", which
have 200 classes each, there are images of it.
"""

import functools
import importlib.resources

_OF_200 = {"imagenet_a": "A", "imagenet_r": "R"}


def class_names() -> list[str]:
  """The names of the labels 0 … 999."""
  return list(_names().values())


def english_name(name: str) -> str:
  """Turns "n02119789" into "kit fox"; what is no class of ImageNet stays as it is."""
  return _names().get(name, name)


def classes_of(data_set: str) -> list[str] | None:
  """WordNet identifiers of the classes that a data set has images of, in the order of their labels.

  Args:
    data_set: TFDS's name.

  Returns:
    Of ImageNet-A and -R their 200; of all others None, whatever they have.
  """
  if data_set not in _OF_200:
    return None
  return [row[0] for row in _rows() if _OF_200[data_set] in "".join(row[2:])]


@functools.cache
def _names() -> dict[str, str]:
  return {row[0]: row[1] for row in _rows()}


def _rows() -> list[list[str]]:
  """The words of each line: identifier, name, data sets."""
  resource = importlib.resources.files("speedpaper_jax.data") / "imagenet_classes.tsv"
  lines = resource.read_text(encoding="utf-8").splitlines()
  return [line.split("\t") for line in lines]
