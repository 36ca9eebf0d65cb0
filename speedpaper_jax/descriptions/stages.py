"""A network stage by stage: shapes, kernels, parameters, multiply-adds and activations.

Everything is read off the trace of the network on one image; no weights are drawn.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax import models
from speedpaper_jax.descriptions import operations
from speedpaper_jax.descriptions.operations import Operation
from speedpaper_jax.models.features import FEATURES
from speedpaper_jax.papers.networks import NETWORKS

_KERNEL_TEXTS = {  # by kind of operation, in the order in which a stage lists them
  "depthwise": "{} depthwise",
  "conv": "{}",
  "dense": "dense",
  "max": "max {}",
  "avg": "avg {}",
}


@dataclasses.dataclass(frozen=True)
class Stage:
  """A part of a network that its features name, or what lies between two of them.

  Attributes:
    name: of the feature; where there is none "max pool" between two of them, and "pool" (over the
      whole map), "embedding" and "logits" after the last.
    output: [H, W, C]; 1×1 after the last pool.
    kernels: windows of the convolutions and then of the pools, such as ("1×1", "3×3/2",
      "avg 3×3"), each once; a stride follows the slash.
    parameters: number of trained values.
    multiply_adds: of convolutions and dense layers, for one image.
    activations: number of values that convolutions and dense layers give, for one image.
  """

  name: str
  output: tuple[int, ...]
  kernels: tuple[str, ...]
  parameters: int
  multiply_adds: int
  activations: int


@dataclasses.dataclass(frozen=True)
class Description:
  """A network's stages in their order.

  Attributes:
    model: its name in `models.registry`.
    dialect: whose implementation it matches.
    image_size: pixels.
    num_classes: width of the softmax layer.
    stages: all but auxiliary heads.
    auxiliary_heads: name → number of trained values; they work in training alone.
  """

  model: str
  dialect: str
  image_size: int
  num_classes: int
  stages: tuple[Stage, ...]
  auxiliary_heads: Mapping[str, int]

  @property
  def name(self) -> str:
    """Such as "bn_inception (paper)"."""
    return f"{self.model} ({self.dialect})"

  @property
  def parameters(self) -> int:
    """Number of trained values."""
    return sum(stage.parameters for stage in self.stages)

  @property
  def multiply_adds(self) -> int:
    """Of convolutions and dense layers, for one image."""
    return sum(stage.multiply_adds for stage in self.stages)

  @property
  def activations(self) -> int:
    """Number of values that convolutions and dense layers give, for one image."""
    return sum(stage.activations for stage in self.stages)


def describe(
  name: str,
  dialect: str | None = None,
  *,
  image_size: int | None = None,
  num_classes: int = 1000,
) -> Description:
  """Describes a network of `models.registry`.

  Args:
    name: such as "bn_inception".
    dialect: its first by default.
    image_size: pixels; its paper's by default.
    num_classes: width of the softmax layer.

  Raises:
    UserError: an unknown name or dialect, or images of which nothing is left.
  """
  network = models.create(name, dialect, num_classes=num_classes)
  size = image_size or NETWORKS[name].image_size
  return Description(
    model=name,
    dialect=dialect or models.registry.dialects(name)[0],
    image_size=size,
    num_classes=num_classes,
    stages=stages_of(network, size),
    auxiliary_heads=_auxiliary_heads(network, size),
  )


def stages_of(network: nn.Module, image_size: int) -> tuple[Stage, ...]:
  """The stages of a network that leaves features and ends in `heads`.

  Args:
    network: called with images [N, H, W, 3] and `train`.
    image_size: pixels.

  Raises:
    UserError: nothing is left of the images.
  """
  names: list[str] = []

  def apply(images: jax.Array) -> tuple[list[jax.Array], Mapping[str, Mapping]]:
    # Parameters that are missing are initialised here, which saves another trace for `init`.
    _, left = network.apply(
      {},
      images,
      train=False,
      mutable=["params", "batch_stats", FEATURES],
      rngs={"params": jax.random.key(0)},
    )
    names.extend(left[FEATURES])  # in their order, which a dict among the outputs would lose
    return list(left[FEATURES].values()), left["params"]

  with nn.override_named_call():  # so that operations bear the names of their modules
    program, (maps, params) = jax.make_jaxpr(apply, return_shape=True)(_image(image_size))
  sizes = {name: feature.shape[1:] for name, feature in zip(names, maps, strict=True)}
  parameters: dict[str, int] = {}
  for block, leaves in params.items():
    stage = block.removesuffix("_batch_norm")  # FaceNet's embedding has its own
    parameters[stage] = parameters.get(stage, 0) + _count(leaves)
  return tuple(
    Stage(
      name=name,
      output=output,
      kernels=_kernels(found),
      parameters=parameters.get(name, 0),
      multiply_adds=sum(operation.multiply_adds for operation in found),
      activations=sum(operation.activations for operation in found),
    )
    for name, output, found in _divide(operations.find(program), sizes)
  )


def _auxiliary_heads(network: nn.Module, image_size: int) -> dict[str, int]:
  if not getattr(network, "use_aux_heads", False):
    return {}
  params = jax.eval_shape(
    lambda images: network.init(jax.random.key(0), images, train=False)["params"],
    _image(image_size),
  )
  return {name: _count(leaves) for name, leaves in params.items() if name.startswith("aux")}


def _image(size: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


def _count(params: Mapping) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _divide(
  found: Sequence[Operation], sizes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, tuple[int, ...], list[Operation]]]:
  """Names, outputs [H, W, C] and operations of the stages, in their order."""
  with_modules = {name for operation in found for name in operation.path[:1]}
  features = list(sizes)
  maps = [operation for operation in found if operation.kind != "dense"]
  for path, group in itertools.groupby(maps, key=lambda operation: operation.path[:1]):
    grouped = list(group)
    if not path and features[0] in with_modules:  # it pools before the next feature's module
      yield f"{grouped[0].kind} pool", grouped[0].output[1:], grouped
    else:
      name = features.pop(0)
      yield name, sizes[name], grouped
  height, width, channels = sizes[name]
  # A mean over the whole map is a sum, which is no operation of ours.
  mean = Operation("avg", (), (height, width), 1, channels, (1, 1, 1, channels), 0)
  yield "pool", (1, 1, channels), [mean]
  for operation in found:
    if operation.kind == "dense":
      yield operation.path[0], (1, 1, operation.output[-1]), [operation]


def _kernels(found: Sequence[Operation]) -> tuple[str, ...]:
  kinds = list(_KERNEL_TEXTS)
  different = {(kinds.index(each.kind), each.window, each.strides) for each in found}
  return tuple(
    _KERNEL_TEXTS[kinds[kind]].format(f"{height}×{width}" + (f"/{strides}" if strides > 1 else ""))
    for kind, (height, width), strides in sorted(
      different, key=lambda each: (each[0], math.prod(each[1]), each)
    )
  )
