"""One step of training, as a pure function of state and batch."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from speedpaper_jax.data import distortions
from speedpaper_jax.data.normalization import DEFAULT, Normalization
from speedpaper_jax.models import layer_names
from speedpaper_jax.models.batch_norm import row_mask
from speedpaper_jax.models.features import AUX_LOGITS
from speedpaper_jax.steps import optim
from speedpaper_jax.steps.mixing import NO_MIXING, Mixing, mix

PyTree = Any
Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]

_OF_MIXING = 2**31  # folded into a step's key; no micro-batch has this number


def batch_template(
  rows: int, image_size: int, with_distortion: bool = False
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and dtypes of a batch.

  They are RGB images, classes, and 1 for the rows that count; and the numbers of each image's
  distortion, where that is a part of the step.
  """
  template = {
    "image": jax.ShapeDtypeStruct((rows, image_size, image_size, 3), jnp.uint8),
    "label": jax.ShapeDtypeStruct((rows,), jnp.int32),
    "mask": jax.ShapeDtypeStruct((rows,), jnp.float32),
  }
  if with_distortion:
    template["distortion"] = jax.ShapeDtypeStruct((rows, distortions.NUMBERS), jnp.int32)
  return template


class TrainState(flax.struct.PyTreeNode):
  """All that training carries from step to step.

  Attributes:
    step: int32, optimiser steps taken.
    examples: uint32, position in the data: examples seen, over all devices.
    params: float32 parameters.
    batch_stats: the running statistics of batch normalization.
    opt_state: Optax's.
    average: moving average {"params", "batch_stats"}, or None.
  """

  step: jax.Array
  examples: jax.Array
  params: PyTree
  batch_stats: PyTree
  opt_state: optax.OptState
  average: PyTree | None

  @classmethod
  def create(
    cls,
    variables: Mapping[str, PyTree],
    optimizer: optax.GradientTransformation,
    with_average: bool,
  ) -> "TrainState":
    """The state before the first step, from what the model's `init` returns."""
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # A copy, because the step donates its buffers and a buffer can be donated once only.
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
    return cls(
      step=jnp.zeros((), jnp.int32),
      examples=jnp.zeros((), jnp.uint32),
      params=params,
      batch_stats=batch_stats,
      opt_state=optimizer.init(params),
      average=average if with_average else None,
    )

  @property
  def evaluated(self) -> dict[str, PyTree]:
    """The variables that evaluation uses: the moving average where there is one."""
    if self.average is not None:
      return self.average
    return {"params": self.params, "batch_stats": self.batch_stats}


def example_metrics(
  logits: jax.Array,
  batch: Batch,
  label_smoothing: float = 0.0,
  class_weights: np.ndarray | None = None,
) -> Metrics:
  """Sums over the valid rows of a batch.

  Args:
    logits: [N, num_classes].
    batch: `label` int32 [N] and `mask` float32 [N], 1 for the rows that count; of mixed images
      `other_label` and `share`, too, see `mixing`.
    label_smoothing: ε; each class's target is (1-ε)·[is the label] + ε/num_classes.
    class_weights: [num_classes], of each class's term of the loss; None for 1.

  Returns:
    Scalars: `loss`, `top1`, `top5` and `count`, each summed over the rows.
  """
  labels, mask = batch["label"], batch["mask"]
  label_logits = jnp.take_along_axis(logits, labels[:, None], axis=-1)
  # Classes that come before the label when sorted by logit, ties by index as `top_k` breaks them;
  # rank zero is a top-1 hit. A NaN compares with nothing: a row that has one counts as wrong.
  classes = jnp.arange(logits.shape[-1])
  before = (logits > label_logits) | ((logits == label_logits) & (classes < labels[:, None]))
  rank = jnp.sum(before, axis=-1)
  ranked = mask * ~jnp.any(jnp.isnan(logits), axis=-1)
  return {
    "loss": _summed_cross_entropy(logits, batch, label_smoothing, class_weights),
    "top1": jnp.sum((rank < 1) * ranked),
    "top5": jnp.sum((rank < 5) * ranked),
    "count": jnp.sum(mask),
  }


