"""How the networks are trained on ImageNet: by the papers, by the authors' code, and today.

`config.recipe` says what the numbers mean. What a source leaves open and we chose is marked "ours".
"""

import dataclasses
from collections.abc import Mapping

from speedpaper_jax.config.recipe import Cosine, Expected, Exponential, Recipe
from speedpaper_jax.errors import UserError

NAMES = ("paper", "authors", "modern")

_REPLICAS_OF_32 = "32 images a replica, section 8 of 1512.00567"
_LATER_NETWORKS = Recipe(
  batch_size=256,
  replicas=8,
  optimizer="rmsprop",
  learning_rate=0.045,
  schedule=Exponential(0.94, 2),
  epochs=160,
  batch_norm_decay=0.9997,
  average_decay=0.9999,
  l2=4e-5,
  label_smoothing=0.1,
  sources={
    # Whether the papers' 20 to 50 replicas stepped together, on 640 to 1600 images, or one by one
    # is not said.
    "batch": f"8 replicas, ours, as the authors' code on one machine; {_REPLICAS_OF_32}",
    "rate": "0.045 × 0.94 every 2 epochs, section 8 of 1512.00567 and section 4 of 1602.07261; "
    "that it is the rate of 256 images is ours",
    "optimiser": "RMSProp with decay 0.9 and ε = 1, of the same sections; momentum, L2 and patches "
    "of 5 to 100 % are those of research/inception",
    "decays": "0.9997 and 0.9999 of research/inception, in steps of 8 × 32 images",
    "label smoothing": "0.1, section 7 of 1512.00567; 1602.07261 does not say",
    "length": "the curves of 1602.07261",
  },
  changes={
    "data.augmentation.area_range": (0.05, 1.0),
    "data.augmentation.photometric": 0.5,  # ours, as for BN-Inception
  },
)


def _later_network(name: str, top1: float, epochs: float) -> Recipe:
  """Of Table 2 of 1602.07261, and its Figures 21 and 23."""
  return dataclasses.replace(
    _LATER_NETWORKS,
    epochs=epochs,
    expected=Expected(
      top1,
      1.0,
      "1602.07261, Table 2, without some 1,700 doubtful images, which are worth 0.3 %",
    ),
    expected_curve=f"paper/{name}",
  )


_INCEPTION_V3 = _later_network("inception_v3", 78.8, 100)
_GOOGLENET = Recipe(
  batch_size=32,
  replicas=1,
  optimizer="sgd",
  learning_rate=0.0015,
  schedule=Exponential(0.96, 8),
  epochs=774,
  batch_norm_decay=0.9997,  # it has no batch normalization
  average_decay=0.9999,
  l2=2e-4,
  label_smoothing=0.0,
  sources={
    "batch": "ours: 32, and with it the rate, of Inception in 1502.03167, section 4.2",
    "rate": "× 0.96 every 8 epochs, 1409.4842, section 6",
    "optimiser": "SGD with momentum 0.9, 1409.4842, section 6; L2 is ours",
    "decays": "that weights are averaged, 1409.4842, section 6; 0.9999 in steps of 32 is ours",
    "length": "ours: the 31 million steps of Inception in 1502.03167",
  },
  expected=Expected(
    71.0, 2.5, "1512.00567, Table 3; 1409.4842 prints top-5 alone, and Caffe's got 68.7"
  ),
  changes={
    "data.augmentation.area_range": (0.08, 1.0),  # section 6
    "data.augmentation.photometric": 1.0,
  },
)

