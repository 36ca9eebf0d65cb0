"""How the five networks of section 4.2 of the Batch Normalization paper are trained.

What the paper leaves open and we chose is marked "ours".
"""

import dataclasses

import ml_collections

from speedpaper_jax.config import data_sets, recipe
from speedpaper_jax.config.data_sets import DATA_SETS
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.recipe import Expected, Exponential, Recipe
from speedpaper_jax.papers.batch_norm import FIGURE_3


@dataclasses.dataclass(frozen=True)
class Variant:
  """A network of section 4.2, and how it was trained on ImageNet.

  Attributes:
    learning_rate: initial, section 4.2.2.
    paper_epochs: length of its curve in Figure 2, at 40,036 steps of 32 images to an epoch.
    figure_3: its name in the table of Figure 3, `papers.batch_norm.FIGURE_3`; "" if it has none.
    batch_norm: whether each nonlinearity's input is normalised.
    accelerated: whether it has the changes of section 4.2.1: no dropout, no local response
      normalization, a fifth of the L2, a sixth of the decay interval, less photometric distortion.
    activation: sigmoid for the network that cannot be trained without BN.
  """

  learning_rate: float
  paper_epochs: int
  figure_3: str
  batch_norm: bool = True
  accelerated: bool = True
  activation: str = "relu"


VARIANTS = {
  "bn_x5": Variant(0.0075, 72, "bn_x5"),
  "bn_x30": Variant(0.045, 150, "bn_x30"),
  "bn_baseline": Variant(0.0015, 415, "bn_baseline", accelerated=False),
  "inception": Variant(0.0015, 774, "inception", batch_norm=False, accelerated=False),
  "bn_x5_sigmoid": Variant(0.0075, 192, "bn_x5_sigmoid", activation="sigmoid"),
}


def paper_recipe(variant: Variant) -> Recipe:
  """How the paper trained a variant."""
  expected = None
  if variant.figure_3:
    top1 = 100 * FIGURE_3[variant.figure_3].max_top1
    expected = Expected(round(top1, 1), 1.0, "1502.03167, Figure 3")
  return Recipe(
    batch_size=32,
    replicas=1,
    optimizer="sgd",
    learning_rate=variant.learning_rate,
    # GoogLeNet lowers its rate by 4 % every 8 epochs, the accelerated networks six times as often.
    schedule=Exponential(0.96, 8 / 6 if variant.accelerated else 8),
    epochs=variant.paper_epochs,
    batch_norm_decay=0.9997,
    average_decay=0.0,
    l2=4e-5 if variant.accelerated else 2e-4,
    label_smoothing=0.0,
    sources={
      "batch": "32 images, section 4.2 of 1502.03167: steps of one replica, of which each "
      "normalises its own",
      "rate": "section 4.2.2; × 0.96 every 8 epochs is that of 1409.4842, section 6, and six times "
      "as often with the changes of 4.2.1",
      "optimiser": "SGD with momentum, section 4.2; 0.9 is that of 1409.4842, and L2 ours, with "
      "the changes of 4.2.1 a fifth",
      "decays": "0.9997 in steps of 32 images is that of one replica of research/inception; the "
      "paper averages no weights",
      "length": "its curve in Figure 2",
    },
    expected=expected,
    expected_curve=f"paper/{variant.figure_3}" if variant.figure_3 else "",
  )


def variant_config(
  variant: Variant,
  data_name: str,
  epochs: float | None = None,
  trained_by: Recipe | None = None,
) -> ml_collections.ConfigDict:
  """The config of one network on one data set.

  Args:
    variant: the network.
    data_name: a key of `DATA_SETS`.
    epochs: length of training; the data set's own by default, and on ImageNet the recipe's. A run
      that is shorter than the paper's goes through the same rates in its own time.
    trained_by: the recipe; the paper's by default.
  """
  data = DATA_SETS[data_name]
  config = train_config()
  data_sets.choose_data_set(config, data_name, data.image_size)

  config.model.activation = variant.activation
  config.model.local_response_norm = not variant.accelerated
  config.model.dropout_rate = 0.0 if variant.accelerated else 0.4
  config.batch_norm.enabled = variant.batch_norm
  if data.crop == "area":
    # "Less photometric distortion", in numbers: half. Ours.
    config.data.augmentation.photometric = 0.5 if variant.accelerated else 1.0
  recipe.apply(config, trained_by or paper_recipe(variant), data_name, epochs)
  return config
