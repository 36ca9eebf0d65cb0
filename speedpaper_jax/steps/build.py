"""The objects that a config describes."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from speedpaper_jax.compilation import determinism
from speedpaper_jax.config import plan
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.data import augmentation
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.normalization import DEFAULT, PER_IMAGE, Normalization
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.models import folding, layer_names, ops, registry
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.dialect import PAPER_BATCH_NORM
from speedpaper_jax.models.float32_gradients import with_float32_gradients
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.steps import optim
from speedpaper_jax.steps.mixing import Mixing
from speedpaper_jax.steps.step import TrainState

if TYPE_CHECKING:
  from speedpaper_jax.data.crop import EvaluationCrop


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A training config, with the dialect's ε and decay in the place of None."""
  config = config.copy_and_resolve_references()
  dialect = registry.find_dialect(config.model.name, config.model.dialect)
  implementation = dialect.batch_norm or PAPER_BATCH_NORM
  for name in ("epsilon", "decay"):
    if config.batch_norm[name] is None:
      config.batch_norm[name] = getattr(implementation, name)
  return config


def batch_norm_decay(config: ml_collections.ConfigDict) -> float:
  """Decay of the moving averages of statistics, which move once for each micro-batch."""
  rows = config.batch_size // config.accumulation_steps
  return _decay_of(rows, resolve(config).batch_norm.decay, config.decay_batch_size)


def average_decay(config: ml_collections.ConfigDict) -> float:
  """Decay of the average of parameters and batch_stats, which moves once a step; 0 for none."""
  return _decay_of(config.batch_size, config.average_decay, config.decay_batch_size)


def _decay_of(rows: int, decay: float, decay_batch_size: int) -> float:
  """So that as many images are remembered, however many come at a time.

  Args:
    rows: that come at a time.
    decay: where `decay_batch_size` do.
    decay_batch_size: 0 if it is the same for all.
  """
  return float(decay ** (rows / decay_batch_size)) if decay_batch_size else decay


def build_model(config: ml_collections.ConfigDict, num_classes: int, mesh: Mesh) -> nn.Module:
  """The network of a training config, for the devices it will run on.

  Raises:
    UserError: a value that is not valid, or groups that do not fit the batch.
  """
  section = config.model
  axis_name = parallel.axis_name(config.parallel)
  settings = LayerSettings(
    batch_norm=_build_batch_norm(config, mesh) if config.batch_norm.enabled else None,
    activation=section.activation,
    dtype=jnp.dtype(section.dtype),
    operations=_trained_operations(config, mesh),
    axis_name=axis_name,
    width=section.width,
    devices=1 if axis_name else mesh.size,
  )
  return registry.create(
    section.name,
    section.dialect,
    num_classes=num_classes,
    settings=settings,
    dropout_rate=section.dropout_rate,
    **_fields_of_some_models(section),
  )


def build_operations(mesh: Mesh) -> ops.Operations:
  """The form of a network's operations, for the devices it will run on."""
  return ops.for_platform(parallel.platform(mesh), determinism.is_on())


def _trained_operations(config: ml_collections.ConfigDict, mesh: Mesh) -> ops.Operations:
  """The platform's, with gradients that come in the dtype in which they are to be summed.

  Under `jit` the compiler sums them over devices as they come; with pmap's semantics the step does,
  when they are float32 already.
  """
  operations = build_operations(mesh)
  are_too_narrow = config.model.dtype == "bfloat16" and config.gradient_sum_dtype == "float32"
  if are_too_narrow and config.parallel == "jit" and mesh.size > 1:
    return with_float32_gradients(operations)
  return operations


def _fields_of_some_models(section: ml_collections.ConfigDict) -> dict[str, Any]:
  fields = {}
  for field, value in {
    "use_local_response_norm": section.local_response_norm,
    "use_aux_heads": section.aux_heads,
    "residual_scales": tuple(section.residual_scales) or None,
  }.items():
    if registry.has_field(section.name, field):
      fields[field] = value
    elif value:
      having = [name for name in registry.MODELS if registry.has_field(name, field)]
      raise UserError(
        f"{section.name} has no config.model.{field.removeprefix('use_')}; unset it, or set "
        f"config.model.name to a network that has: {', '.join(having)}."
      )
  return fields


