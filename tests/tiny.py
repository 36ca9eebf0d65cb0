"""Training with a network that compiles in a moment, in this process or in one of its own.

`python tests/tiny.py …` is `python -m speedpaper_jax.main …` with that network, and with steps that
take as long as `SECONDS_PER_STEP` says, so that there is time to interrupt them.
"""

import os
import time

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax import main
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.distributed import parallel
from speedpaper_jax.inference import model_directory
from speedpaper_jax.models import registry
from speedpaper_jax.models.layers import ConvBlock, Dropout, LayerSettings
from speedpaper_jax.steps import build
from speedpaper_jax.training.progress import Progress

# Of a run of 12 steps with a line for each and checkpoints at 4, 8 and 12.
SETTINGS = {
  "data.image_size": 16,
  "data.augmentation.shift": 2,
  "batch_size": 8,
  "duration": "12 steps",
  "checkpoint_every": "4 steps",
  "log_every": "1 steps",
  "eval_every": "0 steps",
  "average_decay": 0.9,
  "decay_batch_size": 8,
}


class TinyNetwork(nn.Module):
  """A convolution with batch normalization, dropout and a softmax layer."""

  num_classes: int
  settings: LayerSettings

  @nn.compact
  def __call__(self, images, *, train):
    x = ConvBlock(8, (3, 3), self.settings, strides=4, name="conv")(images, train=train)
    x = Dropout(0.1)(x.reshape(x.shape[0], -1), train=train)
    return nn.Dense(self.num_classes, name="logits")(x).astype(jnp.float32)


def create(name, dialect="paper", *, num_classes, settings, **fields):
  """In place of `registry.create`."""
  return TinyNetwork(num_classes, settings)


def write_model_directory(path, class_names, preprocessing):
  """Writes random weights."""
  config = train_config()
  config.data.image_size = preprocessing.crop.image_size
  network = build.build_inference_model(config, len(class_names), parallel.make_mesh())
  images = jnp.zeros((1, config.data.image_size, config.data.image_size, 3))
  variables = network.init(jax.random.key(3), images, train=False)
  description = model_directory.ModelDescription(
    name=config.model.name,
    dialect=config.model.dialect,
    num_classes=len(class_names),
    class_names=class_names,
    preprocessing=preprocessing,
    source="a test",
  )
  model_directory.write(path, config, description.to_json(), variables)


def show_slowly(show, seconds):
  """A `Progress.train` that takes its time."""

  def show_and_sleep(self, *arguments, **named):
    show(self, *arguments, **named)
    time.sleep(seconds)

  return show_and_sleep


if __name__ == "__main__":
  registry.create = create
  Progress.train = show_slowly(Progress.train, float(os.environ["SECONDS_PER_STEP"]))
  entry_point.run(main.main, main.parse)
