"""Data sets that configs choose from, and how training is scaled to each."""

import dataclasses

import ml_collections


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A data set, and how the papers' ImageNet recipes are scaled to it; all ours but ImageNet's.

  Attributes:
    num_classes: None where it depends on the user's folder.
    train_examples: images to train on; None likewise.
    epochs: length of training; None for the paper's own.
    image_size: pixels. The smaller the image, the fewer positions each statistic is taken over, and
      the slower the first epochs: MNIST is enlarged for that.
    eval_split: held-out images.
    crop: "area" is GoogLeNet's (section 6 of its paper); small images are shifted instead.
    shift: the farthest, as a fraction of the image's side.
    flip: whether a mirrored image still shows the same class.
    central_fraction: of the image in evaluation.
    batch_norm_decay: of the moving averages; shorter for shorter runs.
  """

  num_classes: int | None
  train_examples: int | None
  epochs: int | None
  image_size: int = 32
  eval_split: str = "test"
  crop: str = "shift"
  shift: float = 1 / 16
  flip: bool = False
  central_fraction: float = 1.0
  batch_norm_decay: float = 0.99


DATA_SETS = {
  "digits": DataSet(10, 1_442, epochs=15, batch_norm_decay=0.95),
  "mnist": DataSet(10, 60_000, epochs=1, image_size=48, crop="none", shift=0),
  "fashion_mnist": DataSet(10, 60_000, epochs=5, image_size=48, shift=1 / 24, flip=True),
  "cifar10": DataSet(10, 50_000, epochs=30, shift=1 / 8, flip=True),
  "cifar100": DataSet(100, 50_000, epochs=30, shift=1 / 8, flip=True),
  "imagenet2012": DataSet(
    1000,
    1_281_167,
    epochs=None,
    image_size=224,
    eval_split="validation",
    crop="area",
    shift=0,
    flip=True,
    central_fraction=0.875,
    batch_norm_decay=0.9997,
  ),
  # A user's own photographs, FOLDER/<class>/*.jpg; --config.data.dir names the folder.
  "folder": DataSet(None, None, epochs=30, image_size=64, crop="area", shift=0, flip=True),
}


def choose_data_set(config: ml_collections.ConfigDict, name: str, image_size: int) -> None:
  """Sets all that follows from the choice of a data set, except for the length of training.

  Args:
    config: of training; its `data`, `batch_norm.decay` and intervals are set.
    name: a key of `DATA_SETS`.
    image_size: pixels, height and width.
  """
  data = DATA_SETS[name]
  config.data.name = name
  config.data.eval_split = data.eval_split
  config.data.image_size = image_size
  config.data.eval_central_fraction = data.central_fraction
  config.data.augmentation.crop = data.crop
  config.data.augmentation.shift = round(data.shift * image_size)
  config.data.augmentation.flip = data.flip
  config.batch_norm.decay = data.batch_norm_decay
  if name != "digits":
    config.log_every = "50 steps"
    config.checkpoint_every = "0.25 epochs"
