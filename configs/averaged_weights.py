"""Averaged weights, and which statistics batch normalization should have with them.

  python -m speedpaper_jax.main --config=configs/averaged_weights.py
  python -m speedpaper_jax.main --config=configs/averaged_weights.py:data=mnist

BN-Inception (BN-x5), with a quarter of the paper's filters, is trained with an average of its
weights, at batches of 32 and 256 (the rate follows the batch), with moving averages of batch
statistics that remember 10 steps and 100 (decays of 0.9 and 0.99). At ten steps or more of each run
held-out images are classified by the averaged weights in three ways: with the moving averages of
the network that is trained, with the average of those (what training evaluates and saves), and
with Algorithm 2's statistics of the averaged weights themselves; and by the trained weights with
their own moving averages. The average has a decay of 0.999, which is never more than
(1 + n) / (10 + n) after n steps, so that in a run as short as these its memory is a tenth of the
run so far. `data` is digits (embedded, the default), mnist, fashion_mnist, cifar10, cifar100 or
folder (`--config.base.data.dir` names it).

11 minutes on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import VARIANTS, choose_data_set, parse_arguments, variant_config
from speedpaper_jax.experiments import measured_runs
from speedpaper_jax.storage.learning_curves import arm_name

EPOCHS: dict[str, float] = {
  "digits": 12,
  "mnist": 0.4,
  "fashion_mnist": 0.8,
  "cifar10": 4,
  "cifar100": 8,
  "folder": 12,
}
BATCHES = (32, 256)
DECAYS = (0.9, 0.99)
CHECKPOINTS = 10


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the comparison on one data set."""
  data = parse_arguments(arguments, data=list(EPOCHS))["data"]
  epochs = EPOCHS[data]
  base = variant_config(VARIANTS["bn_x5"], data, epochs)
  choose_data_set(base, data, 32)  # the least that the network takes
  if data == "folder":
    base.data.eval_split = "validation"  # a folder's test/ is for the end
  elif data != "digits":
    base.data.eval_split = "test[:1000]"
  base.model.width = 0.25
  base.average_decay = 0.999
  base.decay_batch_size = 0  # a decay is of a step, whatever its batch
  base.batch_norm.population_batches = 8
  base.log_every = f"{epochs / 4:g} epochs"
  base.eval_every = "0 steps"  # the checkpoints are evaluated
  base.checkpoint_every = f"{epochs / CHECKPOINTS:g} epochs"
  base.checkpoints_to_keep = 2 * CHECKPOINTS  # all; intervals are rounded down to whole steps
  base.keep_best = False

  config = measured_runs.config_of(base)
  config.experiment = "averaged_weights"
  for rows in BATCHES:
    for decay in DECAYS:
      config.arms[f"{arm_name('batch', rows)}-{arm_name('decay', decay)}"] = {
        "batch_size": rows,
        "batch_norm": {"decay": decay},
      }
  config.seeds = (0, 1, 2)
  return config
