"""English names of ImageNet's 1,000 classes, in the order of their labels.

`imagenet_classes.tsv` holds one class a line: its WordNet identifier, as TFDS names it, and its
name, as torchvision has it, where no two are the same.
"""

import functools
import importlib.resources


def class_names() -> list[str]:
  """The names of the labels 0 … 999."""
  return list(_names().values())


def english_name(name: str) -> str:
  """Turns "n02119789" into "kit fox"; what is no class of ImageNet stays as it is."""
  return _names().get(name, name)


@functools.cache
def _names() -> dict[str, str]:
  resource = importlib.resources.files("speedpaper_jax.data") / "imagenet_classes.tsv"
  lines = resource.read_text(encoding="utf-8").splitlines()
  return dict(line.split("\t") for line in lines)
