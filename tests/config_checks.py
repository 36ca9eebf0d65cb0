"""What holds for every config of the "train" experiment."""

import jax
import jax.numpy as jnp

from speedpaper_jax.config import ranges
from speedpaper_jax.config.data_sets import DATA_SETS
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.distributed import parallel
from speedpaper_jax.steps import assembly, build

# A folder's are as many as it has folders.
CLASSES = {name: data_set.num_classes or 7 for name, data_set in DATA_SETS.items()}


def epochs(text):
  """A duration in epochs."""
  return Durations(batch_size=1, epoch_size=1).steps(text, "")


def check_values(config, data):
  """They are in range, and everything but weights can be built from them; returns the network."""
  assert config.data.name == data
  ranges.check(config)
  durations = Durations(config.batch_size, 50_000)
  build.build_optimizer(config, build.build_schedule(config, durations))
  build.build_augmentation(config)
  for interval in (config.log_every, config.eval_every):
    assert durations.whole_steps(interval, "") > 0
  return build.build_model(config, CLASSES[data], parallel.make_mesh())


def check_shapes(config, data):
  """The network takes images of the config's size; returns the shapes of training's state."""
  check_values(config, data)
  config, mesh = assembly.prepare(config)
  parts = assembly.assemble(config, mesh, CLASSES[data], epoch_size=50_000)
  state, size = parts.state_template, config.data.image_size
  logits = jax.eval_shape(
    lambda variables: parts.model.apply(variables, jnp.zeros((2, size, size, 3)), train=False),
    state.evaluated,
  )
  assert logits.shape == (2, CLASSES[data])
  return state


def check_rmsprop_recipe(config):
  """On ImageNet, what Inception-v3, Inception-v4 and the Inception-ResNets have in common."""
  optimizer = config.optimizer
  assert (optimizer.name, optimizer.rmsprop.momentum) == ("rmsprop", 0.9)
  assert (optimizer.rmsprop.decay, optimizer.rmsprop.eps) == (0.9, 1.0)
  assert optimizer.learning_rate == 0.045
  assert optimizer.l2 == 4e-5
  assert config.batch_size == optimizer.base_batch_size
  schedule = optimizer.schedule
  assert (schedule.name, schedule.factor, schedule.staircase) == ("exponential", 0.94, True)
  assert epochs(schedule.interval) == 2
  assert config.average_decay == 0.9999
  assert config.model.dropout_rate == 0.2  # 0.8 are kept
  assert (config.batch_norm.statistics, config.batch_norm.virtual_batch_size) == ("group", 32)
  assert (config.batch_norm.decay, config.batch_norm.epsilon) == (0.9997, None)
  assert config.data.image_size == 299
  assert config.data.augmentation.area_range == (0.05, 1.0)
