"""The errors on ImageNet's validation images that the papers print, by network and crops."""

from typing import NamedTuple

_ALL = "50,000"
_SOME = "48,238"  # without those that the papers leave out, see `residual_learning`


class PrintedError(NamedTuple):
  """A row of a table.

  Attributes:
    networks: ours of each member, in alphabetical order.
    crops: of an image.
    images: how many.
    top1: error in percent, as it is printed; "–" where it is not.
    top5: the same.
    source: number of the paper, and place in it.
  """

  networks: tuple[str, ...]
  crops: int
  images: str
  top1: str
  top5: str
  source: str


def _one(network: str, crops: int, images: str, top1: str, top5: str, source: str) -> PrintedError:
  return PrintedError((network,), crops, images, top1, top5, source)


_GOOGLENET = "1409.4842, Table 3"
_BATCH_NORM = "1502.03167, Figure 4"
_V3 = "1512.00567, Table 3"
_V3_CROPS = "1512.00567, Table 4"
_V4 = "1602.07261, Table 2"
_V4_12 = "1602.07261, Table 3"
_V4_144 = "1602.07261, Table 4"
_V4_ENSEMBLES = "1602.07261, Table 5"

PRINTED_ERRORS = (
  _one("googlenet", 1, _ALL, "–", "10.07", _GOOGLENET),
  _one("googlenet", 10, _ALL, "–", "9.15", _GOOGLENET),
  _one("googlenet", 144, _ALL, "–", "7.89", _GOOGLENET),
  _one("bn_inception", 1, _ALL, "25.2", "7.82", _BATCH_NORM),
  _one("bn_inception", 144, _ALL, "21.99", "5.82", _BATCH_NORM),
  _one("inception_v3", 1, _SOME, "21.2", "5.6", _V3),
  _one("inception_v3", 12, _ALL, "19.47", "4.48", _V3_CROPS),
  _one("inception_v3", 144, _ALL, "18.77", "4.2", _V3_CROPS),
  _one("inception_v3", 12, _ALL, "19.8", "4.6", _V4_12),
  _one("inception_v3", 144, _ALL, "18.9", "4.3", _V4_144),
  _one("inception_resnet_v1", 1, _SOME, "21.3", "5.5", _V4),
  _one("inception_resnet_v1", 12, _ALL, "19.8", "4.6", _V4_12),
  _one("inception_resnet_v1", 144, _ALL, "18.8", "4.3", _V4_144),
  _one("inception_v4", 1, _SOME, "20.0", "5.0", _V4),
  _one("inception_v4", 12, _ALL, "18.7", "4.2", _V4_12),
  _one("inception_v4", 144, _ALL, "17.7", "3.8", _V4_144),
  _one("inception_resnet_v2", 1, _SOME, "19.9", "4.9", _V4),
  _one("inception_resnet_v2", 12, _ALL, "18.7", "4.1", _V4_12),
  _one("inception_resnet_v2", 144, _ALL, "17.8", "3.7", _V4_144),
  PrintedError(("googlenet",) * 7, 1, _ALL, "–", "8.09", _GOOGLENET),
  PrintedError(("googlenet",) * 7, 10, _ALL, "–", "7.62", _GOOGLENET),
  PrintedError(("googlenet",) * 7, 144, _ALL, "–", "6.67", _GOOGLENET),
  PrintedError(("bn_inception",) * 6, 144, _ALL, "20.1", "4.9", _BATCH_NORM),
  PrintedError(("inception_v3",) * 4, 144, _ALL, "17.3", "3.6", _V4_ENSEMBLES),
  PrintedError(
    ("inception_resnet_v2",) * 3 + ("inception_v4",), 144, _ALL, "16.5", "3.1", _V4_ENSEMBLES
  ),
)


def of(networks: list[str], crops: int) -> list[PrintedError]:
  """The rows of a network, or of an ensemble of such members, by so many crops."""
  return [
    row for row in PRINTED_ERRORS if row.networks == tuple(sorted(networks)) and row.crops == crops
  ]
