r"""The small Inception with and without batch normalization, with and without weight decay.

  python -m speedpaper_jax.main --config=configs/small_inception.py
  python -m speedpaper_jax.main --config=configs/small_inception.py:data=mnist
  python -m speedpaper_jax.main --config=configs/small_inception.py:data=cifar10 \
    --config.seeds="(0,1,2)"

Zhang et al. (arXiv 1611.03530) print its accuracy on CIFAR-10 for all four: what does each of the
two add? The network is theirs (Figure 3), and so are the images, the middle 28×28 pixels, each
whitened by itself and none distorted, SGD with momentum 0.9, the rate, 0.1 for a batch of 128, and
its fall to 95 % every epoch. The paper prints neither the coefficient of weight decay nor the
length of training: ours are 4e-5, that of the larger Inceptions, and 100 epochs.

`data` is digits (embedded, the default), mnist or fashion_mnist (a tenth of their training images),
or cifar10 (all, in batches of 128, the work of a GPU). Shorter runs go through the same rates in
their own time, in batches of 32 with the rate in proportion, for four times as many steps.
`--config.rate_factors="(0.1,0.3,1)"` gives each of the four the same search: the first seed is
trained at each of so many times the paper's rate, and the best counts. Random crops, with which the
paper has two more rows, are `--config.base.data.augmentation.crop=random`.

3 minutes on two CPU cores; 42 on MNIST.
"""

import dataclasses

import ml_collections

from speedpaper_jax.config import parse_arguments, train_config
from speedpaper_jax.experiments import arms, sweep

BATCH = 128
SMALL_BATCH = 32  # ours, of short runs
EPOCHS = 100  # of the whole recipe, ours; the rate falls to 0.6 %
WEIGHT_DECAY = 4e-5  # ours


@dataclasses.dataclass(frozen=True)
class Images:
  """How a data set is trained on.

  Attributes:
    epochs: of each network.
    image_size: pixels.
    central_fraction: each side of the part that is seen, as a part of the image's.
    train_split: images to train on.
    eval_split: held-out images.
    is_short: whether moving averages would lag behind at its end.
  """

  epochs: float
  image_size: int = 28
  central_fraction: float = 1.0
  train_split: str = "train"
  eval_split: str = "test"
  is_short: bool = True


DATA = {
  "digits": Images(15, image_size=8),
  "mnist": Images(6, train_split="train[:10%]", eval_split="test[:1000]"),
  "fashion_mnist": Images(6, train_split="train[:10%]", eval_split="test[:1000]"),
  "cifar10": Images(EPOCHS, central_fraction=28 / 32, is_short=False),
}


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the four networks on one data set."""
  name = parse_arguments(arguments, data=list(DATA))["data"]
  images = DATA[name]
  base = train_config()
  base.model.name = "small_inception"
  base.batch_norm.decay = 0.99  # ours, of a batch of 128
  base.decay_batch_size = BATCH
  if images.is_short:
    base.batch_norm.inference = "population"
    base.batch_norm.population_batches = 8

  base.data.name = name
  base.data.train_split = images.train_split
  base.data.eval_split = images.eval_split
  base.data.image_size = images.image_size
  base.data.per_image_whitening = True
  base.data.eval_central_fraction = images.central_fraction
  base.data.augmentation.crop = "central"
  base.data.augmentation.crop_fraction = images.central_fraction

  base.batch_size = SMALL_BATCH if images.is_short else BATCH
  base.duration = f"{images.epochs:g} epochs"
  base.optimizer.name = "sgd"
  base.optimizer.sgd.momentum = 0.9
  base.optimizer.learning_rate = 0.1
  base.optimizer.base_batch_size = BATCH
  base.optimizer.l2 = WEIGHT_DECAY
  base.optimizer.schedule.name = "exponential"
  base.optimizer.schedule.factor = 0.95
  base.optimizer.schedule.interval = f"{images.epochs / EPOCHS:g} epochs"
  base.optimizer.schedule.staircase = True

  base.eval_every = f"{images.epochs / (10 if images.is_short else 100):g} epochs"
  base.log_every = base.eval_every
  base.evaluate_training_images = True
  base.checkpoint_every = f"{images.epochs / 4:g} epochs"
  base.keep_best = False  # the networks are not the result

  config = arms.config_of(base)
  config.experiment = "small_inception"
  for batch_norm, decay, arm in (
    (True, True, "batch_norm_and_decay"),
    (True, False, "batch_norm"),
    (False, True, "decay"),
    (False, False, "neither"),
  ):
    run = base.copy_and_resolve_references()
    run.batch_norm.enabled = batch_norm
    run.optimizer.l2 = WEIGHT_DECAY if decay else 0.0
    config.arms[arm] = sweep.changes(base, run)
  return config
