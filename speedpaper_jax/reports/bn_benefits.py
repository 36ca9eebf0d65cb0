"""The report of one factor's effect, with and without batch normalization."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.axes
import matplotlib.figure
from matplotlib.ticker import PercentFormatter

from speedpaper_jax.files import rules
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import draw
from speedpaper_jax.reports.networks import LABELS, NETWORK_COLORS, TWO_NETWORKS
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.learning_curves import LearningCurve, arm_name, run_name
from speedpaper_jax.storage.run_directory import RunDirectory


class Factor(NamedTuple):
  """How a factor is spoken of.

  Attributes:
    title: of the report.
    label: of its axis.
    claim: what the paper says of it, and where.
    text: of a value.
  """

  title: str
  label: str
  claim: str
  text: Callable[[float], str] = "{:g}".format

  @property
  def name(self) -> str:
    """The label without what its values are multiples of."""
    return self.label.partition(",")[0]


FACTORS = {
  "lr": Factor(
    "Higher learning rates",
    "learning rate, times Inception's 0.0015",
    "Section 3.3: batch normalization enables higher learning rates.",
    "×{:g}".format,
  ),
  "init": Factor(
    "Initial scale",
    "initial scale, times the usual one",
    "Section 1: the network depends less on the scale of its initial values.",
    "×{:g}".format,
  ),
  "dropout": Factor(
    "Dropout",
    "dropout rate",
    "Section 4.2.1: dropout can be removed, because batch normalization serves some of its goals.",
    "{:.0%}".format,
  ),
  "l2": Factor(
    "L2",
    "L2 weight",
    "Section 4.2.1: the weight of L2 can be lowered, which makes held-out accuracy better.",
  ),
  "lrn": Factor(
    "Local response normalization",
    "local response normalization",
    "Section 4.2.1: local response normalization is not necessary with batch normalization.",
    lambda value: "on" if value else "off",
  ),
  "batch_size": Factor(
    "Batch size, and what regularises",
    "batch size",
    "Section 3.4: an example is seen together with others of its batch, which regularises; the "
    "smaller the batch, the noisier its statistics.",
  ),
}

_CONFIG: rules.Rules = {
  "benefit": rules.one_of(FACTORS),
  "factor_values": rules.several(rules.FINITE, 1),
  "rate_factors": rules.several(rules.ABOVE_ZERO, 1),
  "seeds": rules.several(rules.SEED, 1),
  "base": {"data": {"name": rules.TEXT}},
}
_SUMMARY: rules.Rules = {
  "runs": rules.COUNT,
  "seconds": rules.AT_LEAST_ZERO,
  "chance": rules.FRACTION,
  "arms": rules.Each({"rate_factor": rules.ABOVE_ZERO}),
}


class Cell(NamedTuple):
  """A network at one value of the factor, with a curve for each seed."""

  value: float
  network: str
  rate_factor: float
  curves: Sequence[LearningCurve]

  @property
  def diverged(self) -> int:
    """Of how many seeds the run diverged."""
    return sum(curve.diverged_at is not None for curve in self.curves)

  @property
  def final_top1(self) -> list[float]:
    """Held-out accuracies, zero for seeds that diverged."""
    return [curve.final_top1 for curve in self.curves]

  @property
  def train_top1(self) -> list[float]:
    """Accuracies on the training images, of the seeds that did not diverge."""
    return [curve.train_top1 for curve in self.curves if curve.train_top1 is not None]

  @property
  def gaps(self) -> list[float]:
    """Training minus held-out accuracy, of the seeds that did not diverge."""
    return [
      curve.train_top1 - curve.final_top1 for curve in self.curves if curve.train_top1 is not None
    ]


def present(directory: RunDirectory) -> Page:
  """Draws accuracy and gap against the factor, and the curves of all runs.

  Raises:
    UserError: a file of the comparison or of one of its runs is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", _SUMMARY)
  factor, seeds = FACTORS[config["benefit"]], config["seeds"]
  cells = [
    _cell(directory, config, summary, value, network)
    for network in TWO_NETWORKS
    for value in config["factor_values"]
  ]
  data = config["base"]["data"]["name"]
  chance = summary["chance"]
  draw(directory, "effect", lambda figure: _paint_effect(figure, factor, cells, chance), 11, 4.6)
  draw(directory, "curves", lambda figure: _paint_curves(figure, factor, cells, chance), 11, 5.5)
  return Page(
    title=f"{factor.title}, with and without batch normalization, on {data}",
    result=_result(config["benefit"], factor, cells, chance),
    sections=[
      Section(
        "Result",
        paragraphs=[
          factor.claim,
          f"{summary['runs']} runs took {duration(summary['seconds'])}.",
        ],
        parts=[
          Figure(
            "effect",
            f"Left: accuracy on held-out images of {data} after the last step. Right: accuracy on "
            f"the training images, minus that. The mean of {len(seeds)} seeds and the range "
            "between them; a cross is where a run diverged.",
          ),
          _table(factor, cells, searched=len(config["rate_factors"]) > 1),
        ],
      ),
      Section(
        "All runs",
        paragraphs=[_policy(config)],
        parts=[
          Figure(
            "curves", "Held-out accuracy against steps, a line for each seed at the rate chosen."
          )
        ],
      ),
    ],
  )