# The authors' code: tensorflow/models, research/inception, `inception_train.py`.
_ONE_MACHINE = Recipe(
  batch_size=256,
  replicas=8,
  optimizer="rmsprop",
  learning_rate=0.1,
  schedule=Exponential(0.16, 30),
  epochs=100,
  batch_norm_decay=0.9997,
  average_decay=0.9999,
  l2=4e-5,
  label_smoothing=0.1,
  sources={
    "batch": "8 × 32, one machine with 8 GPUs, research/inception; the authors published no code "
    "that trains this network, and this is the nearest, for Inception-v3",
    "rate": "0.1 × 0.16 every 30 epochs, inception_train.py",
    "optimiser": "RMSProp with decay 0.9, momentum 0.9, ε = 1, L2 4e-5, inception_train.py",
    "decays": "0.9997 of one GPU's statistics, and 0.9999, inception_train.py",
    "label smoothing": "0.1, inception_model.py",
    "length": "ours: 100 epochs, after which the rate is 0.4 % of the first",
  },
  changes={"data.augmentation.area_range": (0.05, 1.0), "data.augmentation.photometric": 0.5},
)
_AUXILIARY_HEADS = {"model.aux_heads": True, "aux_weight": 0.4}  # of all the authors' code
# The same, `inception_distributed_train.py`.
_DISTRIBUTED = dataclasses.replace(
  _ONE_MACHINE,
  batch_size=1024,
  replicas=32,
  learning_rate=0.045,
  schedule=Exponential(0.94, 2),
  sources={
    "batch": "32 × 32, synchronous, research/inception; the README says that the schedule is for "
    "25, 50 and 100 replicas, and 32 divide over devices; the authors published no code that "
    "trains this network, and this is the nearest, for Inception-v3",
    "rate": "0.045 × 0.94 every 2 epochs, whatever the replicas, inception_distributed_train.py",
    "optimiser": "RMSProp with decay 0.9, momentum 0.9, ε = 1, L2 4e-5, the same file",
    "decays": "0.9997 and 0.9999 of a step, whatever the replicas, the same file; at 1,024 images "
    "they remember 2.7 and 8 epochs, so that evaluations of the first epochs are too low",
    "label smoothing": "0.1, inception_model.py",
    "length": "the paper's",
  },
  changes={**_ONE_MACHINE.changes, **_AUXILIARY_HEADS},
)
# tensorflow/tpu, models/experimental/inception: slices of 8 shards.
_TPU_V3 = dataclasses.replace(
  _ONE_MACHINE,
  batch_size=1024,
  replicas=8,
  learning_rate=0.66,
  schedule=Exponential(0.94, 3),
  epochs=170,
  batch_norm_decay=0.996,
  average_decay=0.995,
  sources={
    "batch": "1,024 on 8 shards, tensorflow/tpu's inception_v3.py",
    "rate": "0.165 × batch / 256, × 0.94 every 3 epochs, the same file",
    "optimiser": "RMSProp with decay 0.9, momentum 0.9, ε = 1, the same file; L2 is TF-slim's",
    "decays": "0.996 and 0.995 in steps of 1,024 images, the same file",
    "label smoothing": "0.1, the same file",
    "length": "about 170 epochs, Cloud TPU's guide to Inception-v3",
  },
  expected=Expected(78.1, 0.5, "Cloud TPU's guide to Inception-v3, which says more than 78.1 %"),
)
_TPU_V4 = dataclasses.replace(
  _ONE_MACHINE,
  batch_size=256,
  replicas=8,
  learning_rate=0.15 / 0.94**1.5,  # as the file has it, to have lost nothing after its warm-up
  schedule=Exponential(0.94, 2, warmup=3),
  epochs=160,
  batch_norm_decay=0.995,
  average_decay=0.995,
  sources={
    "batch": "256 on 8 shards, tensorflow/tpu's inception_v4.py",
    "rate": "0.15 × batch / 256 / 0.94^1.5, × 0.94 every 2 epochs, the same file; its cold epoch "
    "and two of warm-up, at none, a third and two thirds of it, are one rising line here",
    "optimiser": "RMSProp with decay 0.9, momentum 0.9, ε = 1, L2 4e-5, the same file",
    "decays": "0.995 in steps of 256 images, the same file",
    "label smoothing": "0.1, the same file",
    "length": "the paper's; the file's 80,000 steps, 16 epochs, are a demonstration",
  },
  changes={**_ONE_MACHINE.changes, **_AUXILIARY_HEADS},
)

