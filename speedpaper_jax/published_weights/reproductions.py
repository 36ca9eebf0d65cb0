"""Published results of published weights, to measure again: which, on what images, how near.

Accuracies are in percent, as they are printed. There are three tables, see `TABLES`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from speedpaper_jax.errors import UserError
from speedpaper_jax.papers import printed_errors
from speedpaper_jax.published_weights import table
from speedpaper_jax.published_weights.table import IMAGENET_CLASSES, PublishedWeights

NOT_PRINTED = "–"


class Allowance(NamedTuple):
  """How far a number may be from a published one, beside the rounding of what is printed.

  Attributes:
    points: percentage points.
    reason: why so much.
  """

  points: Decimal
  reason: str


class Evaluation(NamedTuple):
  """What is to be evaluated, and how.

  Attributes:
    weights: name in `table.ROWS`.
    data: TFDS's name of the data set.
    split: of it.
    crops: of an image, whose probabilities are averaged.
    reassessed: whether the right classes are those of real.json.
  """

  weights: str
  data: str = "imagenet2012"
  split: str = "validation"
  crops: int = 1
  reassessed: bool = False


@dataclasses.dataclass(frozen=True)
class Reproduction:
  """A published result beside what would have to give it.

  Attributes:
    name: of the row.
    evaluation: what gives the number.
    images: how many the published number is of.
    top1: accuracy in percent, as it is printed; `NOT_PRINTED` where it is not.
    top5: the same.
    source: where they are printed.
    allowance: how near the evaluation has to come; None where it is not judged.
    why_not_judged: in words; "" where it is.
  """

  name: str
  evaluation: Evaluation
  images: int
  top1: str
  top5: str
  source: str
  allowance: Allowance | None
  why_not_judged: str = ""


_IMAGES = 50_000
_WITH_REASSESSED_LABELS = 46_837  # the others have no right class

_OWN_TRANSFORM = "the package's own transform gives the same pixels"
_MEASURED_NOW = Allowance(
  Decimal("0.05"),
  f"{_OWN_TRANSFORM}; 25 of 50,000 images for another JPEG decoder and rounding",
)
_MEASURED_THEN = Allowance(
  Decimal("0.1"),
  f"{_OWN_TRANSFORM}, but the number was measured by versions of long ago; 50 of 50,000 images for "
  "another decoder, resizer and rounding",
)
_OTHER_PIPELINE = Allowance(
  Decimal("1.0"),
  "the number is of another crop than the whole image that the package's users squash, and of "
  "which the package says nothing",
)
_OF_FEW_IMAGES = Allowance(
  Decimal("0.15"),
  f"{_OWN_TRANSFORM}; in sets of 10,000 images and fewer, the share that another decoder and "
  "rounding turn varies by so much",
)
_ALLOWANCES = {
  "timm": _MEASURED_NOW,
  "torchvision": _MEASURED_NOW,
  "pretrainedmodels": _MEASURED_THEN,
  "pytorchcv": _MEASURED_THEN,
  "keras": _OTHER_PIPELINE,
}
_SOURCES = {
  "timm": "timm's results/results-imagenet.csv",
  "torchvision": "torchvision's weights, their metrics",
  "pretrainedmodels": "the table in pretrainedmodels' README",
  "pytorchcv": "100 − the errors in pytorchcv's README",
  "keras": "the table of keras.io/api/applications",
}

# timm's results-NAME.csv → the data set, the images that the result is of, and how near to come.
_SETS = {
  "imagenet-real": ("imagenet2012", "validation", _WITH_REASSESSED_LABELS, _MEASURED_NOW),
  "imagenetv2-matched-frequency": (
    "imagenet_v2/matched-frequency",
    "test",
    10_000,
    _OF_FEW_IMAGES,
  ),
  "imagenet-a": ("imagenet_a", "test", 7_500, _OF_FEW_IMAGES),
  "imagenet-r": ("imagenet_r", "test", 30_000, _MEASURED_NOW),
  "sketch": ("imagenet_sketch", "test", 50_889, _MEASURED_NOW),
}
# In the order of these sets.
_OF_OTHER_SETS = {
  "timm/inception_v3.tv_in1k": ("83.79", "66.10", "9.89", "38.96", "27.64"),
  "timm/inception_v3.tf_in1k": ("84.14", "66.30", "10.85", "39.38", "27.78"),
  "timm/inception_v3.tf_adv_in1k": ("83.88", "66.40", "10.88", "41.24", "29.83"),
  "timm/inception_v3.gluon_in1k": ("85.19", "67.55", "12.51", "40.89", "29.13"),
  "timm/inception_v4.tf_in1k": ("86.15", "69.39", "17.32", "41.66", "31.39"),
  "timm/inception_resnet_v2.tf_in1k": ("86.13", "70.01", "16.47", "44.07", "32.75"),
  "timm/inception_resnet_v2.tf_ens_adv_in1k": ("85.82", "69.59", "16.12", "44.49", "32.40"),
}

# The networks of which the papers print results of several crops, as released by others.
_BY_SEVERAL_CROPS = (
  "pretrainedmodels/bninception",
  "timm/inception_v3.tf_in1k",
  "pytorchcv/inceptionresnetv1",
  "timm/inception_v4.tf_in1k",
  "timm/inception_resnet_v2.tf_in1k",
)
_CROPS = (12, 144)
_OTHER_WEIGHTS = "other weights than the paper's own"


def rows_of(name: str, weights: Sequence[str] = ()) -> list[Reproduction]:
  """The rows of a table.

  Args:
    name: of the table, a key of `TABLES`.
    weights: names of those whose rows are wanted, as of `table.find`; none for all.

  Raises:
    UserError: there are no such weights, or the table has no row of them.
  """
  rows = TABLES[name]()
  found = {row.evaluation.weights for row in rows}
  wanted = dict.fromkeys(table.find(each).name for each in weights)
  for each in wanted:
    if each not in found:
      raise UserError(
        f"The table '{name}' has no row of '{each}', but of {', '.join(sorted(found))}."
      )
  return [row for row in rows if not wanted or row.evaluation.weights in wanted]


def validation() -> list[Reproduction]:
  """Single crops of ImageNet's validation images, of all weights with a printed accuracy."""
  return [
    Reproduction(
      name=row.name,
      evaluation=Evaluation(row.name),
      images=_IMAGES,
      top1=row.top1,
      top5=row.top5,
      source=_SOURCES[row.package],
      allowance=_ALLOWANCES[row.package],
    )
    for row in table.ROWS
    if _has_accuracy(row)
  ]


