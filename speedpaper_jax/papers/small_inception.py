"""Table 1 of "Understanding deep learning requires rethinking generalization", arXiv 1611.03530.

Its rows of the small Inception on CIFAR-10 without random crops. With random crops the network with
batch normalization comes to 89.05 % with weight decay and to 89.31 % without; without batch
normalization there are no such rows.
"""

from typing import NamedTuple

PARAMETERS = 1_649_402  # of each of them


class Accuracies(NamedTuple):
  """In percent, as they are printed: of the training images, and of the test images."""

  train: float
  test: float


# By arm of configs/small_inception.py.
TABLE_1 = {
  "batch_norm_and_decay": Accuracies(100.0, 86.03),
  "batch_norm": Accuracies(100.0, 85.75),
  "decay": Accuracies(100.0, 83.00),
  "neither": Accuracies(100.0, 82.00),
}
