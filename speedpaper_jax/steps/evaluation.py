"""One step of evaluation, prediction and features: pure functions of variables and batch."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from speedpaper_jax.data.normalization import DEFAULT, Normalization
from speedpaper_jax.data.windows import Windows
from speedpaper_jax.models import features, heads
from speedpaper_jax.models.batch_norm import row_mask
from speedpaper_jax.steps.step import Batch

PyTree = Any


def make_answers_step(
  model: nn.Module,
  normalization: Normalization = DEFAULT,
  windows: Windows | None = None,
  among: np.ndarray | None = None,
) -> Callable[[Mapping[str, PyTree], Batch], dict[str, jax.Array]]:
  """Builds `answers_step(variables, batch) → answers`.

  They are `mask` and `label` [N] of the batch, and `log_probabilities` [N, num_classes], at least
  float32.

  Args:
    model: the network.
    normalization: of its input.
    windows: where the crops lie in `image` [N, sheets, H, W, 3], whose probabilities are averaged;
      None where it is one image each, [N, H, W, 3].
    among: bool [num_classes], the classes that an image may be of, where these are not all: the
      others have probability zero.
  """

  def answers_step(variables: Mapping[str, PyTree], batch: Batch) -> dict[str, jax.Array]:
    log_p = _log_probabilities(model, normalization, windows, variables, batch["image"], among)
    return {
      "mask": batch["mask"],
      "label": batch["label"],
      "log_probabilities": heads.at_least_float32(log_p),
    }

  return answers_step


def _log_probabilities(
  model: nn.Module,
  normalization: Normalization,
  windows: Windows | None,
  variables: Mapping[str, PyTree],
  images: jax.Array,
  among: np.ndarray | None = None,
) -> jax.Array:
  """[N, num_classes]; of several crops the logarithm of the mean of their probabilities."""

  def of_crops(crops: jax.Array) -> jax.Array:
    logits: Any = model.apply(variables, normalization.apply(crops), train=False)
    return jax.nn.log_softmax(logits if among is None else jnp.where(among, logits, -jnp.inf))

  if windows is None:
    return of_crops(images)
  side = windows.side

  def add_sheet(total: jax.Array, sheet_and_corners: Any) -> tuple[jax.Array, None]:
    sheet, corners = sheet_and_corners
    cut = jax.vmap(
      lambda corner: lax.dynamic_slice(
        sheet, (0, corner[0], corner[1], 0), (len(sheet), side, side, 3)
      ),
      out_axes=1,
    )(corners)
    crops = jnp.concatenate([cut, cut[..., ::-1, :]], axis=1)
    of_each = of_crops(crops.reshape(-1, side, side, 3)).reshape(*crops.shape[:2], -1)
    return jnp.logaddexp(total, jax.nn.logsumexp(of_each, axis=1)), None

  # One sheet at a time, so that the memory does not grow with the number of crops.
  one_crop = jax.ShapeDtypeStruct((len(images), side, side, 3), images.dtype)
  of_one = jax.eval_shape(of_crops, one_crop)
  nothing = jnp.full(of_one.shape, -jnp.inf, of_one.dtype)
  by_sheets = (jnp.swapaxes(images, 0, 1), jnp.asarray(windows.corners))
  total, _ = lax.scan(add_sheet, nothing, by_sheets)
  return total - jnp.log(jnp.asarray(windows.crops, total.dtype))


def make_predict_step(
  model: nn.Module, normalization: Normalization = DEFAULT
) -> Callable[[Mapping[str, PyTree], Mapping[str, jax.Array]], jax.Array]:
  """Builds `predict_step(variables, batch) → probabilities [N, num_classes]`."""

  def predict_step(variables: Mapping[str, PyTree], batch: Mapping[str, jax.Array]) -> jax.Array:
    logits: Any = model.apply(variables, normalization.apply(batch["image"]), train=False)
    return jax.nn.softmax(logits)

  return predict_step


def make_features_step(
  model: nn.Module,
  normalization: Normalization,
  stage: str | None = None,
  *,
  pooled: bool = True,
) -> Callable[[Mapping[str, PyTree], Mapping[str, jax.Array]], jax.Array]:
  """Builds `features_step(variables, batch) → features`, at least float32.

  Args:
    model: the network.
    normalization: of its input.
    stage: whose maps; None for what the softmax layer sees, [N, C].
    pooled: whether to take the mean over a stage's maps, [N, C], rather than them, [N, H, W, C].
  """

  def features_step(variables: Mapping[str, PyTree], batch: Mapping[str, jax.Array]) -> jax.Array:
    inputs = normalization.apply(batch["image"])
    if stage is None:
      pooled_features: Any = model.clone(num_classes=0).apply(variables, inputs, train=False)
      return pooled_features
    maps = heads.at_least_float32(features.extract_features(model, variables, inputs)[stage])
    return jnp.mean(maps, (1, 2)) if pooled else maps

  return features_step


def make_moments_step(
  model: nn.Module, normalization: Normalization = DEFAULT
) -> Callable[[Mapping[str, PyTree], Batch], PyTree]:
  """Builds `moments_step(variables, batch) → batch_moments`, for Algorithm 2.

  Dropout draws from a fixed key; in FaceNet's head alone it comes before a batch normalization.
  """

  def moments_step(variables: Mapping[str, PyTree], batch: Batch) -> PyTree:
    _, updated = model.apply(
      {**variables, **row_mask(batch["mask"])},
      normalization.apply(batch["image"]),
      train=True,
      mutable=["batch_moments"],
      rngs={"dropout": jax.random.key(0)},
    )
    return updated.get("batch_moments", {})  # of what is frozen there are none

  return moments_step