def _summed_cross_entropy(
  logits: jax.Array, batch: Batch, label_smoothing: float, class_weights: np.ndarray | None
) -> jax.Array:
  num_classes = logits.shape[-1]
  targets = jax.nn.one_hot(batch["label"], num_classes)
  if "share" in batch:
    share = batch["share"][:, None]
    targets = share * targets + (1 - share) * jax.nn.one_hot(batch["other_label"], num_classes)
  targets = optax.smooth_labels(targets, label_smoothing)
  if class_weights is not None:
    targets *= class_weights
  # `where`, because a masked row's logits and loss may be infinite, and 0·∞ is NaN: in the gradient
  # if the logits are not put aside, too.
  counts = batch["mask"] > 0
  logits = jnp.where(counts[:, None], logits, 0.0)
  loss = optax.softmax_cross_entropy(logits, targets.astype(logits.dtype))
  return jnp.sum(jnp.where(counts, loss, 0.0))


def make_train_step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  label_smoothing: float = 0.0,
  class_weights: np.ndarray | None = None,
  aux_weight: float = 0.0,
  mixing: Mixing = NO_MIXING,
  accumulation_steps: int = 1,
  average_decay: float = 0.0,
  normalization: Normalization = DEFAULT,
  frozen: tuple[str, ...] = (),
  axis_name: str | None = None,
  gradient_sum_dtype: jnp.dtype | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """Builds `train_step(state, batch) → state, metrics`.

  Args:
    model: called as `model.apply(variables, images, train=True)`; it may leave the logits of
      auxiliary heads in the collection "aux_logits".
    optimizer: an Optax transformation.
    seed: with the step number it determines every random draw.
    label_smoothing: ε, of all heads.
    class_weights: [num_classes], of each class's term in the loss of all heads; None for 1.
    aux_weight: of each auxiliary head's cross-entropy in the loss (GoogLeNet's paper, section 5).
    mixing: of neighbouring images.
    accumulation_steps: the batch is worked through in this many micro-batches, each with batch
      statistics of its own; micro-batch j holds the rows j, j + k, j + 2k, …, so that none moves
      between devices.
    average_decay: of the moving average of parameters and batch_stats; 0 for none.
    normalization: of the images.
    frozen: patterns of `layer_names`; what they choose stays as it is, to the bit. The model's
      batch normalizations are in inference mode where they have the same patterns.
    axis_name: a mapped axis over devices, each with its own rows. None under plain `jit`.
    gradient_sum_dtype: to which gradients are rounded before they are summed over `axis_name`, but
      for those of γ and β, which no network computes in less than float32; None for their own.

  Returns:
    A pure function. Its batches hold `image` uint8 [N, H, W, 3], `label` int32 [N] and `mask`
    float32 [N]; rows of mask 0 have no part in gradients and batch statistics. Where they hold the
    numbers of a `distortion`, the images are distorted first. Its metrics are
    `example_metrics` over the whole batch, and `gradient_norm`. Its `loss` is the one that is
    minimised, auxiliary heads included, while evaluation's is the main head's alone. Of mixed
    images it counts the class with the larger share.
  """

  def held(params: PyTree) -> PyTree:
    """Nothing is computed for the gradient of what is frozen, which is zero."""
    is_frozen = layer_names.mask(params, frozen)
    return jax.tree.map(lambda x, stop: lax.stop_gradient(x) if stop else x, params, is_frozen)

  def kept(before: PyTree, after: PyTree) -> PyTree:
    """What is frozen as before; it may have been rounded, or decayed by the optimiser."""
    is_frozen = layer_names.mask(before, frozen)
    return jax.tree.map(lambda keep, x, y: x if keep else y, is_frozen, before, after)

  def summed_loss(
    params: PyTree, batch_stats: PyTree, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Metrics, PyTree]]:
    images = batch["image"]
    if "distortion" in batch:
      images = distortions.on_device(images, batch["distortion"])
    images = normalization.apply(images)
    if mixing:
      images, batch = mix(images, batch, mixing, jax.random.fold_in(key, _OF_MIXING), axis_name)
    logits, updated = model.apply(
      {"params": held(params), "batch_stats": batch_stats, **row_mask(batch["mask"])},
      images,
      train=True,
      mutable=["batch_stats", AUX_LOGITS],
      rngs={"dropout": key},
    )
    metrics = example_metrics(logits, batch, label_smoothing, class_weights)
    for aux_logits in updated.get(AUX_LOGITS, {}).values():
      metrics["loss"] += aux_weight * _summed_cross_entropy(
        aux_logits, batch, label_smoothing, class_weights
      )
    return metrics["loss"], (metrics, updated.get("batch_stats", {}))

  def gradients(state: TrainState, batch: Batch, key: jax.Array) -> tuple[PyTree, Metrics, PyTree]:
    """Gradients and metrics summed over the rows, and the new batch_stats."""
    gradient = jax.grad(summed_loss, has_aux=True)
    if accumulation_steps == 1:
      grads, (metrics, batch_stats) = gradient(state.params, state.batch_stats, batch, key)
      return grads, metrics, batch_stats

    def one_micro_batch(carry: Any, index_and_rows: Any) -> Any:
      total, batch_stats = carry
      index, rows = index_and_rows
      micro_key = jax.random.fold_in(key, index)
      grads, (metrics, batch_stats) = gradient(state.params, batch_stats, rows, micro_key)
      return (jax.tree.map(jnp.add, total, (grads, metrics)), batch_stats), None

    micro_batches = jax.tree.map(
      lambda x: jnp.swapaxes(x.reshape(-1, accumulation_steps, *x.shape[1:]), 0, 1), batch
    )
    shapes = jax.eval_shape(
      gradient, state.params, state.batch_stats, jax.tree.map(lambda x: x[0], micro_batches), key
    )
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[1][0]))
    ((grads, metrics), batch_stats), _ = lax.scan(
      one_micro_batch,
      (zeros, state.batch_stats),
      (jnp.arange(accumulation_steps), micro_batches),
    )
    return grads, metrics, batch_stats

  def rounded(grads: PyTree, batch_stats: PyTree) -> PyTree:
    """As they are to be summed."""
    normalizing = {path[:-1] for path, _ in jax.tree.leaves_with_path(batch_stats)}
    return jax.tree.map_with_path(
      lambda path, g: g if path[:-1] in normalizing else g.astype(gradient_sum_dtype), grads
    )

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    grads, metrics, batch_stats = gradients(state, batch, key)
    rows = batch["label"].shape[0]
    if axis_name is not None:
      if gradient_sum_dtype is not None:
        grads = rounded(grads, batch_stats)
      # The one exchange between devices, apart from joint batch statistics.
      grads, metrics, batch_stats = lax.psum((grads, metrics, batch_stats), axis_name)
      grads = jax.tree.map(lambda g, x: g.astype(x.dtype), grads, state.params)
      batch_stats = jax.tree.map(lambda x: x / lax.axis_size(axis_name), batch_stats)
      rows *= lax.axis_size(axis_name)
    count = jnp.maximum(metrics["count"], 1)
    grads = jax.tree.map(lambda g: g / count.astype(g.dtype), grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = kept(state.params, optax.apply_updates(state.params, updates))
    batch_stats = kept(state.batch_stats, batch_stats)
    average = state.average
    if average is not None:
      decay = optim.averaging_decay(average_decay, state.step)
      new = {"params": params, "batch_stats": batch_stats}
      moved = optax.incremental_update(new, average, 1 - decay)
      average = {part: kept(new[part], moved[part]) for part in new}
    metrics["gradient_norm"] = optax.tree.norm(grads)
    state = TrainState(
      step=state.step + 1,
      examples=state.examples + jnp.uint32(rows),
      params=params,
      batch_stats=batch_stats,
      opt_state=opt_state,
      average=average,
    )
    return state, metrics

  return train_step