def build_inference_model(
  config: ml_collections.ConfigDict, num_classes: int, mesh: Mesh
) -> nn.Module:
  """The same network for evaluation, on any number of devices and whatever training runs under.

  Its batch statistics are training's only where Algorithm 2 needs them.
  """
  config = config.copy_and_resolve_references()
  config.parallel = "jit"
  config.gradient_sum_dtype = config.model.dtype  # there are none
  if config.batch_norm.inference != "population":
    config.batch_norm.statistics = "global"
  return build_model(config, num_classes, mesh)


def fold_batch_norm(
  network: nn.Module, variables: Mapping[str, Any], mesh: Mesh
) -> tuple[nn.Module, dict[str, Any]]:
  """A network for inference as `folding.fold_batch_norm` gives it, its variables on all devices."""
  network, variables = folding.fold_batch_norm(network, variables)
  return network, parallel.replicate(mesh, variables)


def _build_batch_norm(config: ml_collections.ConfigDict, mesh: Mesh) -> BatchNorm:
  section = resolve(config).batch_norm
  axis_name = parallel.axis_name(config.parallel)
  rows = config.batch_size // config.accumulation_steps
  rows_per_device = rows // mesh.size
  virtual_batch_size = None
  if section.statistics == "replica" and axis_name is None:
    virtual_batch_size = rows_per_device
  if section.statistics == "group":
    available = rows if axis_name is None else rows_per_device
    virtual_batch_size = min(section.virtual_batch_size, rows)
    if virtual_batch_size < 2 or available % virtual_batch_size:
      raise UserError(
        f"config.batch_norm.virtual_batch_size={section.virtual_batch_size} does not divide the "
        f"{available} rows that are normalised in one piece; set it to a divisor, or "
        f"config.batch_norm.statistics to 'global'."
      )
  elif (rows if section.statistics == "global" else rows_per_device) < 2:
    raise UserError(
      "Batch normalization needs more than one image to take statistics of; "
      "set a larger config.batch_size."
    )
  return BatchNorm(
    decay=batch_norm_decay(config),
    epsilon=section.epsilon,
    unbiased_running_variance=section.unbiased_running_variance,
    virtual_batch_size=virtual_batch_size,
    axis_name=axis_name if section.statistics == "global" else None,
    per_activation_layers=layer_names.read_patterns(section.per_activation),
    frozen=layer_names.read_patterns(config.freeze),
    moments_in_one_pass=_takes_moments_in_one_pass(config, mesh),
  )


def _takes_moments_in_one_pass(config: ml_collections.ConfigDict, mesh: Mesh) -> bool:
  """Whether that is faster: on accelerators, for bfloat16.

  For float32 a step would ask, layer by layer, whether two passes are needed. TPUs can, but under
  `jit` groups on several devices would have to agree; GPUs would wait for the host to decide.
  """
  if config.model.dtype == "bfloat16":
    return parallel.platform(mesh) != "cpu"
  is_one_decision = (
    config.batch_norm.statistics == "global" or config.parallel == "pmap" or mesh.size == 1
  )
  return parallel.platform(mesh) == "tpu" and is_one_decision


def build_augmentation(config: ml_collections.ConfigDict) -> Augmentation:
  """What is done to each training image."""
  section = config.data.augmentation
  return Augmentation(**{name: section[name] for name in augmentation.FIELDS})


def build_mixing(config: ml_collections.ConfigDict, mesh: Mesh) -> Mixing:
  """How neighbouring images of a batch are mixed.

  Raises:
    UserError: a device has an odd number of rows, one of which would have no neighbour.
  """
  section = config.data.augmentation
  mixing = Mixing(section.mixup, section.cutmix)
  rows = config.batch_size // config.accumulation_steps // mesh.size
  if mixing and rows % 2:
    raise UserError(
      f"config.data.augmentation.mixup and cutmix mix each image with its neighbour, and {rows} is "
      f"an odd number of images on a device at a time; set config.batch_size to a multiple of "
      f"{2 * mesh.size * config.accumulation_steps}."
    )
  return mixing


