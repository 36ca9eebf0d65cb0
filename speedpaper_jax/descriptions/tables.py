"""Descriptions as text, 110 columns wide at most."""

import textwrap
from collections.abc import Sequence

from speedpaper_jax.descriptions.changes import (
  PARAMETERS_IN_SECTION_4_2,
  Change,
  Changes,
  Claim,
  Size,
)
from speedpaper_jax.descriptions.differences import Difference
from speedpaper_jax.descriptions.stages import Description, Stage

_WIDTH = 110
DEFINITIONS = textwrap.fill(
  "Parameters are all trained values. MACs are multiply-adds of convolutions and dense layers, for "
  "one image; activations are the values that these layers give. Biases, batch normalization, "
  "pools and nonlinearities add to neither.",
  _WIDTH,
)
_POWERS = {"G": 9, "M": 6, "": 0}
_QUANTITIES = {  # name, unit and decimals
  "multiply_adds": ("multiply-adds", "G", 3),
  "parameters": ("parameters", "M", 2),
  "weight_layers": ("weight layers", "", 0),
}


def stages(description: Description) -> str:
  """A network's stages, one a line, and their totals."""
  size = description.image_size
  lines = [
    f"{description.name}, images of {size}×{size}, {description.num_classes:,} classes",
    _stage("stage", "output", "kernels", "parameters", "MACs [M]", "activations"),
  ]
  for stage in description.stages:
    output, kernels = "×".join(map(str, stage.output)), ", ".join(stage.kernels)
    lines.append(_stage(stage.name, output, kernels, *_counts(stage)))
  lines.append(_stage("total", "", "", *_counts(description)))
  lines += [
    f"  Not counted: {name}, an auxiliary head of {parameters:,} parameters, for training alone."
    for name, parameters in description.auxiliary_heads.items()
  ]
  return "\n".join(lines)


def _counts(counted: Stage | Description) -> tuple[str, str, str]:
  return (
    f"{counted.parameters:,}",
    _millions(counted.multiply_adds),
    f"{counted.activations:,}",
  )


def _stage(*cells: str) -> str:
  name, output, kernels, *counts = cells
  return f"  {name:16}{output:>12}  {kernels:34}" + "".join(f"{count:>13}" for count in counts)


def differences(
  rows: Sequence[Difference], title: str, one: str = "from", other: str = "to"
) -> str:
  """Numbers of two networks side by side; `one` and `other` are the columns' names."""
  lines = [
    title,
    _difference("", "parameters", "", "", "MACs [M]"),
    _difference("", *(one, other, "difference") * 2),
  ]
  for name, (parameters, new_parameters), (multiply_adds, new_multiply_adds) in rows:
    lines.append(
      _difference(
        name,
        f"{parameters:,}",
        f"{new_parameters:,}",
        _signed(new_parameters - parameters),
        _millions(multiply_adds),
        _millions(new_multiply_adds),
        _signed_millions(new_multiply_adds - multiply_adds),
      )
    )
  return "\n".join(lines)


def _difference(name: str, *cells: str) -> str:
  return f"  {name:16}" + "".join(f"{cell:>15}" for cell in cells)


def changes(counted: Changes) -> str:
  """The way from GoogLeNet to BN-Inception, what each change costs, and how it is counted."""
  begin, end = counted.googlenet, counted.bn_inception
  lines = [
    "From GoogLeNet to BN-Inception, each change on top of those above it",
    _change("", "", "parameters", "", "", "MACs [M]", "", "", "if made last"),
    _change("", "", *("after", "change", "") * 2, "parameters", "MACs [M]"),
    _change("", "GoogLeNet", f"{begin.parameters:,}", "", "", _millions(begin.multiply_adds)),
    *(_step(step, end) for step in counted.steps),
    _step(Change(None, "all together", begin, end, None), end),
  ]
  return "\n".join([*lines, *_remarks(counted)])


def _step(step: Change, end: Size) -> str:
  last = ["–", "–"]
  if step.without is not None:
    last = [
      _signed(end.parameters - step.without.parameters),
      _signed_millions(end.multiply_adds - step.without.multiply_adds),
    ]
  return _change(
    "·" if step.number is None else str(step.number),
    step.name,
    f"{step.after.parameters:,}",
    _signed(step.after.parameters - step.before.parameters),
    _percent(step.after.parameters / step.before.parameters - 1),
    _millions(step.after.multiply_adds),
    _signed_millions(step.after.multiply_adds - step.before.multiply_adds),
    _percent(step.after.multiply_adds / step.before.multiply_adds - 1),
    *last,
  )