def _cell(
  directory: RunDirectory,
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  value: float,
  network: str,
) -> Cell:
  arm = arm_name(network, value)
  rate_factor = summary["arms"][arm]["rate_factor"]
  return Cell(
    value=value,
    network=network,
    rate_factor=rate_factor,
    curves=[
      learning_curves.read(directory, run_name(arm, rate_factor, seed)) for seed in config["seeds"]
    ],
  )


def _policy(config: Mapping[str, Any]) -> str:
  factors = config["rate_factors"]
  if len(factors) == 1:
    return "There is no search for the learning rate: it is the factor."
  return (
    "Every network has the same search for its learning rate, with the first seed: "
    f"{' and '.join(f'{factor:g}' for factor in factors)} times Inception's rate, of which the one "
    "with the better held-out accuracy is taken for all seeds."
  )


def _result(benefit: str, factor: Factor, cells: Sequence[Cell], chance: float) -> str:
  if benefit in ("lr", "init", "batch_size"):
    return " ".join(
      _trained_range(factor, [cell for cell in cells if cell.network == network], chance)
      for network in TWO_NETWORKS
    )
  return " ".join(
    _change(factor, [cell for cell in cells if cell.network == network]) for network in TWO_NETWORKS
  )


def _trained_range(factor: Factor, cells: Sequence[Cell], chance: float) -> str:
  """At which values the network learns: more than half of the way from chance to everything."""
  network = _sentence_start(LABELS[cells[0].network])
  learned = [cell for cell in cells if statistics.mean(cell.final_top1) > chance + (1 - chance) / 2]
  if not learned:
    return f"{network} the network learns at no {factor.name} tried."
  best = max(learned, key=lambda cell: statistics.mean(cell.final_top1))
  values = ", ".join(factor.text(cell.value) for cell in learned)
  return (
    f"{network} the network learns at {values}; its best accuracy is "
    f"{100 * statistics.mean(best.final_top1):.1f} %, at {factor.text(best.value)}."
  )


def _change(factor: Factor, cells: Sequence[Cell]) -> str:
  """The effect of the factor beside the spread between seeds."""
  first, *others = cells
  network = _sentence_start(LABELS[first.network])
  if not others:
    return f"{network}, {factor.label} {factor.text(first.value)} is the only value that was tried."
  best = max(others, key=lambda cell: statistics.mean(cell.final_top1))
  change = 100 * (statistics.mean(best.final_top1) - statistics.mean(first.final_top1))
  if len(first.curves) == 1:
    verdict = "with one seed, which does not distinguish it from the spread between seeds"
  else:
    spread = 100 * max(max(cell.final_top1) - min(cell.final_top1) for cell in (first, best))
    comparison = "less than" if abs(change) <= spread else "more than"
    verdict = f"{comparison} the {spread:.1f} points between seeds"
  return (
    f"{network}, {factor.label} {factor.text(best.value)} instead of "
    f"{factor.text(first.value)} changes held-out accuracy by {change:+z.1f} points, {verdict}."
  )


def _sentence_start(text: str) -> str:
  return text[0].upper() + text[1:]


