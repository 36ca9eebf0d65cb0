"""A network and another package's, compared: outputs, gradients, training.

Deep networks with batch normalization amplify rounding, so equality is judged in float64; in
float32 our error is set beside the other package's own.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from speedpaper_jax.interop.measurements import (
  OPTIMIZERS,
  STEPS,
  Arrays,
  Gradients,
  learning_rate,
)
from speedpaper_jax.interop.pair import Pair
from speedpaper_jax.interop.training import OurTraining
from speedpaper_jax.models import features

TOLERANCE = 1e-8  # of whatever is judged in float64
_FIRST_LOSS = 1e-5  # of the loss in float32
# Standard deviation of the logits over images, by that over images and classes.
_LEAST_SPREAD = 0.5
# A gradient that is identically zero but for rounding, by the norm of the largest gradient.
_NOISE = 1e-10

# Of a shorter move float64, which rounds a parameter to 1e-16, does not keep eight digits.
_LEAST_MOVE = 1e-7


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    quantity: what is compared.
    value: the largest difference.
    limit: that it may not exceed; None where it is only reported.
    where: the stage or tensor of the largest difference.
    at_least: whether `limit` is a lower one.
    reference_error: the other package's own float32 error, beside ours.
  """

  quantity: str
  value: float
  limit: float | None = None
  where: str = ""
  at_least: bool = False
  reference_error: float | None = None

  @property
  def passed(self) -> bool:
    """Whether `value` keeps its limit; a NaN never does."""
    if self.limit is None:
      return True
    return self.value >= self.limit if self.at_least else self.value <= self.limit


def compare_evaluation(pair: Pair, images: np.ndarray) -> list[Row]:
  """Compares logits and all stages in evaluation mode, in float64.

  Args:
    pair: with calibrated or trained weights.
    images: RGB, uint8 [N, H, W, 3].
  """
  theirs, their_stages = pair.reference.evaluate(images, "float64")
  with jax.enable_x64(True):
    ours, our_stages = _our_evaluation(pair, images, jnp.float64)
  spread = _spread(theirs)
  stages = {
    stage: float(np.max(np.abs(our_stages[stage] - output)) / np.std(output))
    for stage, output in their_stages.items()
  }
  agreement = np.mean(np.argmax(ours, -1) == np.argmax(theirs, -1))
  return [
    Row("spread of logits", spread / float(np.std(theirs)), _LEAST_SPREAD, "", at_least=True),
    Row("logits", _largest(ours - theirs) / spread, TOLERANCE),
    _worst("stages", stages, TOLERANCE),
    Row("top-1 agreement", float(agreement), 1.0, "", at_least=True),
  ]


class TrainingComparison:
  """Compares training of a pair in float64; our gradient is compiled once."""

  def __init__(self, pair: Pair, images: np.ndarray, labels: np.ndarray) -> None:
    """Prepares both networks; the pair's reference is left as it is.

    Args:
      pair: with calibrated or trained weights.
      images: RGB, uint8 [batches, N, H, W, 3].
      labels: [batches, N].
    """
    self._images, self._labels = images, labels
    self._noise = _zero_gradients(pair)
    with jax.enable_x64(True):
      self._ours = OurTraining(pair, jnp.float64)
    self._theirs = pair.reference
    self._their_first = self._theirs.gradients(images[0], labels[0], "float64")

  def step(self) -> list[Row]:
    """Compares what the first batch gives: loss, logits, running statistics, gradients."""
    with jax.enable_x64(True):
      ours = self._ours.gradients(self._images[0], self._labels[0])
    return _compare_gradients(ours, self._their_first, self._noise)

  def optimizers(self) -> list[Row]:
    """Compares the parameters after one and after ten steps of each optimiser.

    Differences are in units of how far a tensor has moved, or of `_LEAST_MOVE` of its norm.
    """
    before = self._theirs.parameters()
    rate = learning_rate(before, self._their_first.grads)
    rows = []
    with jax.enable_x64(True):
      for name in OPTIMIZERS:
        both = zip(
          self._ours.train(name, rate, self._images, self._labels),
          self._theirs.train(name, rate, self._images, self._labels, "float64"),
          strict=True,
        )
        for step, (ours, theirs) in enumerate(both, start=1):
          if step in (1, STEPS):
            quantity = f"parameters, {step} step{'s' * (step > 1)} of {name}"
            errors = {
              key: _error_by_move(ours[key], theirs[key], values)
              for key, values in before.items()
              if key not in self._noise
            }
            rows.append(_worst(quantity, errors, TOLERANCE))
    return rows


