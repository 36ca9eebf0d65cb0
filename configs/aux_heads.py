"""Auxiliary heads: what they do to the gradients of early layers, and to the accuracy.

  python -m speedpaper_jax.main --config=configs/aux_heads.py
  python -m speedpaper_jax.main --config=configs/aux_heads.py:data=mnist

GoogLeNet without batch normalization, whose paper (section 5) adds two heads so that more gradient
comes to the lower layers, and Inception-v3 with it, whose paper (section 4) finds that a head does
nothing early in training and regularises at its end. Each is trained without heads and with them,
from the same first weights of the trunk and on the same images. The norm of each module's gradient
is measured before the first step and after each quarter of the run, on the same training images.
Both networks have fewer filters than their papers', a half and a quarter. `data` is digits
(embedded, the default), mnist, fashion_mnist, cifar10, cifar100 or folder
(`--config.base.data.dir` names it).

9 minutes on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import (
  VARIANTS,
  choose_data_set,
  later_network_config,
  parse_arguments,
  variant_config,
)
from speedpaper_jax.experiments import measured_runs, sweep
from speedpaper_jax.storage.learning_curves import switched_arm

EPOCHS: dict[str, float] = {
  "digits": 8,
  "mnist": 0.25,
  "fashion_mnist": 0.5,
  "cifar10": 4,
  "cifar100": 8,
  "folder": 10,
}


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the comparison on one data set."""
  data = parse_arguments(arguments, data=list(EPOCHS))["data"]
  networks = {"googlenet": googlenet(data), "inception_v3": inception_v3(data)}
  for network in networks.values():
    of_a_short_run(network, data)

  base = networks["googlenet"].copy_and_resolve_references()
  base.model.aux_heads, base.aux_weight = False, 0.0
  config = measured_runs.config_of(base)
  config.experiment = "aux_heads"
  for name, with_heads in networks.items():
    without = with_heads.copy_and_resolve_references()
    without.model.aux_heads, without.aux_weight = False, 0.0
    config.arms[switched_arm(name, "without")] = sweep.changes(base, without)
    config.arms[switched_arm(name, "with")] = sweep.changes(base, with_heads)
  config.seeds = (0, 1, 2)
  return config


def googlenet(data: str) -> ml_collections.ConfigDict:
  """As configs/googlenet.py, whose recipe is that of section 4.2's Inception but for the rate."""
  config = variant_config(VARIANTS["inception"], data, EPOCHS[data])
  choose_data_set(config, data, 32)  # the least that the network takes
  config.model.name = "googlenet"
  config.model.local_response_norm = False  # the dialect has its own
  config.model.width = 0.5
  config.model.aux_heads = True
  config.aux_weight = 0.3  # section 5 of its paper
  config.optimizer.learning_rate = 0.01
  return config


def inception_v3(data: str) -> ml_collections.ConfigDict:
  """As configs/inception_v3.py."""
  config = later_network_config("inception_v3", data, "paper")
  config.duration = f"{EPOCHS[data]:g} epochs"
  config.optimizer.schedule.interval = f"{2 * EPOCHS[data] / 100:.6g} epochs"
  config.model.dialect = "slim"
  config.model.width = 0.25
  config.model.aux_heads = True
  config.aux_weight = 0.4
  return config


def of_a_short_run(config: ml_collections.ConfigDict, data: str) -> None:
  """Sets what is evaluated and kept, and how often."""
  epochs = EPOCHS[data]
  if data == "folder":
    config.data.eval_split = "validation"  # a folder's test/ is for the end
  elif data != "digits":
    config.data.eval_split = "test[:1000]"
  config.average_decay = 0.0  # gradients are those of the weights that are trained
  config.eval_every = config.log_every = f"{epochs / 8:g} epochs"
  config.checkpoint_every = f"{epochs / 4:g} epochs"
  config.checkpoints_to_keep = 8  # all; intervals are rounded down to whole steps
  config.keep_best = False
