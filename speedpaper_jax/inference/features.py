"""Image files → features of a network, batch by batch."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jax.sharding import Mesh

from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError, did_you_mean, warn
from speedpaper_jax.inference.evaluation import divisible_batch_size
from speedpaper_jax.inference.image_batches import image_batches
from speedpaper_jax.inference.model_directory import LoadedModel
from speedpaper_jax.models import features
from speedpaper_jax.steps import build
from speedpaper_jax.steps.evaluation import make_features_step


def extract(
  model: LoadedModel,
  mesh: Mesh,
  paths: Sequence[pathlib.Path],
  *,
  batch_size: int,
  stage: str | None = None,
  pooled: bool = True,
  dtype: str = "float32",
) -> Iterator[tuple[list[pathlib.Path], np.ndarray]]:
  """Computes the features of image files, in their order; progress goes to standard error.

  Args:
    model: the network.
    mesh: the devices that it was loaded for.
    paths: of the images.
    batch_size: images at a time, rounded up until it divides over the devices.
    stage: whose maps, see `stages`; None for what the softmax layer sees.
    pooled: whether to take the mean over a stage's maps.
    dtype: of the network's activations and arithmetic, "float32" or "bfloat16".

  Yields:
    Files, and their features, float32 [N, C] or [N, H, W, C]. A file that cannot be read, or whose
    features are not finite, is left out with a warning.

  Raises:
    UserError: there is no such stage.
  """
  network, variables = build.fold_batch_norm(model.network, model.variables, mesh)
  settings = dataclasses.replace(network.settings, dtype=jnp.dtype(dtype))
  network = network.clone(settings=settings)
  preprocessing = model.description.preprocessing
  crop = preprocessing.crop
  if stage is not None:
    valid = stages(network, variables, crop.image_size)
    if stage not in valid:
      raise UserError(
        f"{model.description.name} has no stage '{stage}'.{did_you_mean(stage, valid)}"
      )
  step = make_features_step(network, preprocessing.normalization, stage, pooled=pooled)
  compiled = parallel.jit_on_mesh(step, mesh)
  rows = divisible_batch_size(min(batch_size, len(paths)), mesh)
  with tqdm.tqdm(total=len(paths), unit="images", leave=False) as bar:
    for batch in image_batches(paths, crop, rows):
      inputs = parallel.shard_batch(mesh, {"image": batch.pixels})
      values = np.asarray(jax.device_get(compiled(variables, inputs)), np.float32)
      kept = [
        row
        for row, path in enumerate(batch.paths)
        if batch.is_there[row] and _is_finite(values[row], path)
      ]
      bar.update(len(batch.paths))
      yield [batch.paths[row] for row in kept], values[kept]


def stages(network: nn.Module, variables: Mapping[str, Any], image_size: int) -> list[str]:
  """The names of a network's stages, in alphabetical order."""
  images = jnp.zeros((1, image_size, image_size, 3))
  found = jax.eval_shape(
    lambda variables: features.extract_features(network, variables, images), variables
  )
  return sorted(found)


def _is_finite(values: np.ndarray, path: pathlib.Path) -> bool:
  if np.isfinite(values).all():
    return True
  warn(f"'{path}' is left out: its features are no finite numbers; the weights may be damaged.")
  return False