def _change(number: str, name: str, *cells: str) -> str:
  widths = (12, 12, 9, 10, 9, 9, 12, 10)
  columns = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))
  return f"  {number:2}{name:22}{columns}".rstrip()


def _remarks(counted: Changes) -> list[str]:
  """How each change is counted, and from which others it cannot be told apart."""
  both = counted.numbered(4).after.multiply_adds - counted.numbered(2).before.multiply_adds
  remarks = {
    "": "If made last: BN-Inception less the same network without this change alone.",
    "1": "In GoogLeNet's filters, the first 3×3 with as many as the second. If made last, in those "
    "of Figure 5, it makes the network cheaper: two 3×3 have fewer weights than a 5×5 where the "
    "1×1 before them has over 9/16 of their filters, as it has there.",
    "·": "Not in the appendix's list: the filters of the nine modules that both networks have. "
    "Among them 4e loses its 1×1 branch and its pool's projection, because it is to have stride 2; "
    "this part cannot be told apart from 4.",
    "2": "3c as in Figure 5 but with stride 1, and the pool behind it. If made last, it comes in "
    "the place of a pool: 2 cannot be told apart from 4. Together they cost "
    f"{_signed_millions(both)} M.",
    "3": "Pools have neither parameters nor multiply-adds.",
    "4": "3c and 4e take the stride from the pools behind them: their last convolutions have a "
    "quarter of the positions.",
    "5": "GoogLeNet has it already: its Table 1 prints 2.7K parameters and 34M operations for the "
    "first convolution, which are a separable one's. Below it is set against a dense one.",
    "· ": "Not in the appendix's list: γ and β in the place of each bias.",
  }
  lines = []
  for number, remark in remarks.items():
    lines += textwrap.wrap(
      remark, _WIDTH, initial_indent=f"  {number.strip():2}", subsequent_indent="    "
    )
  return lines


def stems(counted: Changes) -> str:
  """The first convolution, dense and separable, in both networks."""
  dense_googlenet, dense = counted.googlenet_with_dense_stem, counted.bn_inception_with_dense_stem
  end = counted.bn_inception
  rows = [
    _of_sizes("googlenet", dense_googlenet, counted.googlenet),
    _of_sizes("bn_inception", dense, end),
  ]
  title = "The first convolution, 7×7: dense, and separable with depth multiplier 8"
  memory = (
    f"  The separable one has {end.activations - dense.activations:,} more activations "
    f"({_percent(end.activations / dense.activations - 1)}), to keep in memory for training."
  )
  return differences(rows, title, "dense", "separable") + "\n" + memory


def _of_sizes(name: str, one: Size, other: Size) -> Difference:
  return Difference(
    name, (one.parameters, other.parameters), (one.multiply_adds, other.multiply_adds)
  )


def claims(compared: Sequence[Claim], counted: Changes) -> str:
  """What the paper says that change 1 costs, beside what is counted."""
  begin, end = counted.googlenet, counted.bn_inception
  lines = [
    "What the appendix says that change 1 adds, and what is counted",
    _claim("", "claimed", "change 1", "together", "GoogLeNet", "BN-Inception", ""),
  ]
  for claim in compared:
    name, unit, decimals = _QUANTITIES[claim.quantity]
    growths = (claim.claimed, claim.first, claim.together)
    totals = (getattr(size, claim.quantity) for size in (begin, end))
    lines.append(
      _claim(
        name,
        *(
          f"{growth:+}" if claim.quantity == "weight_layers" else _percent(growth)
          for growth in growths
        ),
        *(f"{total / 10 ** _POWERS[unit]:.{decimals}f}{unit}" for total in totals),
        claim.verdict,
      )
    )
  lines.append(
    f"  Section 4.2 gives its network {PARAMETERS_IN_SECTION_4_2 / 1e6:.1f}M parameters: not "
    f"reproduced, the layers of Figure 5 have {end.parameters / 1e6:.2f}M."
  )
  return "\n".join(lines)


def _claim(*cells: str) -> str:
  quantity, *numbers, verdict = cells
  columns = "".join(f"{number:>10}" for number in numbers[:-1])
  return f"  {quantity:14}{columns}{numbers[-1]:>14}   {verdict}".rstrip()


def _millions(count: int) -> str:
  return f"{count / 1e6:,.1f}"


def _signed(count: int) -> str:
  return f"{count:+,}" if count else "0"


def _signed_millions(count: int) -> str:
  return f"{count / 1e6:+,.1f}" if count else "0"


def _percent(growth: float) -> str:
  return f"{100 * growth:+.1f} %" if growth else "0 %"
