"""What an implementation calls the parts of a network; each network's file here has the names."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from speedpaper_jax.data.normalization import DEFAULT, Normalization
from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.models import registry
from speedpaper_jax.papers.networks import NETWORKS

if TYPE_CHECKING:
  from speedpaper_jax.data.preprocessing import Preprocessing


class Tap(NamedTuple):
  """Where the output of a stage is seen: at a module's output, or at the input of the next one."""

  module: str
  at_input: bool = False


@dataclasses.dataclass(frozen=True)
class Names:
  """One implementation of a network.

  Attributes:
    source: the package whose names these are.
    dialect: of ours that it is.
    image_size: pixels, height and width, of its weights.
    normalization: the input that its weights expect.
    central_fraction: of the image's short side, that its published accuracy was measured on.
    interpolation: of the resize before.
    blocks: our `ConvBlock`s → theirs; empty where the names are ours with dots.
    layers: our layers outside of `ConvBlock`s → theirs.
    stages: our stages → where theirs are seen.
    aux: our auxiliary heads → the names that their tensors begin with.
    aux_image_size: pixels of the smallest images that their auxiliary heads take.
    resize: see `EvaluationCrop`.
    in_torch: whether its networks are PyTorch's.
    conv: a block's convolution, from their name of the block.
    batch_norm: a block's batch normalization, likewise.
  """

  source: str
  dialect: str
  image_size: int
  normalization: Normalization
  central_fraction: float
  interpolation: str
  blocks: Mapping[str, str]
  layers: Mapping[str, str]
  stages: Mapping[str, Tap]
  aux: Mapping[str, str] = dataclasses.field(default_factory=dict)
  aux_image_size: int = 0
  resize: str = "short_side"
  in_torch: bool = True
  conv: str = "{}.conv"
  batch_norm: str = "{}.bn"

  @property
  def preprocessing(self) -> "Preprocessing":
    """What its weights expect, unless they say otherwise."""
    # By Pillow, which the names do without.
    from speedpaper_jax.data.crop import EvaluationCrop
    from speedpaper_jax.data.preprocessing import Preprocessing

    crop = EvaluationCrop(self.image_size, self.central_fraction, self.resize, self.interpolation)
    return Preprocessing(crop, self.normalization)

  def layer(self, ours: str) -> str:
    """Their name of a layer, from the path of ours, such as "conv1/conv" or "logits"."""
    if ours in self.layers:
      return self.layers[ours]
    if not self.blocks:
      return ours.replace("/", ".")
    block, _, kind = ours.rpartition("/")
    pattern = {"conv": self.conv, "batch_norm": self.batch_norm}[kind]
    return pattern.format(self.blocks[block])


def implementations(model: str, dialect: str | None = None) -> list[Names]:
  """The other implementations of a network, in one of its dialects or in all."""
  registry.find_dialect(model, dialect)  # for its error messages
  module = f"speedpaper_jax.interop.{model}"
  if importlib.util.find_spec(module) is None:  # nobody has it in PyTorch
    return []
  found = importlib.import_module(module).IMPLEMENTATIONS
  return [names for names in found if dialect in (None, names.dialect)]


def own_names(model: str, dialect: str) -> Names:
  """Our own names with dots, for a dialect that nobody has implemented in PyTorch."""
  return Names(
    source="speedpaper_jax",
    dialect=dialect,
    image_size=NETWORKS[model].image_size,
    normalization=DEFAULT,
    central_fraction=0.875,
    interpolation="bilinear",
    blocks={},
    layers={"logits": "logits"},
    stages={},
    aux={"aux": "aux"},
  )


def implementation(model: str, source: str) -> Names:
  """The implementation of a network by a package.

  Raises:
    UserError: the package has none.
  """
  available = {names.source: names for names in implementations(model)}
  if source not in available:
    raise UserError(f"There is no {model} of '{source}'.{did_you_mean(source, available)}")
  return available[source]


def convolutions_of(blocks: Mapping[str, tuple[str, Mapping[str, str]]]) -> dict[str, str]:
  """Names of the convolutions of blocks.

  Args:
    blocks: our block → theirs, and our names of the convolutions within it → theirs.
  """
  return {
    f"{block}/{ours}": f"{their_block}.{theirs}"
    for block, (their_block, convolutions) in blocks.items()
    for ours, theirs in convolutions.items()
  }


def stages_of(
  convolutions: Mapping[str, str], blocks: Mapping[str, tuple[str, Mapping[str, str]]]
) -> dict[str, Tap]:
  """Stages that are modules in PyTorch too: convolutions outside of blocks, and blocks."""
  theirs = {**convolutions, **{block: their_block for block, (their_block, _) in blocks.items()}}
  return {stage: Tap(module) for stage, module in theirs.items()}