def build_class_weights(
  config: ml_collections.ConfigDict, class_counts: Sequence[int] | None
) -> np.ndarray | None:
  """The weight of each class in the loss, float32 [num_classes]; None where all have the same.

  Args:
    config: of training.
    class_counts: training images of each class; None where they are not known.

  Raises:
    UserError: the weights depend on the numbers, which are not known.
  """
  if config.class_weights == "none":
    return None
  if class_counts is None:
    raise UserError(
      f"config.class_weights='balanced' needs the number of images of each class, which is known "
      f"of the data set 'folder', and not of '{config.data.name}'; set it to 'none'."
    )
  counts = np.asarray(class_counts, np.float64)
  present = np.count_nonzero(counts)
  weights = np.divide(counts.sum(), present * counts, out=np.zeros_like(counts), where=counts > 0)
  return weights.astype(np.float32)


def build_evaluation_crop(config: ml_collections.ConfigDict) -> "EvaluationCrop":
  """What is cut out of each image in evaluation."""
  from speedpaper_jax.data.crop import EvaluationCrop  # by Pillow, which steps do without

  section = config.data
  return EvaluationCrop(
    image_size=section.image_size,
    central_fraction=section.eval_central_fraction,
    resize=section.eval_resize,
    interpolation=section.eval_interpolation,
  )


def build_normalization(config: ml_collections.ConfigDict) -> Normalization:
  """How pixel values become the input of a network that is trained from scratch."""
  return PER_IMAGE if config.data.per_image_whitening else DEFAULT


def build_schedule(config: ml_collections.ConfigDict, durations: Durations) -> optax.Schedule:
  """The learning rate of each step, the first of which is 0."""
  return optim.make_schedule(
    config.optimizer,
    durations,
    plan.total_steps(config, durations),
    durations.offset_of(config.duration, "config.duration"),
  )


def build_optimizer(
  config: ml_collections.ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
  """The optimiser with its learning rate."""
  return optim.make_optimizer(config.optimizer, schedule, layer_names.read_patterns(config.freeze))


def variables_template(
  config: ml_collections.ConfigDict, model: nn.Module, mesh: Mesh
) -> dict[str, Any]:
  """Shapes, dtypes and shardings of `params` and `batch_stats`, on all devices."""
  template: dict[str, Any] = parallel.replicated_template(
    mesh, _variables_shapes(model, config.data.image_size)
  )
  return template


@functools.lru_cache(maxsize=8)  # members of an ensemble are often one network
def _variables_shapes(model: nn.Module, image_size: int) -> dict[str, Any]:
  """Shapes and dtypes of `params` and `batch_stats`."""
  images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
  init = functools.partial(model.init, jax.random.key(0), train=False)
  return {"batch_stats": {}, **jax.eval_shape(init, images)}


def trace_initial_state(
  config: ml_collections.ConfigDict, model: nn.Module, optimizer: optax.GradientTransformation
) -> jax.stages.Traced:
  """The program that draws the state before the first step; it knows the shapes, too."""

  def draw() -> TrainState:
    variables = _draw_variables(config, model)
    return TrainState.create(variables, optimizer, with_average=config.average_decay > 0)

  return jax.jit(draw).trace()


def _draw_variables(config: ml_collections.ConfigDict, model: nn.Module) -> dict[str, Any]:
  size = config.data.image_size
  images = jnp.zeros((1, size, size, 3))
  variables = dict(model.init(jax.random.key(config.seed), images, train=False))
  variables["params"] = jax.tree.map(
    lambda x, is_kernel: config.model.initial_scale * x if is_kernel else x,
    variables["params"],
    optim.kernel_mask(variables["params"]),
  )
  return variables
