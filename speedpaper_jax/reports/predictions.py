"""What the network took each held-out image for, of runs that have predictions.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from speedpaper_jax.data.imagenet_classes import english_name
from speedpaper_jax.errors import printable
from speedpaper_jax.files import fonts, rules
from speedpaper_jax.reports import confusion_matrix, contents, mistakes
from speedpaper_jax.reports.confusion import Confusion, OfClass
from speedpaper_jax.reports.labels import shortened
from speedpaper_jax.reports.page import Figure, Section, Table
from speedpaper_jax.reports.quantities import percent
from speedpaper_jax.storage.run_directory import MOST_MISTAKES, PREDICTIONS, RunDirectory

_LONGEST_TABLE = 20
_LONGEST_LABEL = 20  # columns, in figures

_PROBABILITY = rules.or_nothing(rules.FRACTION)  # None where it was not finite
_ROW = rules.whole(0, MOST_MISTAKES - 1)


def section(directory: RunDirectory, description: Mapping[str, Any]) -> Section:
  """Draws the confusion matrix and the worst mistakes, and gives the accuracy of each class.

  Args:
    directory: of a run that has predictions.json.
    description: `num_classes` and `class_names` of model.json.

  Raises:
    UserError: predictions.json or arrays.npz is damaged, or arrays.npz is missing.
  """
  names = _names(directory, description)
  content = _read(directory, len(names))
  images = content["images"]
  worst = _worst(directory, images)
  pixels = _pixels(directory, len(worst))
  confusion = Confusion((image["class"], image["predicted"]) for image in images)
  has_matrix = len(names) <= confusion_matrix.MOST_CLASSES
  drawn = set(range(len(names))) if has_matrix else set()
  drawn |= {image[key] for image in worst for key in ("class", "predicted")}
  labels = _labels(names, drawn)
  parts: list[Figure | Table] = []
  if has_matrix:
    counts = confusion.matrix(len(names))
    confusion_matrix.draw(directory, counts, list(labels.values()))
    parts.append(Figure(confusion_matrix.NAME, confusion_matrix.CAPTION))
  elif confusion.mistakes():
    parts.append(_most_confused(confusion, names))
  parts.append(_by_class(confusion.by_class(), names))
  if worst:
    mistakes.draw(directory, pixels, [_title(image, labels) for image in worst])
    parts += [Figure(mistakes.NAME, mistakes.CAPTION), _files(worst, names)]
  return Section("Class by class", _summary(content, confusion, len(names)), parts)


def _names(directory: RunDirectory, description: Mapping[str, Any]) -> list[str]:
  """One for each class, on one line; the number where it has none."""
  names, classes = description["class_names"], description["num_classes"]
  if not names:
    return [str(number) for number in range(classes)]
  if len(names) != classes:
    what = f"{len(names)} class_names are given to {classes} classes."
    raise contents.damaged(directory, "model.json", what)
  return [printable(english_name(name)) for name in names]


def _read(directory: RunDirectory, num_classes: int) -> dict[str, Any]:
  of_class = rules.whole(0, num_classes - 1)
  image: rules.Rules = {
    "name": rules.TEXT,
    "class": of_class,
    "predicted": of_class,
    "probability": _PROBABILITY,
    "class_probability": _PROBABILITY,
    "shown": rules.IfPresent(_ROW),
  }
  content = contents.read(
    directory, PREDICTIONS, {"step": rules.STEP, "images": rules.ListOf(image)}
  )
  if not content["images"]:
    raise contents.damaged(directory, PREDICTIONS, "images is empty.")
  return content


def _worst(directory: RunDirectory, images: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """The images that are shown, in the order of their pixels."""
  by_row: dict[int, Mapping[str, Any]] = {}
  most = sum("shown" in image for image in images)
  for number, image in enumerate(images):
    if (row := image.get("shown")) is None:
      continue
    if row in by_row or row >= most:
      what = f"images[{number}].shown is {row}; of {most} images each must have its own row."
      raise contents.damaged(directory, PREDICTIONS, what)
    by_row[row] = image
  return [by_row[row] for row in range(most)]


def _pixels(directory: RunDirectory, count: int) -> np.ndarray:
  """uint8, [count, size, size, 3]."""
  arrays = contents.read_arrays(directory, {"mistake_pixels": "MHWC"}, M=count, C=3)
  pixels = arrays["mistake_pixels"]
  if pixels.dtype != np.uint8:
    what = f"'mistake_pixels' holds {pixels.dtype}, not uint8."
    raise contents.damaged(directory, "arrays.npz", what)
  _, height, width, _ = pixels.shape
  if height != width:
    what = f"'mistake_pixels' has images of {width}×{height} pixels, which are not square."
    raise contents.damaged(directory, "arrays.npz", what)
  return pixels


def _summary(content: Mapping[str, Any], confusion: Confusion, num_classes: int) -> list[str]:
  right, count = confusion.right, len(content["images"])
  accuracies = [of_class.accuracy for of_class in confusion.by_class()]
  sentences = [
    f"After step {content['step']:,} the network takes {right:,} of {count:,} held-out images for "
    f"what they are, {percent(right / count)}.",
    f"The mean of the classes' accuracies, in which each class counts the same however many images "
    f"it has, is {percent(sum(accuracies) / len(accuracies))}.",
  ]
  if absent := num_classes - len(accuracies):
    sentences.append(f"Of {absent:,} of the {num_classes:,} classes there are no images.")
  if right == count:
    sentences.append("There is no mistake.")
  return [" ".join(sentences)]


def _most_confused(confusion: Confusion, names: Sequence[str]) -> Table:
  images = {of_class.number: of_class.images for of_class in confusion.by_class()}
  return Table(
    ("class", "taken for", "times", "of the class's images [%]"),
    [
      (names[own], names[taken], f"{count:,}", f"{100 * count / images[own]:.1f}")
      for own, taken, count in confusion.mistakes()[:_LONGEST_TABLE]
    ],
    f"Which class is most often taken for which other one. Of more than "
    f"{confusion_matrix.MOST_CLASSES} classes no confusion matrix is drawn.",
  )


def _by_class(classes: Sequence[OfClass], names: Sequence[str]) -> Table:
  caption = "Each class's accuracy, and the other class that its images are mostly taken for."
  if len(classes) > _LONGEST_TABLE:
    classes = sorted(classes, key=lambda of_class: (of_class.accuracy, -of_class.images))
    classes = classes[:_LONGEST_TABLE]
    caption = (
      f"The {_LONGEST_TABLE} classes that have the lowest accuracy, and the other class that their "
      f"images are mostly taken for."
    )
  return Table(
    ("class", "images", "accuracy [%]", "mostly taken for", "times"),
    [
      (
        names[of_class.number],
        f"{of_class.images:,}",
        f"{100 * of_class.accuracy:.2f}",
        names[of_class.mostly] if of_class.times else "–",
        f"{of_class.times:,}" if of_class.times else "–",
      )
      for of_class in classes
    ],
    caption,
  )


def _title(image: Mapping[str, Any], labels: Mapping[int, str]) -> str:
  own, taken = labels[image["class"]], labels[image["predicted"]]
  return f"{own}\n→ {taken}\n{_probability(image['probability'])}"


def _files(worst: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
  return Table(
    ("image", "class", "its probability", "taken for", "its probability"),
    [
      (
        printable(image["name"]),
        names[image["class"]],
        _probability(image["class_probability"]),
        names[image["predicted"]],
        _probability(image["probability"]),
      )
      for image in worst
    ],
    "The same images, from left to right and from the top.",
  )


def _probability(fraction: float | None) -> str:
  return "not finite" if fraction is None else percent(fraction)


def _labels(names: Sequence[str], numbers: set[int]) -> dict[int, str]:
  """Short names for figures, by the classes' numbers, in their order."""
  in_order = sorted(numbers)
  drawn = fonts.as_drawn([names[number] for number in in_order])
  short = [shortened(text, _LONGEST_LABEL) for text in drawn]
  return dict(zip(in_order, short, strict=True))
