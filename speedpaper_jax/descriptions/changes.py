"""What changed from GoogLeNet to BN-Inception, and what each change costs.

The appendix of the Batch Normalization paper (arXiv 1502.03167) lists five changes. Two more are
needed to arrive at its network: the filters of Figure 5, which the appendix shows but does not
list, and batch normalization itself. The networks in between are in no paper; they are built and
counted as all others are.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

from speedpaper_jax.descriptions import stages
from speedpaper_jax.descriptions.variants import BN_INCEPTION, GOOGLENET, Variant, VariantNetwork
from speedpaper_jax.models.bn_inception import FIGURE_5, Row

PAPER = (224, 1000)  # pixels and classes of what the paper says
PARAMETERS_IN_SECTION_4_2 = 13.6e6  # of the network of Figure 5


class Size(NamedTuple):
  """Of a network, for one image.

  Attributes:
    parameters: number of trained values.
    multiply_adds: of convolutions and dense layers.
    activations: number of values that these layers give.
    weight_layers: on the longest way from the image to the logits.
  """

  parameters: int
  multiply_adds: int
  activations: int
  weight_layers: int


@dataclasses.dataclass(frozen=True)
class Change:
  """A step on the way.

  Attributes:
    number: in the appendix's list; None for what it does not list.
    name: what changes.
    before: the network without it, and without those that follow it.
    after: with it.
    without: BN-Inception but for this change; `BN_INCEPTION` less this is what the change costs
      where it is the last to be made. None where there is no such network.
  """

  number: int | None
  name: str
  before: Size
  after: Size
  without: Size | None


class Changes(NamedTuple):
  """The whole way.

  Attributes:
    steps: from GoogLeNet to BN-Inception, each from where the one before it ends.
    googlenet_with_dense_stem: with a dense 7×7 convolution in the place of the separable one.
    bn_inception_with_dense_stem: the same of BN-Inception.
  """

  steps: tuple[Change, ...]
  googlenet_with_dense_stem: Size
  bn_inception_with_dense_stem: Size

  @property
  def googlenet(self) -> Size:
    """Where the way begins."""
    return self.steps[0].before

  @property
  def bn_inception(self) -> Size:
    """Where it ends."""
    return self.steps[-1].after

  def numbered(self, number: int) -> Change:
    """A change by its number in the appendix."""
    return next(step for step in self.steps if step.number == number)


class Claim(NamedTuple):
  """What the appendix says of its first change, beside what is counted.

  Attributes:
    quantity: a field of `Size`.
    claimed: the growth of `quantity`, relative but for layers.
    first: by change 1.
    together: by all changes together.
    tolerance: the paper rounds.
  """

  quantity: str
  claimed: float
  first: float
  together: float
  tolerance: float

  @property
  def verdict(self) -> str:
    """Whether the claim is right, and of what."""
    if abs(self.first - self.claimed) <= self.tolerance:
      return "reproduced by change 1"
    if abs(self.together - self.claimed) <= self.tolerance:
      return "reproduced by all changes together"
    return "not reproduced"


def are_of(one: stages.Description, other: stages.Description) -> bool:
  """Whether this file is about these two networks."""
  both = {(network.model, network.dialect) for network in (one, other)}
  return both == {("googlenet", "paper"), ("bn_inception", "paper")}


def claims(counted: Changes) -> list[Claim]:
  """What the appendix claims of the network that `PAPER` asks for."""
  begin, first, end = counted.googlenet, counted.numbered(1).after, counted.bn_inception
  return [
    Claim(
      "multiply_adds",
      0.30,
      first.multiply_adds / begin.multiply_adds - 1,
      end.multiply_adds / begin.multiply_adds - 1,
      tolerance=0.025,
    ),
    Claim(
      "parameters",
      0.25,
      first.parameters / begin.parameters - 1,
      end.parameters / begin.parameters - 1,
      tolerance=0.025,
    ),
    Claim(
      "weight_layers",
      9,
      first.weight_layers - begin.weight_layers,
      end.weight_layers - begin.weight_layers,
      tolerance=0,
    ),
  ]


def count(image_size: int, num_classes: int) -> Changes:
  """Counts the networks on the way, for images of `image_size` pixels."""

  @functools.cache
  def size(variant: Variant) -> Size:
    counted = stages.stages_of(VariantNetwork(variant, num_classes), image_size)
    return Size(
      parameters=sum(stage.parameters for stage in counted),
      multiply_adds=sum(stage.multiply_adds for stage in counted),
      activations=sum(stage.activations for stage in counted),
      weight_layers=variant.weight_layers,
    )

  steps, before = [], GOOGLENET
  for number, name, after, without in WAY:
    last = None if without is None else size(without)
    steps.append(Change(number, name, size(before), size(after), last))
    before = after
  return Changes(
    tuple(steps),
    size(dataclasses.replace(GOOGLENET, stem_depth_multiplier=None)),
    size(dataclasses.replace(BN_INCEPTION, stem_depth_multiplier=None)),
  )


def _way() -> tuple[tuple[int | None, str, Variant, Variant | None], ...]:
  """Number, name, the network after the change, and BN-Inception without it."""
  replace = dataclasses.replace
  without_3c = tuple(row for row in FIGURE_5 if row.name != "3c")

  first = replace(GOOGLENET, two_3x3=True)
  filters = replace(first, rows=_with(without_3c, pool="max", strides=1))
  second = replace(filters, rows=_with(FIGURE_5, pool="max", strides=1))
  third = replace(second, rows=_with(FIGURE_5, strides=1))
  fourth = replace(third, rows=FIGURE_5, pools_before=frozenset())
  fifth = fourth  # GoogLeNet has the separable convolution already
  return (
    (1, "two 3×3 for each 5×5", first, replace(BN_INCEPTION, two_3x3=False)),
    (None, "filters of Figure 5", filters, None),
    (
      2,
      "third module at 28×28",
      second,
      replace(BN_INCEPTION, rows=without_3c, pools_before=frozenset({"4a"})),
    ),
    (
      3,
      "average or max pools",
      third,
      replace(BN_INCEPTION, rows=_with(FIGURE_5, pool="max")),
    ),
    (
      4,
      "stride 2 in 3c and 4e",
      fourth,
      replace(BN_INCEPTION, rows=_with(FIGURE_5, strides=1), pools_before=GOOGLENET.pools_before),
    ),
    (5, "separable 7×7", fifth, replace(BN_INCEPTION, stem_depth_multiplier=None)),
    (
      None,
      "batch normalization",
      BN_INCEPTION,
      replace(BN_INCEPTION, batch_norm=None),
    ),
  )


def _with(rows: tuple[Row, ...], **fields: Any) -> tuple[Row, ...]:
  return tuple(row._replace(**fields) for row in rows)


WAY = _way()
