"""What is measured on both networks of a pair, and how another package's is asked for it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

Arrays = dict[str, np.ndarray]

AUX_WEIGHT = 0.4
STEPS = 10
OPTIMIZERS = ("sgd", "rmsprop")
# Length of the first step of SGD, by that of all parameters. Where batches are small, ten steps of
# ten times this length amplify rounding errors beyond any limit, in any program.
FIRST_STEP = 2e-7


@dataclasses.dataclass(frozen=True)
class Gradients:
  """What one training step computes before the optimiser.

  Attributes:
    loss: mean cross-entropy, auxiliary heads' times `AUX_WEIGHT` added.
    logits: of the network and of each auxiliary head.
    grads: of each parameter, under the other package's name and in PyTorch's layout.
    batch_stats: running statistics after the step, likewise.
  """

  loss: float
  logits: Arrays
  grads: Arrays
  batch_stats: Arrays


class Reference(Protocol):
  """Another package's network, without dropout.

  Images are RGB, uint8 [N, H, W, 3], labels [N]; a `dtype` is "float64" or "float32". Nothing but
  `load` and `calibrate` changes the network.
  """

  def load(self, state_dict: Mapping[str, np.ndarray]) -> None:
    """Takes weights, as `tensors` gives them."""

  def tensors(self) -> Arrays:
    """Parameters and running statistics, under its names and in PyTorch's layout."""

  def parameters(self) -> Arrays:
    """A copy of the parameters alone."""

  def calibrate(self, images: np.ndarray) -> None:
    """Gives it weights that tell images apart, and running statistics of real images.

    γ and β are perturbed, the running statistics become those of `images`, and the softmax layer
    is changed so that over the images the logits have mean 0, and standard deviation 1 on average.
    """

  def evaluate(self, images: np.ndarray, dtype: str) -> tuple[np.ndarray, Arrays]:
    """Logits [N, K] and, under our names, the stages [N, H', W', C]."""

  def gradients(self, images: np.ndarray, labels: np.ndarray, dtype: str) -> Gradients:
    """Of one batch in training."""

  def train(
    self, optimizer: str, rate: float, images: np.ndarray, labels: np.ndarray, dtype: str
  ) -> Iterator[Arrays]:
    """Parameters after each of `STEPS` steps on [batches, N, H, W, 3] and [batches, N]."""


def ten_steps(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """The batches again and again."""
  for step in range(STEPS):
    batch = step % len(images)
    yield images[batch], labels[batch]


def learning_rate(parameters: Arrays, grads: Arrays) -> float:
  """The rate with which the first step of SGD is `FIRST_STEP` long."""

  def norm(arrays: Arrays) -> float:
    return float(np.sqrt(sum(np.sum(np.square(values)) for values in arrays.values())))

  return FIRST_STEP * norm(parameters) / norm(grads)