def _table(factor: Factor, cells: Sequence[Cell], searched: bool) -> Table:
  rate = ["rate"] if searched else []
  return Table(
    (factor.name, "network", *rate, "held-out [%]", "training [%]", "gap [points]", "diverged"),
    [
      (
        factor.text(cell.value),
        LABELS[cell.network],
        *([f"×{cell.rate_factor:g}"] if searched else []),
        _spread(cell.final_top1),
        _spread(cell.train_top1),
        _spread(cell.gaps),
        f"{cell.diverged} of {len(cell.curves)}",
      )
      for cell in cells
    ],
    "Means over the seeds, with the smallest and the largest value. A run that diverged counts as "
    "0 % of the held-out images, and not at all in the other columns.",
  )


def _spread(fractions: Sequence[float]) -> str:
  if not fractions:
    return "–"
  values = [100 * fraction for fraction in fractions]
  text = f"{statistics.mean(values):z.1f}"
  return f"{text} ({min(values):z.1f} to {max(values):z.1f})" if len(values) > 1 else text


def _paint_effect(
  figure: matplotlib.figure.Figure, factor: Factor, cells: Sequence[Cell], chance: float
) -> None:
  accuracy, gap = figure.subplots(1, 2)
  for number, network in enumerate(TWO_NETWORKS):
    chosen = [cell for cell in cells if cell.network == network]
    # Beside each other, because their ranges may overlap.
    places = [place + 0.12 * (number - 0.5) for place in range(len(chosen))]
    color = NETWORK_COLORS[network]
    _points(accuracy, places, [cell.final_top1 for cell in chosen], color, LABELS[network])
    with_gaps = [
      (place, [100 * of_seed for of_seed in cell.gaps])
      for place, cell in zip(places, chosen, strict=True)
      if cell.gaps
    ]
    _points(gap, [place for place, _ in with_gaps], [gaps for _, gaps in with_gaps], color, None)
    for place, cell in zip(places, chosen, strict=True):
      if cell.diverged:
        accuracy.plot(place, 0, "x", color=color, markersize=10, markeredgewidth=2, clip_on=False)
  if any(cell.diverged for cell in cells):
    accuracy.plot([], [], "x", color="gray", label="diverged")
  accuracy.axhline(chance, color="gray", linestyle=":", label="chance")
  gap.axhline(0, color="gray", linewidth=0.8)
  accuracy.set_ylim(0, 1.02)
  accuracy.set_ylabel("held-out top-1 accuracy [%]")
  accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
  gap.set_ylabel("training minus held-out [points]")
  for axes in (accuracy, gap):
    values = [factor.text(cell.value) for cell in cells if cell.network == TWO_NETWORKS[0]]
    axes.set_xticks(range(len(values)), values)
    axes.set_xlabel(factor.label)
  figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _points(
  axes: matplotlib.axes.Axes,
  places: Sequence[float],
  values: Sequence[Sequence[float]],
  color: str,
  label: str | None,
) -> None:
  means = [statistics.mean(of_seeds) for of_seeds in values]
  below = [mean - min(of_seeds) for mean, of_seeds in zip(means, values, strict=True)]
  above = [max(of_seeds) - mean for mean, of_seeds in zip(means, values, strict=True)]
  axes.errorbar(
    places, means, (below, above), color=color, marker="o", capsize=4, linewidth=1.5, label=label
  )


def _paint_curves(
  figure: matplotlib.figure.Figure, factor: Factor, cells: Sequence[Cell], chance: float
) -> None:
  values = [cell.value for cell in cells if cell.network == TWO_NETWORKS[0]]
  panels = figure.subplots(len(TWO_NETWORKS), len(values), sharex="col", sharey=True, squeeze=False)
  for cell in cells:
    axes = panels[TWO_NETWORKS.index(cell.network), values.index(cell.value)]
    for curve in cell.curves:
      color = NETWORK_COLORS[cell.network]
      axes.plot(curve.steps, curve.top1, color=color, linewidth=1.2, marker=".")
      if curve.diverged_at is not None:
        axes.plot(curve.diverged_at, 0, "x", color=color, markersize=9, clip_on=False)
    axes.axhline(chance, color="gray", linestyle=":")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
  for axes, value in zip(panels[0], values, strict=True):
    axes.set_title(factor.text(value))
  for axes in panels[-1]:
    axes.set_xlabel("step")
  for axes, network in zip(panels[:, 0], TWO_NETWORKS, strict=True):
    axes.set_ylabel(f"{LABELS[network]}\ntop-1 [%]")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
  figure.suptitle(factor.label)
