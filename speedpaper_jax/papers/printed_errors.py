"""The errors on ImageNet's validation images that the papers print, by networks and crops."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from speedpaper_jax.papers import batch_norm, residual_learning
from speedpaper_jax.papers.residual_learning import Errors

_ALL = 50_000
_SOME = 48_238  # without those that the papers leave out, see `residual_learning`


class PrintedError(NamedTuple):
  """A row of a table.

  Attributes:
    networks: ours, of each member, sorted.
    crops: of an image.
    images: how many.
    top1: error in percent; None where it is not printed.
    top5: the same.
    source: number of the paper, and place in it.
  """

  networks: tuple[str, ...]
  crops: int
  images: int
  top1: float | None
  top5: float | None
  source: str


def _of_table(
  table: Mapping[str, Errors], crops: int, images: int, source: str
) -> Iterator[PrintedError]:
  for network, errors in table.items():
    yield PrintedError((network,), crops, images, *errors, source)


def _of_googlenet() -> Iterator[PrintedError]:
  """Top-5 errors of one network and of seven."""
  by_crops = {1: (10.07, 8.09), 10: (9.15, 7.62), 144: (7.89, 6.67)}
  for crops, errors in by_crops.items():
    for members, top5 in zip((1, 7), errors, strict=True):
      networks = ("googlenet",) * members
      yield PrintedError(networks, crops, _ALL, None, top5, "1409.4842, Table 3")


def _of_batch_norm() -> Iterator[PrintedError]:
  for row in batch_norm.FIGURE_4.values():
    networks = ("bn_inception",) * row.models
    yield PrintedError(networks, row.crops, _ALL, row.top1, row.top5, "1502.03167, Figure 4")


def _of_inception_v3() -> Iterator[PrintedError]:
  rows = {1: (_SOME, 21.2, 5.6, 3), 12: (_ALL, 19.47, 4.48, 4), 144: (_ALL, 18.77, 4.2, 4)}
  for crops, (images, top1, top5, table) in rows.items():
    source = f"1512.00567, Table {table}"
    yield PrintedError(("inception_v3",), crops, images, top1, top5, source)


def _of_residual_learning() -> Iterator[PrintedError]:
  paper = "1602.07261"
  yield from _of_table(residual_learning.TABLE_2, 1, _SOME, f"{paper}, Table 2")
  yield from _of_table(residual_learning.TABLE_3, 12, _ALL, f"{paper}, Table 3")
  yield from _of_table(residual_learning.TABLE_4, 144, _ALL, f"{paper}, Table 4")
  members = {
    "four inception_v3": ("inception_v3",) * 4,
    "inception_v4 and three inception_resnet_v2": ("inception_resnet_v2",) * 3 + ("inception_v4",),
  }
  for name, errors in residual_learning.TABLE_5.items():
    yield PrintedError(members[name], 144, _ALL, *errors, f"{paper}, Table 5")


PRINTED_ERRORS = (
  *_of_googlenet(),
  *_of_batch_norm(),
  *_of_inception_v3(),
  *_of_residual_learning(),
)


def of(networks: Sequence[str], crops: int) -> list[PrintedError]:
  """The rows of a network, or of an ensemble of such members, by so many crops."""
  wanted = tuple(sorted(networks))
  return [row for row in PRINTED_ERRORS if (row.networks, row.crops) == (wanted, crops)]