def other_sets() -> list[Reproduction]:
  """What timm prints of other labels and of ImageNet's sister sets, top-1 alone."""
  return [
    Reproduction(
      name=f"{weights} on {name}",
      evaluation=Evaluation(weights, data, split, reassessed=name == "imagenet-real"),
      images=images,
      top1=top1,
      top5=NOT_PRINTED,
      source=f"timm's results/results-{name}.csv",
      allowance=allowance,
    )
    for weights, accuracies in _OF_OTHER_SETS.items()
    for (name, (data, split, images, allowance)), top1 in zip(
      _SETS.items(), accuracies, strict=True
    )
  ]


def crops() -> list[Reproduction]:
  """12 and 144 crops of released weights beside those of the papers' own; none is judged."""
  rows = []
  for weights in _BY_SEVERAL_CROPS:
    for number in _CROPS:
      printed = printed_errors.of([table.find(weights).model], number)
      rows += [
        Reproduction(
          name=f"{weights} by {number} crops beside {each.source}",
          evaluation=Evaluation(weights, crops=number),
          images=each.images,
          top1=_accuracy(each.top1),
          top5=_accuracy(each.top5),
          source=f"100 − the errors in {each.source}",
          allowance=None,
          why_not_judged=_OTHER_WEIGHTS,
        )
        for each in printed
      ]
  return rows


TABLES: Mapping[str, Callable[[], list[Reproduction]]] = {
  "validation": validation,
  "other_sets": other_sets,
  "crops": crops,
}


def _has_accuracy(row: PublishedWeights) -> bool:
  is_printed = {row.top1, row.top5} != {NOT_PRINTED}
  return is_printed and row.classes.startswith(IMAGENET_CLASSES)


def _accuracy(error: float | None) -> str:
  """In percent, with as many digits as the error has."""
  return NOT_PRINTED if error is None else str(100 - Decimal(str(error)))
