r"""Fine-tuning on a folder of images: any network, from published weights, a run or from scratch.

  python -m speedpaper_jax.main --config=configs/finetune.py --config.data.dir=FOLDER
  python -m speedpaper_jax.main --config.data.dir=FOLDER \
    --config=configs/finetune.py:weights=timm/inception_v4
  python -m speedpaper_jax.main --config.data.dir=FOLDER \
    --config=configs/finetune.py:weights=scratch,model=bn_inception

`weights` is a name that `python -m speedpaper_jax.weights` lists, the directory of a run or of
converted weights, or scratch; the default is torchvision/googlenet. `model` is the network that is
trained from scratch: bn_inception (the default), googlenet, inception_v3, inception_v4,
inception_resnet_v1, inception_resnet_v2 or small_inception. `data` is folder (the default;
`--config.data.dir` names it), digits, mnist, fashion_mnist, cifar10 or cifar100.

`--config.freeze=trunk` trains the softmax layers alone, and `--config.optimizer.trunk_rate=0.1` the
rest ten times as slowly. docs/finetuning.md has the rest.

15 minutes on two CPU cores from scratch, on 3,887 photographs at 64 pixels.
"""

import pathlib

import ml_collections

from speedpaper_jax.config import DATA_SETS, choose_data_set, parse_arguments, train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import published
from speedpaper_jax.models import registry
from speedpaper_jax.papers.networks import NETWORKS
from speedpaper_jax.storage.run_directory import RunDirectory

SCRATCH = "scratch"
SMALL_DATA = [name for name in DATA_SETS if name != "imagenet2012"]


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of one network, from one source, on one data set."""
  chosen = parse_arguments(
    arguments,
    weights="torchvision/googlenet",
    model=["", *NETWORKS],
    data=["folder", *(name for name in SMALL_DATA if name != "folder")],
  )
  config = train_config()
  if chosen["weights"] == SCRATCH:
    config.model.name, config.model.dialect = chosen["model"] or "bn_inception", ""
    smallest = NETWORKS[config.model.name].smallest_image_size
    size = max(DATA_SETS[chosen["data"]].image_size, smallest)
    crop = EvaluationCrop(size, central_fraction=0.875, resize="short_side")
  else:
    crop = _start_from(config, chosen["weights"])
    if chosen["model"] not in ("", config.model.name):
      raise UserError(
        f"The weights '{chosen['weights']}' are of {config.model.name}; leave "
        f"model={chosen['model']} out, or choose weights=scratch."
      )
  choose_data_set(config, chosen["data"], crop.image_size)
  if chosen["data"] == "folder":
    config.data.eval_split = "validation"  # a folder's test/ is for the end, and for `evaluate`
  config.data.eval_central_fraction = crop.central_fraction
  config.data.eval_resize = crop.resize
  config.data.eval_interpolation = crop.interpolation
  # Patches of 8 %, as ImageNet's networks are trained on, rarely show what a small folder is about.
  config.data.augmentation.area_range = (0.25, 1.0)

  config.model.dropout_rate = 0.2
  config.model.aux_heads = registry.has_field(config.model.name, "use_aux_heads")
  config.aux_weight = 0.3 if config.model.aux_heads else 0.0
  # New images have other statistics: averages of 10,000 steps would be those of the old ones.
  config.batch_norm.decay = 0.9

  config.batch_size = config.decay_batch_size = 32
  config.duration = "20 epochs"
  config.optimizer.name = "sgd"
  config.optimizer.sgd.momentum = 0.9
  # Small steps keep what was learned; from scratch there is nothing to keep.
  config.optimizer.learning_rate = 0.005 if chosen["weights"] == SCRATCH else 0.001
  config.optimizer.base_batch_size = 16
  config.optimizer.l2 = 1e-4
  config.optimizer.schedule.name = "step"
  config.optimizer.schedule.factor = 0.1
  config.optimizer.schedule.boundaries = ("10 epochs",)

  config.log_every = "20 steps"
  config.checkpoint_every = "1 epochs"
  config.evaluate_ten_crops = crop.resize == "short_side" or crop.central_fraction < 1
  config.record_answers = True
  return config


def _start_from(config: ml_collections.ConfigDict, weights: str) -> EvaluationCrop:
  """Sets the network to that of the weights; returns what they have been evaluated with."""
  if pathlib.Path(weights).is_file():
    raise UserError(
      f"'{weights}' is a file; convert it with `python -m speedpaper_jax.convert`, and name the "
      "directory that this makes."
    )
  description = published.description(weights)
  path = pathlib.Path(weights)
  if path.is_dir():
    saved = RunDirectory(path).read_config()
    config.model.update(saved["model"])
    config.batch_norm.update({name: saved["batch_norm"][name] for name in ("enabled", "epsilon")})
  config.init_from = weights
  config.model.name, config.model.dialect = description.name, description.dialect
  return description.preprocessing.crop
