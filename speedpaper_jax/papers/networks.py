"""The papers' networks: what they are called, the images that they take, and how well they do."""

import dataclasses
from typing import NamedTuple

_FIGURE_3 = "1502.03167, Figure 3"
_TABLE_2 = "1602.07261, Table 2"


class Published(NamedTuple):
  """What a paper prints of one network and one crop on ImageNet's validation images.

  Attributes:
    name: the paper's, of the network.
    top1: accuracy in percent, as it is printed; "–" where it is not.
    top5: the same.
    source: number of the paper, and place in it.
  """

  name: str
  top1: str
  top5: str
  source: str


@dataclasses.dataclass(frozen=True)
class Network:
  """A network.

  Attributes:
    title: as papers write it.
    image_size: pixels, height and width, of the images that its paper is about.
    smallest_image_size: pixels of the smallest of which something is left at its end.
    published: its accuracies on ImageNet.
  """

  title: str
  image_size: int
  smallest_image_size: int
  published: tuple[Published, ...]


# Name, which is also that of its file in `models` → network.
NETWORKS = {
  "googlenet": Network(
    "GoogLeNet", 224, 32, (Published("GoogLeNet", "–", "89.93", "1409.4842, Table 3"),)
  ),
  "bn_inception": Network(
    "BN-Inception",
    224,
    32,
    (
      Published("Inception", "72.2", "–", _FIGURE_3),
      Published("BN-Baseline", "72.7", "–", _FIGURE_3),
      Published("BN-x5", "73.0", "–", _FIGURE_3),
      Published("BN-x30", "74.8", "92.18", f"{_FIGURE_3}, and Figure 4"),
      Published("BN-x5-Sigmoid", "69.8", "–", _FIGURE_3),
    ),
  ),
  "inception_v3": Network(
    "Inception-v3", 299, 75, (Published("Inception-v3", "78.8", "94.4", _TABLE_2),)
  ),
  "inception_v4": Network(
    "Inception-v4", 299, 75, (Published("Inception-v4", "80.0", "95.0", _TABLE_2),)
  ),
  "inception_resnet_v1": Network(
    "Inception-ResNet-v1", 299, 75, (Published("Inception-ResNet-v1", "78.7", "94.5", _TABLE_2),)
  ),
  "inception_resnet_v2": Network(
    "Inception-ResNet-v2", 299, 75, (Published("Inception-ResNet-v2", "80.1", "95.1", _TABLE_2),)
  ),
  # On CIFAR-10 alone; `papers.small_inception` has its accuracies.
  "small_inception": Network("small Inception", 28, 4, ()),
}