def compare_float32(pair: Pair, images: np.ndarray, labels: np.ndarray) -> list[Row]:
  """Errors of both networks in float32, against the reference in float64.

  Args:
    pair: with calibrated or trained weights.
    images: RGB, uint8 [N, H, W, 3].
    labels: [N].
  """
  exact, _ = pair.reference.evaluate(images, "float64")
  theirs, _ = pair.reference.evaluate(images, "float32")
  ours, _ = _our_evaluation(pair, images, jnp.float32)
  spread = _spread(exact)
  rows = [
    Row(
      "logits", _largest(ours - exact) / spread, reference_error=_largest(theirs - exact) / spread
    )
  ]
  exact_step = pair.reference.gradients(images, labels, "float64")
  their_step = pair.reference.gradients(images, labels, "float32")
  our_step = OurTraining(pair, jnp.float32).gradients(images, labels)
  their_error = abs(their_step.loss / exact_step.loss - 1)
  our_error = abs(our_step.loss / exact_step.loss - 1)
  rows.append(Row("loss", our_error, _FIRST_LOSS, reference_error=their_error))
  noise = _zero_gradients(pair)
  our_errors = _relative_errors(our_step.grads, exact_step.grads, noise)
  their_errors = _relative_errors(their_step.grads, exact_step.grads, noise)
  for quantity, summary in (("median", np.median), ("largest", np.max)):
    rows.append(
      Row(
        f"gradients, {quantity}",
        float(summary(list(our_errors.values()))),
        reference_error=float(summary(list(their_errors.values()))),
      )
    )
  return rows


def _our_evaluation(pair: Pair, images: np.ndarray, dtype: Any) -> tuple[np.ndarray, Arrays]:
  variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), pair.variables())
  inputs = pair.normalization.apply(images, dtype)
  logits, left = jax.device_get(_inference(pair.network_in(dtype), variables, inputs))
  return logits, left[features.FEATURES]


@functools.partial(jax.jit, static_argnums=0)
def _inference(network: nn.Module, variables: Any, inputs: jax.Array) -> Any:
  return network.apply(variables, inputs, train=False, mutable=[features.FEATURES])


def _compare_gradients(ours: Gradients, theirs: Gradients, noise: set[str]) -> list[Row]:
  rows = [Row("loss", abs(ours.loss / theirs.loss - 1), TOLERANCE)]
  for head, logits in theirs.logits.items():
    difference = _largest(ours.logits[head] - logits) / _spread(logits)
    rows.append(Row(f"{head} in training", difference, TOLERANCE))
  statistics = _relative_errors(ours.batch_stats, theirs.batch_stats, set())
  rows.append(_worst("running statistics", statistics, TOLERANCE))
  rows.append(_worst("gradients", _relative_errors(ours.grads, theirs.grads, noise), TOLERANCE))
  cosines = {
    name: _cosine(ours.grads[name], gradient)
    for name, gradient in theirs.grads.items()
    if name not in noise
  }
  least = min(cosines, key=lambda name: cosines[name])
  rows.append(Row("least cosine", cosines[least], 1 - TOLERANCE, least, at_least=True))
  if noise:
    largest = max(float(np.linalg.norm(gradient)) for gradient in theirs.grads.values())
    zeros = {
      name: float(max(np.linalg.norm(ours.grads[name]), np.linalg.norm(theirs.grads[name])))
      / largest
      for name in noise
    }
    rows.append(_worst("gradients that are zero", zeros, _NOISE))
  return rows


def _zero_gradients(pair: Pair) -> set[str]:
  """Parameters whose gradient is zero: a later batch normalization takes away what they add.

  They are the biases of convolutions in front of it, and the one of an Inception-ResNet's last
  residual block without activation, whose sum reaches the next one through linear layers alone.
  """
  biases = set()
  if pair.network.dialect.bias_before_batch_norm:
    biases = {f"{pair.names.layer(f'{block}/conv')}.bias" for block in pair.names.blocks}
  if getattr(pair.network.dialect, "has_unscaled_last_block", False):
    biases.add(f"{pair.names.layer('block_c_last/linear')}.bias")
  return biases & pair.reference.parameters().keys()


def _spread(logits: np.ndarray) -> float:
  """How much the logits of a class differ between images."""
  return float(np.mean(np.std(logits, axis=0)))


def _largest(difference: np.ndarray) -> float:
  return float(np.max(np.abs(difference)))


def _relative_errors(ours: Arrays, theirs: Arrays, left_out: set[str]) -> dict[str, float]:
  """Norm of the difference of each tensor, by the tensor's norm."""
  return {
    name: float(np.linalg.norm(ours[name] - values) / np.linalg.norm(values))
    for name, values in theirs.items()
    if name not in left_out
  }


def _error_by_move(ours: np.ndarray, theirs: np.ndarray, before: np.ndarray) -> float:
  move = max(np.linalg.norm(theirs - before), _LEAST_MOVE * np.linalg.norm(before))
  return float(np.linalg.norm(ours - theirs) / move)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
  return float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _worst(quantity: str, values: Mapping[str, float], limit: float) -> Row:
  # A NaN is worse than any number.
  name = max(values, key=lambda name: np.nan_to_num(values[name], nan=np.inf))
  return Row(f"{quantity} ({len(values)})", values[name], limit, name)
