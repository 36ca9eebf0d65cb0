"""The complete config of the training loop, field by field; experiments change a few of them.

Durations are text: a number and a unit out of steps, epochs and examples, as in "1.5 epochs".
Rates and lengths that follow from fields are computed when training starts, so that a field may be
changed on the command line, as in `--config.batch_size=64`.
"""

from collections.abc import Mapping

import ml_collections
from ml_collections import config_dict

from speedpaper_jax.config import changes, durations, optimizers
from speedpaper_jax.config.field import Field
from speedpaper_jax.data import augmentation
from speedpaper_jax.data.crop_choices import INTERPOLATIONS, RESIZES, SMALLEST_FRACTION
from speedpaper_jax.files.rules import (
  ABOVE_ZERO,
  AT_LEAST_ZERO,
  FRACTION_BELOW_ONE,
  IMAGE_SIZE,
  NAME,
  ROWS,
  SEED,
  SWITCH,
  TEXT,
  Rule,
  between,
  one_of,
  or_nothing,
  several,
  whole,
)
from speedpaper_jax.papers import expected_accuracies
from speedpaper_jax.papers.networks import NETWORKS

_DURATION = Rule(
  "a duration, a number and a unit, as in '15 epochs', '200 steps' or '1e6 examples'",
  durations.is_valid,
)
_DURATIONS = Rule("durations, as in ('10 epochs', '20 epochs')", several(_DURATION).holds)
_SCALES = Rule(
  "three numbers above 0, or empty",
  lambda value: several(ABOVE_ZERO, 3, 3).holds(value) or value in ((), []),
)

