"""Batch Normalization (Ioffe & Szegedy, arXiv 1502.03167): Algorithm 1, its gradient, Algorithm 2.

A batch is normalised in one or more groups of rows. Statistics over the global batch are one group,
per-replica statistics are as many groups as there are devices, and any `virtual_batch_size` between
them is possible. Under `jit` on a batch sharded by rows, groups that do not straddle devices need
no communication; a named axis (`shard_map`, `pmap`) joins the statistics of its members.

Rows that are masked, because an image could not be decoded, have no part in statistics and
gradients; see `row_mask`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from speedpaper_jax.models import layer_names
from speedpaper_jax.models.packed_images import Packing, repeat

PyTree = Any
MaxPool = Callable[[jax.Array], jax.Array]

_ROW_MASK = "row_mask"
# Of a mean from the pivot, in variances: more cost a difference of sums over four of its 24 bits.
_LARGEST_OFFSET = 16.0


def row_mask(mask: jax.Array) -> dict[str, PyTree]:
  """A collection for a model's variables, by which all its batch normalizations know the rows.

  What they do to the others is then what they would do to a batch without the masked rows.

  Args:
    mask: [N]; above 0 for the rows of the batch that count.
  """
  return {_ROW_MASK: {"rows": mask > 0}}


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and sum of squared deviations of the values of each feature.

  Attributes:
    count: number of values that each mean is taken over; [G, 1, ..., 1] where rows are masked or
      moments combined.
    mean: [G, 1, ..., C], float32 or wider; 0 where nothing counts.
    m2: same shape, sum of (x - mean)². Divided by `count` it is the biased variance of
      Algorithm 1, and as a sum of squares it is never negative.
  """

  count: int | jax.Array
  mean: jax.Array
  m2: jax.Array

  @property
  def variance(self) -> jax.Array:
    """Biased variance, Algorithm 1, line 2."""
    return self.m2 / jnp.maximum(self.count, 1)

  @property
  def unbiased_variance(self) -> jax.Array:
    """Algorithm 2, line 10: m/(m-1) times the biased variance."""
    return self.m2 / jnp.maximum(self.count - 1, 1)


