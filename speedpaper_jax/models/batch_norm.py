"""Batch Normalization (Ioffe & Szegedy, arXiv 1502.03167): Algorithm 1, its gradient, Algorithm 2.

A batch is normalised in one or more groups of rows. Statistics over the global batch are one group,
per-replica statistics are as many groups as there are devices, and any `virtual_batch_size` between
them is possible. Under `jit` on a batch sharded by rows, groups that do not straddle devices need
no communication; a named axis (`shard_map`, `pmap`) joins the statistics of its members.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and sum of squared deviations of the values of each feature.

  Attributes:
    count: number of values that each mean is taken over.
    mean: [G, 1, ..., C], float32 or wider.
    m2: same shape, sum of (x - mean)². Divided by `count` it is the biased variance of
      Algorithm 1, and as a sum of squares it is never negative.
  """

  count: int
  mean: jax.Array
  m2: jax.Array

  @property
  def variance(self) -> jax.Array:
    """Biased variance, Algorithm 1, line 2."""
    return self.m2 / self.count

  @property
  def unbiased_variance(self) -> jax.Array:
    """Algorithm 2, line 10: m/(m-1) times the biased variance."""
    return self.m2 / (self.count - 1)


def split_groups(x: jax.Array, groups: int) -> jax.Array:
  """Reshapes [N, ..., C] to [groups, N // groups, ..., C]; each group is a run of whole rows."""
  if x.shape[0] % groups:
    raise ValueError(f"{x.shape[0]} rows do not divide into {groups} groups of equal size.")
  return x.reshape(groups, x.shape[0] // groups, *x.shape[1:])


def group_moments(x: jax.Array, per_activation: bool, axis_name: str | None = None) -> Moments:
  """Moments of each feature within each group.

  Args:
    x: [G, n, ..., C], the output of `split_groups`.
    per_activation: whether each position of the map is a feature of its own.
    axis_name: a mapped axis whose members' moments are joined.

  Returns:
    Moments of shape [G, 1, ..., 1, C], or [G, 1, ..., C] per activation.
  """
  axes = _reduction_axes(x, per_activation)
  x = x.astype(_statistics_dtype(x))
  count = 1
  for axis in axes:
    count *= x.shape[axis]
  mean = jnp.mean(x, axes, keepdims=True)
  moments = Moments(count, mean, jnp.sum(jnp.square(x - mean), axes, keepdims=True))
  if axis_name is not None:
    # One gather for both, so that a layer waits for one collective and not for two.
    means, m2s = lax.all_gather(jnp.stack([moments.mean, moments.m2]), axis_name, axis=1)
    moments = combine_moments(Moments(count, means, m2s))
  return moments


def combine_moments(moments: Moments) -> Moments:
  """Joins moments of equal count along their first axis (Chan, Golub & LeVeque 1979).

  Every term is a square, so the joint `m2` cannot become negative, as E[x²] - E[x]² can.
  """
  mean = jnp.mean(moments.mean, 0)
  between = moments.count * jnp.sum(jnp.square(moments.mean - mean), 0)
  return Moments(moments.count * moments.mean.shape[0], mean, jnp.sum(moments.m2, 0) + between)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalize(
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  epsilon: float,
  per_activation: bool,
  axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Algorithm 1, the batch normalizing transform, within each group.

  Args:
    x: [G, n, ..., C], the output of `split_groups`.
    scale: γ, [C], or [..., C] per activation.
    bias: β, same shape.
    epsilon: added to the variance.
    per_activation: whether each position of the map is a feature of its own.
    axis_name: a mapped axis over which statistics are joined, or None.

  Returns:
    y with the shape and dtype of `x`; the mean and m2 of `Moments`, which carry no gradient.
  """
  return _normalize_forward(x, scale, bias, epsilon, per_activation, axis_name)[0]


def _normalize_forward(
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  epsilon: float,
  per_activation: bool,
  axis_name: str | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
  moments = group_moments(x, per_activation, axis_name)
  inverse_std = lax.rsqrt(moments.variance + epsilon)
  x_hat = (x - moments.mean) * inverse_std
  y = (scale * x_hat + bias).astype(x.dtype)
  # x is kept by the layer before in any case; x̂ is cheaper to compute again than to keep.
  return (y, moments.mean, moments.m2), (x, scale, moments.mean, inverse_std)


def _normalize_backward(
  epsilon: float,
  per_activation: bool,
  axis_name: str | None,
  residuals: tuple[jax.Array, ...],
  cotangents: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The six equations of section 3, in their order; `d_a` stands for ∂ℓ/∂a."""
  del epsilon  # inverse_std holds it
  x, scale, mean, inverse_std = residuals
  axes = _reduction_axes(x, per_activation)
  members = 1 if axis_name is None else lax.axis_size(axis_name)
  m = members * x.size // mean.size
  centred = x - mean
  d_y = cotangents[0].astype(centred.dtype)

  # γ is the same for every term of the sums in (2) and (3) and stands before them, so that these
  # sums are also the ones of (5) and (6).
  sums = jnp.stack([jnp.sum(d_y * centred, axes, keepdims=True), jnp.sum(d_y, axes, keepdims=True)])
  all_sums = sums if axis_name is None else lax.psum(sums, axis_name)
  sum_d_y_centred, sum_d_y = all_sums

  d_x_hat = d_y * scale  # (1)
  d_variance = scale * sum_d_y_centred * -0.5 * inverse_std**3  # (2)
  d_mean = scale * sum_d_y * -inverse_std  # (3), whose second term is zero, since Σ(x - μ) = 0
  d_x = d_x_hat * inverse_std + d_variance * 2 * centred / m + d_mean / m  # (4)
  d_scale = jnp.sum(sums[0] * inverse_std, 0)  # (5)
  d_bias = jnp.sum(sums[1], 0)  # (6)
  return d_x.astype(x.dtype), d_scale.reshape(scale.shape), d_bias.reshape(scale.shape)


normalize.defvjp(_normalize_forward, _normalize_backward)


class BatchNorm(nn.Module):
  """Batch Normalization of the last axis, or of every activation.

  Fully connected layers ([N, C]) are normalised over the batch, convolutional ones ([N, H, W, C])
  over the batch and all locations (section 3.2), so that C features share their γ and β.

  Collections:
    params: `scale` (γ) and `bias` (β).
    batch_stats: `mean` and `var`, the statistics that inference uses: moving averages, or what
      `recompute_population_statistics` puts in their place (Algorithm 2).
    batch_moments: filled in training when mutable, with the structure of batch_stats: this batch's
      mean and its variance times m/(m-1), averaged over the groups.

  Attributes:
    decay: of the moving averages, average ← decay · average + (1 - decay) · batch. PyTorch's
      `momentum` is 1 - decay.
    epsilon: added to the variance; the paper gives no value.
    unbiased_running_variance: whether the moving average is of m/(m-1)·σ², as Algorithm 2's and
      PyTorch's is, or of the biased σ².
    virtual_batch_size: rows that are normalised together; None for all.
    axis_name: a mapped axis (`shard_map`, `pmap`) whose members are normalised together; None
      for statistics of each member alone.
    per_activation: one γ and β for each activation and statistics over the batch alone, instead of
      for each feature map; the ensemble of section 4.2.3 has it in the last hidden layers.
    use_scale: whether γ is learned; 1 otherwise.
    use_bias: whether β is learned; 0 otherwise.
  """

  decay: float = 0.9997
  epsilon: float = 1e-3
  unbiased_running_variance: bool = True
  virtual_batch_size: int | None = None
  axis_name: str | None = None
  per_activation: bool = False
  use_scale: bool = True
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Normalises `x`.

    Args:
      x: [N, ..., C]; with bfloat16 or float16, statistics and arithmetic are in float32.
      train: whether to use the statistics of this batch and to update the moving averages.

    Returns:
      Array with the shape and dtype of `x`.

    Raises:
      ValueError: the rows do not divide into groups of `virtual_batch_size`, or a group holds a
        single value of each feature, whose normalised value would always be zero.
    """
    shape = x.shape[1:] if self.per_activation else x.shape[-1:]
    dtype = _statistics_dtype(x)
    scale = self.param("scale", nn.initializers.ones, shape) if self.use_scale else jnp.ones(shape)
    bias = self.param("bias", nn.initializers.zeros, shape) if self.use_bias else jnp.zeros(shape)
    scale, bias = scale.astype(dtype), bias.astype(dtype)
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    running_var = self.variable("batch_stats", "var", jnp.ones, shape)

    if not train:
      # Algorithm 2, line 11, as one multiplication and one addition.
      multiplier = scale * lax.rsqrt(running_var.value.astype(dtype) + self.epsilon)
      shift = bias - multiplier * running_mean.value
      return (multiplier * x + shift).astype(x.dtype)

    axis_name = None if self.is_initializing() else self.axis_name
    grouped = split_groups(x, self._groups(x.shape[0]))
    y, mean, m2 = normalize(grouped, scale, bias, self.epsilon, self.per_activation, axis_name)
    members = 1 if axis_name is None else lax.axis_size(axis_name)
    moments = Moments(members * grouped.size // mean.size, mean, m2)
    if moments.count < 2 and not self.is_initializing():
      raise ValueError(
        f"Batch normalization in training needs more than one value of each feature, but a group "
        f"of shape {grouped.shape[1:]} has one. Take a larger batch or virtual_batch_size."
      )
    if not self.is_initializing():
      self._record(moments, running_mean, running_var, shape)
    return y.reshape(x.shape)

  def _groups(self, rows: int) -> int:
    # A model is initialised on few rows, whatever batch it is trained on.
    if self.virtual_batch_size is None or self.is_initializing():
      return 1
    if rows % self.virtual_batch_size:
      raise ValueError(
        f"A batch of {rows} rows does not divide into groups of "
        f"virtual_batch_size={self.virtual_batch_size}."
      )
    return rows // self.virtual_batch_size

  def _record(
    self, moments: Moments, mean: nn.Variable, var: nn.Variable, shape: tuple[int, ...]
  ) -> None:
    """Updates the moving averages, and leaves this batch's moments where they are asked for."""
    unbiased = jnp.mean(moments.unbiased_variance, 0).reshape(shape)
    biased = jnp.mean(moments.variance, 0).reshape(shape)
    batch_mean = jnp.mean(moments.mean, 0).reshape(shape)
    batch_var = unbiased if self.unbiased_running_variance else biased
    if self.is_mutable_collection("batch_stats"):
      mean.value = self.decay * mean.value + (1 - self.decay) * batch_mean
      var.value = self.decay * var.value + (1 - self.decay) * batch_var
    if self.is_mutable_collection("batch_moments"):
      self.put_variable("batch_moments", "mean", batch_mean)
      self.put_variable("batch_moments", "var", unbiased)


def recompute_population_statistics(
  batch_moments: Callable[[PyTree], PyTree], batches: Iterable[PyTree]
) -> PyTree:
  """Algorithm 2, lines 8 to 10: population statistics as averages over training mini-batches.

  E[x] = E_B[μ_B] and Var[x] = m/(m-1) · E_B[σ²_B], with all parameters held fixed.

  Args:
    batch_moments: takes one batch and returns the `batch_moments` collection of the model applied
      to it with `train=True`; usually jitted.
    batches: mini-batches of equal size.

  Returns:
    A `batch_stats` collection to use in place of the moving averages.

  Raises:
    ValueError: there is no batch.
  """
  total, count = None, 0
  for batch in batches:
    moments = batch_moments(batch)
    total = moments if total is None else jax.tree.map(jnp.add, total, moments)
    count += 1
  if total is None:
    raise ValueError("Population statistics need at least one batch.")
  return jax.tree.map(lambda moment: moment / count, total)


def _reduction_axes(x: jax.Array, per_activation: bool) -> tuple[int, ...]:
  """Axes of [G, n, ..., C] that statistics are taken over."""
  return (1,) if per_activation else tuple(range(1, x.ndim - 1))


def _statistics_dtype(x: jax.Array) -> jnp.dtype:
  return jnp.promote_types(x.dtype, jnp.float32)