# Dotted name → default, what it may be, and what another value does to a run that goes on.
TRAIN: Mapping[str, Field] = {
  "experiment": Field("train", NAME, changes.EXPERIMENT),
  # Directory of a trained network to take the first weights from.
  "init_from": Field("", TEXT, changes.FIRST_WEIGHTS),
  # Layers that stay as they are, batch normalization included: names with commas between them, "*"
  # and "?" for any characters; "trunk" for all but the softmax layers and auxiliary heads.
  "freeze": Field("", TEXT, changes.FROM_HERE_ON),
  # Of weights, data order, augmentation and dropout.
  "seed": Field(0, SEED, changes.SEED),
  #
  "model.name": Field("bn_inception", one_of(NETWORKS), changes.NETWORK),
  # Whose implementation to match; empty for the model's default.
  "model.dialect": Field("paper", TEXT, changes.NETWORK),
  # Number of filters of each layer, as a part of the paper's.
  "model.width": Field(1.0, ABOVE_ZERO, changes.NETWORK),
  "model.activation": Field("relu", one_of(("relu", "sigmoid", "tanh")), changes.NETWORK),
  # Of bn_inception; a dialect says it of others.
  "model.local_response_norm": Field(False, SWITCH, changes.NETWORK),
  "model.dropout_rate": Field(0.0, FRACTION_BELOW_ONE, changes.TRAINING_LOSS),
  # Of the kernels' first values, times the network's own.
  "model.initial_scale": Field(1.0, ABOVE_ZERO, changes.NETWORK),
  # Of all but bn_inception; their loss counts with `aux_weight`.
  "model.aux_heads": Field(False, SWITCH, changes.NETWORK),
  # Of the Inception-ResNets' A, B and C; empty for the dialect's.
  "model.residual_scales": Field((), _SCALES, changes.NETWORK),
  # Of activations; parameters stay in float32.
  "model.dtype": Field("float32", one_of(("float32", "bfloat16")), changes.ROUNDING),
  #
  "batch_norm.enabled": Field(True, SWITCH, changes.NETWORK),
  # Layers that normalise each activation by itself, not each feature map (section 4.2.3 of the BN
  # paper); names as of `freeze`. Their weights fit images of one size alone.
  "batch_norm.per_activation": Field("", TEXT, changes.NETWORK),
  # ε; None for the dialect's.
  "batch_norm.epsilon": Field(None, or_nothing(ABOVE_ZERO), changes.STATISTICS),
  # Of the moving averages; PyTorch's momentum is 1 - decay. None for the dialect's.
  "batch_norm.decay": Field(None, or_nothing(FRACTION_BELOW_ONE), changes.STATISTICS),
  "batch_norm.unbiased_running_variance": Field(True, SWITCH, changes.STATISTICS),
  # What is normalised together: "global" the whole batch, "replica" each device's rows, "group"
  # each `virtual_batch_size` rows, or the whole batch where that is smaller.
  "batch_norm.statistics": Field(
    "global", one_of(("global", "replica", "group")), changes.STATISTICS
  ),
  "batch_norm.virtual_batch_size": Field(32, ROWS, changes.STATISTICS),
  # What evaluation uses: "moving_average", or "population": Algorithm 2 over so many batches.
  "batch_norm.inference": Field(
    "moving_average", one_of(("moving_average", "population")), changes.EVALUATION
  ),
  "batch_norm.population_batches": Field(32, ROWS, changes.EVALUATION),
  # A key of `DATA_SETS`, or any image-classification data set of TFDS, prepared.
  "data.name": Field("digits", NAME, changes.IMAGES),
  # Where prepared data lies; empty for TFDS's own default.
  "data.dir": Field("", TEXT, changes.SAME_TRAINING),
  "data.train_split": Field("train", NAME, changes.IMAGES),
  # Of data.name="folder": which tenth of a folder that is not divided by hand is held out.
  "data.split_seed": Field(0, SEED, changes.IMAGES),
  "data.eval_split": Field("test", NAME, changes.EVALUATION),
  # Pixels, height and width.
  "data.image_size": Field(32, IMAGE_SIZE, changes.IMAGE_SIZE),
  # Of each image its own mean is subtracted, and its own deviation divides the rest; else all have
  # [-1, 1]. Weights of `init_from` keep theirs.
  "data.per_image_whitening": Field(False, SWITCH, changes.INPUT),
  # How much of an image evaluation looks at.
  "data.eval_central_fraction": Field(1.0, between(SMALLEST_FRACTION, 1), changes.EVALUATION),
  # "squash": as in TF-slim; "short_side": as in torchvision and timm.
  "data.eval_resize": Field("squash", one_of(RESIZES), changes.EVALUATION),
  "data.eval_interpolation": Field("bilinear", one_of(INTERPOLATIONS), changes.EVALUATION),
  # Of the newest training images, 5,000 at most, so many may be without a part since they cannot be
  # decoded; more end the run.
  "data.largest_undecodable_share": Field(0.1, FRACTION_BELOW_ONE, changes.SAME_TRAINING),
  # Each as `data.augmentation.Augmentation` says.
  **{
    f"data.augmentation.{name}": Field(default, rule, changes.TRAINING_LOSS)
    for name, (default, rule) in augmentation.FIELDS.items()
  },
  # α of mixup's Beta distribution, see `steps.mixing`; 0 for none.
  "data.augmentation.mixup": Field(0.0, AT_LEAST_ZERO, changes.TRAINING_LOSS),
  # Of CutMix's.
  "data.augmentation.cutmix": Field(0.0, AT_LEAST_ZERO, changes.TRAINING_LOSS),
  # Over all devices.
  "batch_size": Field(32, ROWS, changes.BATCH),
  "eval_batch_size": Field(128, ROWS, changes.SAME_TRAINING),
  # Micro-batches to a step.
  "accumulation_steps": Field(1, ROWS, changes.STATISTICS),
  "duration": Field("15 epochs", _DURATION, changes.LENGTH),
  # Any that Optax has; its options are in the section of its name.
  "optimizer.name": Field("sgd", NAME, changes.OPTIMIZER),
  # At a batch of `base_batch_size`; it grows with the batch.
  "optimizer.learning_rate": Field(0.01, ABOVE_ZERO, changes.SCHEDULE),
  "optimizer.base_batch_size": Field(32, ROWS, changes.SCHEDULE),
  # Of the trunk, all but the softmax layers and auxiliary heads, as a part of this rate.
  "optimizer.trunk_rate": Field(1.0, ABOVE_ZERO, changes.FROM_HERE_ON),
  **{
    f"optimizer.{name}.{option}": field
    for name, options in optimizers.OPTIONS.items()
    for option, field in options.items()
  },
  # ½·l2·‖w‖² in the loss, kernels only.
  "optimizer.l2": Field(0.0, AT_LEAST_ZERO, changes.FROM_HERE_ON),
  # Of the whole gradient; 0 for none.
  "optimizer.clip_norm": Field(0.0, AT_LEAST_ZERO, changes.FROM_HERE_ON),
  "optimizer.schedule.name": Field(
    "constant", one_of(("constant", "exponential", "step", "cosine")), changes.SCHEDULE
  ),
  # Of "exponential" and "step".
  "optimizer.schedule.factor": Field(0.96, ABOVE_ZERO, changes.SCHEDULE),
  # Of "exponential", as is `staircase`.
  "optimizer.schedule.interval": Field("1 epochs", _DURATION, changes.SCHEDULE),
  "optimizer.schedule.staircase": Field(False, SWITCH, changes.SCHEDULE),
  # Of "step".
  "optimizer.schedule.boundaries": Field(("10 epochs",), _DURATIONS, changes.SCHEDULE),
  "optimizer.schedule.warmup": Field("0 steps", _DURATION, changes.SCHEDULE),
  "label_smoothing": Field(0.0, FRACTION_BELOW_ONE, changes.TRAINING_LOSS),
  # "balanced": each class counts as much as any other, however few images it has.
  "class_weights": Field("none", one_of(("none", "balanced")), changes.TRAINING_LOSS),
  # Of each auxiliary head's loss.
  "aux_weight": Field(0.0, AT_LEAST_ZERO, changes.TRAINING_LOSS),
  # Of the average of parameters and batch_stats; 0 for none.
  "average_decay": Field(0.0, FRACTION_BELOW_ONE, changes.AVERAGE),
  # The batch that `batch_norm.decay` and `average_decay` are of: with another one they are raised
  # to a power, so that the averages remember as many images. 0: they are of any batch.
  "decay_batch_size": Field(0, whole(0, 2**20), changes.FROM_HERE_ON),
  # "jit": one global program; "pmap": each device its own, meeting at the end.
  "parallel": Field("jit", one_of(("jit", "pmap")), changes.STATISTICS),
  # In which gradients are summed over devices; those of batch normalization always in float32. With
  # model.dtype=bfloat16 "bfloat16" sends half the bytes, and rounds each partial sum by up to 2⁻⁹.
  "gradient_sum_dtype": Field("float32", one_of(("float32", "bfloat16")), changes.GRADIENT_SUMS),
  "log_every": Field("20 steps", _DURATION, changes.SAME_TRAINING),
  "eval_every": Field("1 epochs", _DURATION, changes.SAME_TRAINING),
  # A published accuracy against epochs to show beside the run's; empty for none.
  "expected_curve": Field("", one_of(("", *expected_accuracies.NAMES)), changes.SAME_TRAINING),
  # After the last step, too, without augmentation.
  "evaluate_training_images": Field(False, SWITCH, changes.SAME_TRAINING),
  # After the last step, too, with the mean over ten crops of each image.
  "evaluate_ten_crops": Field(False, SWITCH, changes.SAME_TRAINING),
  # After the last step: what is said of each held-out image, for the report.
  "record_answers": Field(False, SWITCH, changes.SAME_TRAINING),
  "checkpoint_every": Field("5 epochs", _DURATION, changes.SAME_TRAINING),
  # The newest.
  "checkpoints_to_keep": Field(2, ROWS, changes.SAME_TRAINING),
  # The best evaluation's, too, which is saved even where none is due.
  "keep_best": Field(True, SWITCH, changes.SAME_TRAINING),
}


def train_config() -> ml_collections.ConfigDict:
  """Every field of the "train" experiment, with its default."""
  config = ml_collections.ConfigDict()
  for name, field in TRAIN.items():
    *sections, last = name.split(".")
    section = config
    for each in sections:
      if each not in section:
        section[each] = ml_collections.ConfigDict()
      section = section[each]
    # None is no type that the command line could give a value to.
    section[last] = config_dict.placeholder(float) if field.default is None else field.default
  return config
