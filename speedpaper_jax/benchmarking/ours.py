"""This package: the step that `speedpaper_jax.main` trains with, and the one that predicts."""

from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from speedpaper_jax.benchmarking import jax_programs
from speedpaper_jax.benchmarking.clock import Clock
from speedpaper_jax.benchmarking.work import (
  LEARNING_RATE,
  MOMENTUM,
  NUM_CLASSES,
  Side,
  Work,
  images_and_labels,
)
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.config import train_config
from speedpaper_jax.distributed import parallel
from speedpaper_jax.models import registry
from speedpaper_jax.steps import assembly, build
from speedpaper_jax.steps.evaluation import make_predict_step


def build_side(work: Work, clock: Clock) -> Side:
  """Compiles the step."""
  entry_point.set_up_jax()
  config, mesh = assembly.prepare(_config(work), jax.devices()[:1])
  parts = assembly.assemble(config, mesh, NUM_CLASSES, epoch_size=2**20)
  state = parts.initial_state()
  sizes = jax_programs.sizes(state.params)
  images, labels = images_and_labels(work)
  clock.lap("network")
  if work.mode == "training":
    mask = np.ones(work.batch_size, np.float32)
    batch = parallel.shard_batch(mesh, {"image": images, "label": labels, "mask": mask})
    step = assembly.compile_step(parts)
    clock.lap("compiling")
    return jax_programs.training_side(step, state, batch, sizes)
  batch = parallel.shard_batch(mesh, {"image": images})
  program, variables = _inference(config, mesh, state, batch)
  clock.lap("compiling")
  return jax_programs.inference_side(program, variables, batch, sizes)


def _config(work: Work) -> ml_collections.ConfigDict:
  config = train_config()
  config.model.name, config.model.dialect = work.model, work.dialect
  config.model.dtype = work.dtype
  dialect = registry.find_dialect(work.model, work.dialect)
  config.batch_norm.enabled = dialect.batch_norm is not None
  config.data.image_size = work.image_size
  config.batch_size = config.optimizer.base_batch_size = work.batch_size
  config.optimizer.learning_rate = LEARNING_RATE
  config.optimizer.sgd.momentum = MOMENTUM
  return config


def _inference(
  config: ml_collections.ConfigDict, mesh: Mesh, state: Any, batch: Any
) -> tuple[jax.stages.Compiled, Any]:
  network = build.build_inference_model(config, NUM_CLASSES, mesh)
  network, variables = build.fold_batch_norm(network, state.evaluated, mesh)
  step = make_predict_step(network)
  return parallel.jit_on_mesh(step, mesh).lower(variables, batch).compile(), variables