# GluonCV, scripts/classification/imagenet/train_imagenet.py, by the commands beside its logs.
_MODERN = Recipe(
  batch_size=1024,
  replicas=8,
  optimizer="sgd",
  learning_rate=0.4,
  schedule=Cosine(warmup=5),
  epochs=200,
  batch_norm_decay=0.9,
  average_decay=0.0,
  l2=1e-4,
  label_smoothing=0.1,
  sources={
    "batch": "8 × 128, GluonCV's command",
    "rate": "0.4, a cosine after 5 epochs of warm-up, GluonCV's command; here the cosine is "
    "counted from the beginning, which changes the rate by 0.01 at most",
    "optimiser": "SGD with Nesterov's momentum 0.9, L2 1e-4 of kernels alone, train_imagenet.py",
    "decays": "0.9 in steps of 1,024 images, MXNet's default; there is no average of the weights",
    "label smoothing": "0.1, and mixup with α = 0.2, GluonCV's command",
    "length": "200 epochs, GluonCV's command",
  },
  changes={
    "data.augmentation.area_range": (0.08, 1.0),
    "data.augmentation.mixup": 0.2,
    "data.augmentation.photometric": 0.8,  # factors in [0.6, 1.4]
    "data.eval_resize": "short_side",
    "model.dtype": "bfloat16",  # float16 there
    "optimizer.sgd.nesterov": True,
  },
)
_OTHER_RECIPE = "the best weights with a log, osmr's; the recipe was another, hence the tolerance"


def _modern(top1: float, tolerance: float, source: str, curve: str = "", **model: object) -> Recipe:
  changes = {f"model.{name}": value for name, value in model.items()}
  return dataclasses.replace(
    _MODERN,
    expected=Expected(top1, tolerance, source),
    expected_curve=curve,
    changes={**_MODERN.changes, **changes},
  )


# Network → name of the recipe → recipe. BN-Inception's paper has one for each of its variants, see
# `config.bn_recipe`.
RECIPES: Mapping[str, Mapping[str, Recipe]] = {
  "googlenet": {
    "paper": _GOOGLENET,
    "authors": _ONE_MACHINE,
    "modern": _modern(72.8, 0.7, "GluonCV's log", "gluoncv/googlenet"),
  },
  "bn_inception": {
    "authors": _ONE_MACHINE,
    "modern": _modern(74.9, 1.5, _OTHER_RECIPE),
  },
  "inception_v3": {
    "paper": dataclasses.replace(
      _INCEPTION_V3,
      sources={
        **_INCEPTION_V3.sources,
        "length": "100 epochs, section 8 of 1512.00567; the curve is of 200 with the same schedule",
      },
      changes={**_INCEPTION_V3.changes, "optimizer.clip_norm": 2.0},  # section 8
    ),
    "authors": _TPU_V3,
    "modern": _modern(78.0, 0.7, "GluonCV's log", "gluoncv/inception_v3", dropout_rate=0.5),
  },
  "inception_v4": {
    "paper": _later_network("inception_v4", 80.0, 160),
    "authors": _TPU_V4,
    "modern": _modern(80.2, 1.5, _OTHER_RECIPE),
  },
  "inception_resnet_v1": {
    "paper": _later_network("inception_resnet_v1", 78.7, 200),
    "authors": dataclasses.replace(_DISTRIBUTED, epochs=200),
    "modern": _modern(80.4, 1.5, _OTHER_RECIPE),
  },
  "inception_resnet_v2": {
    "paper": _later_network("inception_resnet_v2", 80.1, 160),
    "authors": dataclasses.replace(_DISTRIBUTED, epochs=160),
    "modern": _modern(80.6, 1.5, _OTHER_RECIPE),
  },
}


def find(network: str, name: str, data: str) -> Recipe:
  """A recipe by its name.

  Args:
    network: a key of `RECIPES`.
    name: one of `NAMES`.
    data: a key of `DATA_SETS`, to which the paper's is scaled.

  Raises:
    UserError: the data set is not ImageNet, and the recipe another than the paper's.
  """
  if name != "paper" and data != "imagenet2012":
    raise UserError(
      f"recipe={name} is for data=imagenet2012; leave it out for data={data}, which has the "
      f"paper's recipe scaled down."
    )
  return RECIPES[network][name]