def split_groups(x: jax.Array, groups: int) -> jax.Array:
  """Reshapes [N, ..., C] to [groups, N // groups, ..., C]; each group is a run of whole rows."""
  if x.shape[0] % groups:
    raise ValueError(f"{x.shape[0]} rows do not divide into {groups} groups of equal size.")
  return x.reshape(groups, x.shape[0] // groups, *x.shape[1:])


def group_moments(
  x: jax.Array,
  per_activation: bool,
  axis_name: str | None = None,
  mask: jax.Array | None = None,
  pivot: jax.Array | None = None,
  packing: Packing | None = None,
) -> Moments:
  """Moments of each feature within each group.

  Args:
    x: [G, n, ..., C], the output of `split_groups`.
    per_activation: whether each position of the map is a feature of its own.
    axis_name: a mapped axis whose members' moments are joined.
    mask: bool [G, n, 1, ..., 1], which rows count; None for all.
    pivot: [C], or [..., C] per activation: values near the means, for one pass over `x` instead of
      two; see `_in_one_pass`.
    packing: how the images of `x` lie side by side in its channels, if they do. `mask` and `pivot`
      have the channels of all of them then, and what is returned those of one.

  Returns:
    Moments of shape [G, 1, ..., 1, C], or [G, 1, ..., C] per activation.
  """
  axes = _reduction_axes(x, per_activation)
  wide = x.astype(_statistics_dtype(x))
  count: int | jax.Array = x.shape[1]
  if mask is not None:
    count = jnp.sum(mask, 1, wide.dtype, keepdims=True)
  for axis in axes[1:]:
    count *= x.shape[axis]
  if pivot is None:
    mean, m2 = _in_two_passes(wide, count, axes, mask)
  else:
    mean, m2 = _in_one_pass(wide, count, axes, mask, pivot)
    if x.dtype != jnp.bfloat16:  # whose own rounding is worse than what cancels in float32
      has_cancelled = jnp.any(count * jnp.square(mean - pivot) > _LARGEST_OFFSET * m2)
      mean, m2 = lax.cond(
        has_cancelled,
        lambda: _in_two_passes(wide, count, axes, mask),
        lambda: (mean, m2),
      )
  moments = Moments(count, mean, m2)
  if packing is not None:
    counts = packing.split(jnp.broadcast_to(count, mean.shape))[..., :1]
    moments = combine_moments(Moments(counts, packing.split(mean), packing.split(m2)))
    count, mean, m2 = moments.count, moments.mean, moments.m2
  if axis_name is not None:
    # One gather for all, so that a layer waits for one collective and not for three.
    one_each = jnp.broadcast_to(count, (*mean.shape[:-1], 1)).astype(mean.dtype)
    joined = jnp.concatenate([one_each, mean, m2], -1)
    parts = jnp.split(lax.all_gather(joined, axis_name), [1, 1 + mean.shape[-1]], -1)
    moments = combine_moments(Moments(*parts))
  return moments


def _in_two_passes(
  x: jax.Array, count: int | jax.Array, axes: tuple[int, ...], mask: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """The mean first, and then the squares of the deviations from it."""
  mean = jnp.sum(_masked(x, mask), axes, keepdims=True) / jnp.maximum(count, 1)
  return mean, jnp.sum(jnp.square(_masked(x - mean, mask)), axes, keepdims=True)


def _in_one_pass(
  x: jax.Array,
  count: int | jax.Array,
  axes: tuple[int, ...],
  mask: jax.Array | None,
  pivot: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Both from deviations from a pivot p: Σ(x - μ)² = Σ(x - p)² - m(μ - p)².

  An accelerator adds both up while the layer before computes `x`, which is then read once less.
  """
  shifted = _masked(x - pivot, mask)
  offset = jnp.sum(shifted, axes, keepdims=True) / jnp.maximum(count, 1)
  squares = jnp.sum(jnp.square(shifted), axes, keepdims=True)
  mean = jnp.where(jnp.asarray(count) > 0, pivot + offset, 0)
  return mean, jnp.maximum(squares - count * jnp.square(offset), 0)


def combine_moments(moments: Moments) -> Moments:
  """Joins moments along their first axis (Chan, Golub & LeVeque 1979).

  Every term is a square, so the joint `m2` cannot become negative, as E[x²] - E[x]² can.
  """
  counts = jnp.broadcast_to(moments.count, (*moments.mean.shape[:-1], 1))
  count = jnp.sum(counts, 0)
  mean = jnp.sum(counts * moments.mean, 0) / jnp.maximum(count, 1)
  between = jnp.sum(counts * jnp.square(moments.mean - mean), 0)
  return Moments(count, mean, jnp.sum(moments.m2, 0) + between)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def normalize(
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  epsilon: float,
  per_activation: bool,
  axis_name: str | None,
  mask: jax.Array | None = None,
  pivot: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Algorithm 1, the batch normalizing transform, within each group.

  Args:
    x: [G, n, ..., C], the output of `split_groups`.
    scale: γ, [C], or [..., C] per activation.
    bias: β, same shape.
    epsilon: added to the variance.
    per_activation: whether each position of the map is a feature of its own.
    axis_name: a mapped axis over which statistics are joined, or None.
    mask: bool [G, n, 1, ..., 1], which rows count; None for all. The others become β.
    pivot: see `group_moments`; it carries no gradient.

  Returns:
    y with the shape and dtype of `x`; the count, mean and m2 of `Moments`, which carry no gradient.
  """
  return _normalize_forward(x, scale, bias, epsilon, per_activation, axis_name, mask, pivot)[0]


def _normalize_forward(
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  epsilon: float,
  per_activation: bool,
  axis_name: str | None,
  mask: jax.Array | None,
  pivot: jax.Array | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array, jax.Array], tuple[Any, ...]]:
  moments = group_moments(x, per_activation, axis_name, mask, pivot)
  inverse_std = lax.rsqrt(moments.variance + epsilon)
  x_hat = _masked(x - moments.mean, mask) * inverse_std
  y = (scale * x_hat + bias).astype(x.dtype)
  count = jnp.asarray(moments.count, moments.mean.dtype)
  # x is kept by the layer before in any case; x̂ is cheaper to compute again than to keep.
  residuals = x, scale, mask, moments.count, moments.mean, inverse_std
  return (y, count, moments.mean, moments.m2), residuals


def _normalize_backward(
  per_activation: bool,
  axis_name: str | None,
  residuals: tuple[Any, ...],
  d_y: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The six equations of section 3, in their order; `d_a` stands for ∂ℓ/∂a."""
  x, scale, mask, m, mean, inverse_std = residuals
  axes = _reduction_axes(x, per_activation)
  m = jnp.maximum(m, 1)
  centred = _masked(x - mean, mask)
  d_y = _masked(d_y.astype(centred.dtype), mask)

  # γ is the same for every term of the sums in (2) and (3) and stands before them, so that these
  # sums are also the ones of (5) and (6).
  sums = jnp.sum(d_y * centred, axes, keepdims=True), jnp.sum(d_y, axes, keepdims=True)
  sum_d_y_centred, sum_d_y = sums if axis_name is None else lax.psum(sums, axis_name)

  d_x_hat = d_y * scale  # (1)
  d_variance = scale * sum_d_y_centred * -0.5 * inverse_std**3  # (2)
  d_mean = scale * sum_d_y * -inverse_std  # (3), whose second term is zero, since Σ(x - μ) = 0
  d_x = d_x_hat * inverse_std + d_variance * 2 * centred / m + d_mean / m  # (4)
  d_scale = jnp.sum(sums[0] * inverse_std, 0)  # (5)
  d_bias = jnp.sum(sums[1], 0)  # (6)
  d_x = _masked(d_x, mask).astype(x.dtype)
  return d_x, d_scale.reshape(scale.shape), d_bias.reshape(scale.shape)


@normalize.defjvp
def _normalize_jvp(
  epsilon: float,
  per_activation: bool,
  axis_name: str | None,
  primals: tuple[Any, ...],
  tangents: tuple[Any, ...],
) -> tuple[tuple[jax.Array, jax.Array, jax.Array, jax.Array], Any]:
  """Forward mode transposes the six equations; reverse mode transposes that, and has them again."""
  x, scale, bias, mask, pivot = primals
  outputs, residuals = _normalize_forward(
    x, scale, bias, epsilon, per_activation, axis_name, mask, pivot
  )
  tangent = _tangent(per_activation, axis_name)(residuals, tangents[:3])
  return outputs, (tangent, *map(jnp.zeros_like, outputs[1:]))


@functools.cache  # one function, so that layers of one shape are traced once
def _tangent(per_activation: bool, axis_name: str | None) -> Callable[..., jax.Array]:
  def tangent(residuals: tuple[Any, ...], tangents: tuple[jax.Array, ...]) -> jax.Array:
    backward = functools.partial(_normalize_backward, per_activation, axis_name, residuals)
    return jax.linear_transpose(backward, residuals[0])(tangents)[0]

  # A checkpoint, so that x is kept, and not x - μ.
  return jax.checkpoint(tangent, prevent_cse=False)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def differentiable_moments(
  x: jax.Array,
  axis_name: str | None,
  packing: Packing | None,
  mask: jax.Array | None = None,
  pivot: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The count, mean and m2 of `group_moments`, of which the last two carry gradients.

  Args:
    x: [G, n, ..., C], the output of `split_groups`.
    axis_name: a mapped axis over which they are joined, or None.
    packing: see `group_moments`.
    mask: bool [G, n, 1, ..., 1], which rows count; None for all.
    pivot: see `group_moments`; it carries no gradient.
  """
  moments = group_moments(x, False, axis_name, mask, pivot, packing)
  return jnp.asarray(moments.count, moments.mean.dtype), moments.mean, moments.m2


@differentiable_moments.defjvp
def _moments_jvp(
  axis_name: str | None,
  packing: Packing | None,
  primals: tuple[Any, ...],
  tangents: tuple[Any, ...],
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
  """As of `normalize`: what is transposed here, reverse mode transposes back."""
  x, mask, pivot = primals
  count, mean, m2 = differentiable_moments(x, axis_name, packing, mask, pivot)
  d_mean, d_m2 = _moments_tangent(axis_name, packing)((x, mask, count, mean), tangents[0])
  return (count, mean, m2), (jnp.zeros_like(count), d_mean, d_m2)


@functools.cache  # one function, so that layers of one shape are traced once
def _moments_tangent(
  axis_name: str | None, packing: Packing | None
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  def backward(
    residuals: tuple[Any, ...], gradients: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array]:
    x, mask, m, mean = residuals
    d_mean, d_m2 = gradients if axis_name is None else lax.psum(gradients, axis_name)
    d_mean, d_m2 = d_mean / jnp.maximum(m, 1), 2 * d_m2
    d_mean, d_m2, mean = (repeat(each, packing) for each in (d_mean, d_m2, mean))
    d_x = d_mean + d_m2 * _masked(x - mean, mask)
    return (_masked(d_x, mask).astype(x.dtype),)

  def tangent(residuals: tuple[Any, ...], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = residuals[-1]
    transposed = jax.linear_transpose(functools.partial(backward, residuals), (mean, mean))
    ((d_mean, d_m2),) = transposed((x,))
    return d_mean, d_m2

  return jax.checkpoint(tangent, prevent_cse=False)


def normalize_and_pool(
  x: jax.Array,
  max_pool: MaxPool | None,
  scale: jax.Array,
  bias: jax.Array,
  epsilon: float,
  groups: int,
  axis_name: str | None,
  mask: jax.Array | None = None,
  pivot: jax.Array | None = None,
  packing: Packing | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Algorithm 1 and a max pool behind it, which is computed first; also of packed images.

  Args:
    x: [N, H, W, C].
    max_pool: [N, H, W, C] → [N, H', W', C]; None for none.
    scale: γ, [C]. Where it is negative, the least value of a feature becomes the largest.
    bias: β, [C].
    epsilon: added to the variance.
    groups: of rows.
    axis_name: a mapped axis over which statistics are joined, or None.
    mask: bool [G, n, 1, 1, 1], which rows count; None for all. The others become β.
    pivot: see `group_moments`; it carries no gradient.
    packing: how the images of `x` lie side by side in its channels, if they do. `mask` has the
      channels of all of them then; γ, β and the pivot have those of one.

  Returns:
    y, [G, n, H', W', C]; the count, mean and m2 of `Moments`, which carry no gradient.
  """
  sign = jnp.ones_like(scale)
  if max_pool is not None:
    # All of `x` as γ points it, so that one array is written for the pool and for the moments.
    sign = _sign(scale)
    x = repeat(sign, packing).astype(x.dtype) * x
  pooled = split_groups(x if max_pool is None else max_pool(x), groups)
  count, mean, m2 = differentiable_moments(
    split_groups(x, groups),
    axis_name,
    packing,
    mask,
    None if pivot is None else repeat(sign * pivot, packing),
  )
  multiplier = sign * scale * lax.rsqrt(Moments(count, mean, m2).variance + epsilon)
  # The mean's gradient goes by a shift of zero, so that a layer has no more sums than the two of
  # `multiplier` and `shift`, and both of deviations.
  constant_mean = lax.stop_gradient(mean)
  shift = bias + multiplier * (constant_mean - mean)
  centred = _masked(pooled - repeat(constant_mean, packing), mask)
  y = repeat(multiplier, packing) * centred + repeat(shift, packing)
  if mask is not None:  # β there, and no gradient, whatever they hold
    y = jnp.where(mask, y, lax.stop_gradient(repeat(bias, packing)))
  return y.astype(x.dtype), count, sign * constant_mean, lax.stop_gradient(m2)


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
    row_mask: see the function of this name. A group whose unmasked rows have fewer than two values
      of each feature is taken to have the moving averages, and so does not move them.

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
      for each feature map. γ and β then fit maps of one size alone.
    per_activation_layers: patterns of `layer_names`. Where one chooses this module's place in the
      network, it is per activation; the ensemble of section 4.2.3 has it in the last hidden layers.
    frozen: patterns of `layer_names`. Where one chooses this module's place in the network, it is
      in inference mode in training, too, and its statistics stay as they are.
    use_scale: whether γ is learned; 1 otherwise.
    use_bias: whether β is learned; 0 otherwise.
    moments_in_one_pass: whether a batch's moments are taken in one pass over it, with the moving
      averages as pivots, which is fast on accelerators; and in two where that would not be exact.
  """

  decay: float = 0.9997
  epsilon: float = 1e-3
  unbiased_running_variance: bool = True
  virtual_batch_size: int | None = None
  axis_name: str | None = None
  per_activation: bool = False
  per_activation_layers: tuple[str, ...] = ()
  frozen: tuple[str, ...] = ()
  use_scale: bool = True
  use_bias: bool = True
  moments_in_one_pass: bool = False

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool,
    max_pool: MaxPool | None = None,
    packing: Packing | None = None,
  ) -> jax.Array:
    """Normalises `x`.

    Args:
      x: [N, ..., C]; with bfloat16 or float16, statistics and arithmetic are in float32.
      train: whether to use the statistics of this batch and to update the moving averages.
      max_pool: [N, H, W, C] → [N, H', W', C], what is done to the normalised values. It chooses
        among those of a feature, and so is computed first: fewer are left to normalise.
      packing: how the images of `x` lie side by side in its channels, if they do.

    Returns:
      Array with the dtype of `x`, and its shape where nothing is pooled.

    Raises:
      ValueError: the rows do not divide into groups of `virtual_batch_size`, or a group holds a
        single value of each feature, whose normalised value would always be zero; or there is a
        `max_pool` or a `packing`, and each activation is a feature of its own.
    """
    per_activation = self.per_activation or layer_names.is_chosen(
      self.path, self.per_activation_layers
    )
    if per_activation and (max_pool is not None or packing is not None):
      raise ValueError("What is normalised per activation cannot be pooled before, or packed.")
    images = 1 if packing is None else packing.images
    shape = x.shape[1:] if per_activation else (x.shape[-1] // images,)
    dtype = _statistics_dtype(x)
    scale = self.param("scale", nn.initializers.ones, shape) if self.use_scale else jnp.ones(shape)
    bias = self.param("bias", nn.initializers.zeros, shape) if self.use_bias else jnp.zeros(shape)
    scale, bias = scale.astype(dtype), bias.astype(dtype)
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    running_var = self.variable("batch_stats", "var", jnp.ones, shape)

    if not train or layer_names.is_chosen(self.path, self.frozen):
      # Algorithm 2, line 11, as one multiplication and one addition.
      multiplier = scale * lax.rsqrt(running_var.value.astype(dtype) + self.epsilon)
      shift = bias - multiplier * running_mean.value
      if max_pool is not None:
        sign = _sign(multiplier)
        x = max_pool(repeat(sign, packing).astype(x.dtype) * x)
        multiplier *= sign
      return (repeat(multiplier, packing) * x + repeat(shift, packing)).astype(x.dtype)

    axis_name = None if self.is_initializing() else self.axis_name
    groups = self._groups(images * x.shape[0])
    grouped, mask = split_groups(x, groups), self._grouped_mask(x, groups, packing)
    pivot = running_mean.value.astype(dtype) if self.moments_in_one_pass else None
    if max_pool is None and packing is None:
      y, *moments = normalize(
        grouped, scale, bias, self.epsilon, per_activation, axis_name, mask, pivot
      )
    else:
      y, *moments = normalize_and_pool(
        x, max_pool, scale, bias, self.epsilon, groups, axis_name, mask, pivot, packing
      )
    if not self.is_initializing():
      members = 1 if axis_name is None else lax.axis_size(axis_name)
      if members * grouped.size // moments[1].size < 2:
        raise ValueError(
          f"Batch normalization in training needs more than one value of each feature, but a group "
          f"of shape {grouped.shape[1:]} has one. Take a larger batch or virtual_batch_size."
        )
      self._record(Moments(*moments), running_mean, running_var, shape)
    return y.reshape(x.shape[0], *y.shape[2:])

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

  def _grouped_mask(self, x: jax.Array, groups: int, packing: Packing | None) -> jax.Array | None:
    # All modules of a model read the one mask at its root.
    mask = self.scope.root.get_variable(_ROW_MASK, "rows") if self.scope else None
    if mask is None:
      return None
    rows = x.shape[0] if packing is None else packing.images * x.shape[0]
    if mask.shape != (rows,):
      raise ValueError(f"A mask of shape {mask.shape} is not that of {rows} rows.")
    if packing is None:
      return split_groups(mask.reshape(-1, *[1] * (x.ndim - 1)), groups)
    return split_groups(packing.pack_mask(mask, x.shape[-1] // packing.images), groups)

  def _record(
    self, moments: Moments, mean: nn.Variable, var: nn.Variable, shape: tuple[int, ...]
  ) -> None:
    """Updates the moving averages, and leaves this batch's moments where they are asked for."""
    known = moments.count > 1
    unbiased, biased = moments.unbiased_variance, moments.variance

    def average(of_groups: jax.Array, running: jax.Array) -> jax.Array:
      return jnp.mean(jnp.where(known, of_groups, running), 0).reshape(shape)

    def moved(running: jax.Array, of_groups: jax.Array) -> jax.Array:
      # By differences, which are zero, and so move nothing, where no group is known.
      change = jnp.mean(jnp.where(known, of_groups - running, 0), 0).reshape(shape)
      return running + (1 - self.decay) * change

    if self.is_mutable_collection("batch_moments"):
      self.put_variable("batch_moments", "mean", average(moments.mean, mean.value))
      self.put_variable("batch_moments", "var", average(unbiased, var.value))
    if self.is_mutable_collection("batch_stats"):
      mean.value = moved(mean.value, moments.mean)
      var.value = moved(var.value, unbiased if self.unbiased_running_variance else biased)


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


def _sign(multiplier: jax.Array) -> jax.Array:
  """-1 for the features that it turns round, 1 for the others."""
  return jnp.where(multiplier < 0, -1, 1).astype(multiplier.dtype)


def _reduction_axes(x: jax.Array, per_activation: bool) -> tuple[int, ...]:
  """Axes of [G, n, ..., C] that statistics are taken over."""
  return (1,) if per_activation else tuple(range(1, x.ndim - 1))


def _masked(values: jax.Array, mask: jax.Array | None) -> jax.Array:
  """Zeros in the rows that do not count, whatever they hold: 0·∞ would be NaN."""
  return values if mask is None else jnp.where(mask, values, 0)


def _statistics_dtype(x: jax.Array) -> jnp.dtype:
  return jnp.promote_types(x.dtype, jnp.float32)
