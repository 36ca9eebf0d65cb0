"""What reports of comparisons by `experiments.arms` share: curves, the search, cells of tables."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.axes
import matplotlib.figure
import numpy as np
from matplotlib.ticker import PercentFormatter

from speedpaper_jax.files import rules
from speedpaper_jax.reports.drawing import COLORS, draw
from speedpaper_jax.reports.page import Figure, Section
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.learning_curves import LearningCurve, run_name
from speedpaper_jax.storage.run_directory import RunDirectory

# What such reports take from config.json.
_RATE: rules.Rules = {"learning_rate": rules.IfPresent(rules.ABOVE_ZERO)}
CHANGES: Mapping[str, Any] = {"optimizer": rules.IfPresent(_RATE)}  # of an arm
CONFIG: Mapping[str, Any] = {
  "seeds": rules.several(rules.SEED, 1),
  "rate_factors": rules.several(rules.ABOVE_ZERO, 1),
  "base": {"data": {"name": rules.TEXT}, "optimizer": {"learning_rate": rules.ABOVE_ZERO}},
}


def summary_rules(seeds: int, **of_an_arm: rules.Rule) -> dict[str, Any]:
  """What all such reports take from summary.json.

  Args:
    seeds: how many there are.
    **of_an_arm: of each seed's value, beside those that all comparisons have.
  """
  by_seed = {
    "best_top1": rules.FRACTION,
    "diverged_at": rules.or_nothing(rules.STEP),
    **of_an_arm,
  }
  arm = {name: rules.several(rule, seeds, seeds) for name, rule in by_seed.items()}
  return {
    "runs": rules.COUNT,
    "seconds": rules.AT_LEAST_ZERO,
    "chance": rules.FRACTION,
    "arms": rules.Each({"rate_factor": rules.ABOVE_ZERO, **arm}),
  }


def target_rules(seeds: int, **of_an_arm: rules.Rule) -> dict[str, Any]:
  """The same of those whose arms have one target, an accuracy of each seed's."""
  steps = rules.or_nothing(rules.AT_LEAST_ZERO)
  return {
    **summary_rules(seeds, steps_to_target=steps, **of_an_arm),
    "targets": rules.several(rules.or_nothing(rules.FRACTION), seeds, seeds),
  }


class Curves(NamedTuple):
  """The curves of a comparison, by the names of its arms.

  Attributes:
    searched: the first seed's for each factor of the rate.
    by_seed: those at the best factor.
  """

  searched: Mapping[str, Mapping[float, LearningCurve]]
  by_seed: Mapping[str, Sequence[LearningCurve]]


def read_curves(
  directory: RunDirectory,
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  arms: Sequence[str],
) -> Curves:
  """Reads the curves of all runs.

  Args:
    directory: of the comparison.
    config: its config.
    summary: its summary.
    arms: those to read.

  Raises:
    UserError: a file of a run is missing or damaged.
  """
  factors, seeds = config["rate_factors"], config["seeds"]

  def curve(arm: str, factor: float, seed: int) -> LearningCurve:
    return learning_curves.read(directory, run_name(arm, factor, seed))

  return Curves(
    {arm: {factor: curve(arm, factor, seeds[0]) for factor in factors} for arm in arms},
    {
      arm: [curve(arm, summary["arms"][arm]["rate_factor"], seed) for seed in seeds] for arm in arms
    },
  )


def rate(config: Mapping[str, Any], summary: Mapping[str, Any], arm: str) -> str:
  """The learning rate that the search chose for an arm."""
  changes = config["arms"][arm].get("optimizer", {})
  own = changes.get("learning_rate", config["base"]["optimizer"]["learning_rate"])
  return f"{own * summary['arms'][arm]['rate_factor']:.2g}"


def mean_and_range(seeds: Sequence[int]) -> str:
  """What is shown of several seeds, in words."""
  if len(seeds) == 1:
    return "with one seed"
  return f"the mean of {len(seeds)} seeds, with the smallest and the largest value"


def spread(values: Sequence[float], number_format: str) -> str:
  """`1,234`, and of several values the mean and the range, `1,234 (1,100–1,400)`."""
  text = format(statistics.mean(values), number_format)
  if len(values) == 1:
    return text
  return f"{text} ({min(values):{number_format}}–{max(values):{number_format}})"


def spread_of_reached(
  values: Sequence[float | None], targets: Sequence[float | None], number_format: str
) -> str:
  """The same of the seeds that came to their target, and how many never did.

  Args:
    values: by seed, None where the target was not reached.
    targets: by seed, None where there is none.
    number_format: of a value.
  """
  reached = [value for value in values if value is not None]
  if all(target is None for target in targets):
    return "undefined"
  if not reached:
    return "never"
  text = spread(reached, number_format)
  missing = sum(
    value is None and target is not None for value, target in zip(values, targets, strict=True)
  )
  return f"{text}, {missing} never" if missing else text


def best_top1(found: Mapping[str, Any]) -> str:
  """An arm's best accuracy in percent, and how many seeds diverged."""
  text = spread([100 * top1 for top1 in found["best_top1"]], ".1f")
  diverged = sum(step is not None for step in found["diverged_at"])
  return f"{text}, {diverged} diverged" if diverged else text


def search_section(config: Mapping[str, Any], own_rate: str) -> Section:
  """The section of the figure "search", see `draw_search`.

  Args:
    config: of the comparison.
    own_rate: what the factors are of, in words.
  """
  seed = config["seeds"][0]
  return Section(
    "The search",
    paragraphs=[
      "Every network has the same search. It is trained at "
      f"{', '.join(f'{factor:.2g}' for factor in config['rate_factors'])} times {own_rate} with "
      f"seed {seed}; the rate with the best held-out accuracy is its own, at which the other seeds "
      "are trained. Held-out images choose the rate and are those of the result, for every network "
      "alike."
    ],
    parts=[
      Figure("search", f"Every run of the search, with seed {seed}; the chosen rate is bold.")
    ],
  )


def paint_curves(
  axes: matplotlib.axes.Axes,
  by_seed: Mapping[str, Sequence[LearningCurve]],
  summary: Mapping[str, Any],
  names: Mapping[str, str],
) -> None:
  """Accuracy against steps: a line and a range for each arm, chance and the target.

  Args:
    axes: to draw on.
    by_seed: of each arm.
    summary: of the comparison.
    names: of all arms that there may be, in the order of their colours.
  """
  colors = dict(zip(names, COLORS, strict=False))
  for arm, curves in by_seed.items():
    paint_mean_and_range(axes, curves, colors[arm], names[arm])
  axes.axhline(summary["chance"], color="gray", linestyle=":", label="chance")
  if None not in summary["targets"]:
    target = statistics.mean(summary["targets"])
    axes.axhline(target, color="gray", linestyle="--", label="target")
  axes.set_xlabel("step")
  label_accuracy(axes)


def paint_mean_and_range(
  axes: matplotlib.axes.Axes, curves: Sequence[LearningCurve], color: str, label: str
) -> None:
  """Accuracy against steps: a line and a range of several seeds."""
  shared = min(len(curve.steps) for curve in curves)  # a run that diverged ended early
  steps = curves[0].steps[:shared]
  top1 = np.array([curve.top1[:shared] for curve in curves])
  axes.plot(steps, top1.mean(0), color=color, label=label)
  axes.fill_between(steps, top1.min(0), top1.max(0), color=color, alpha=0.2, linewidth=0)


def draw_search(
  directory: RunDirectory,
  searched: Mapping[str, Mapping[float, LearningCurve]],
  summary: Mapping[str, Any],
  names: Mapping[str, str],
) -> None:
  """Draws the figure "search": a panel for each arm, with a line for each rate.

  Args:
    directory: of the comparison.
    searched: the first seed's curves of each arm, by the factor of its rate.
    summary: of the comparison.
    names: of the arms.
  """
  draw(directory, "search", lambda figure: _paint_search(figure, searched, summary, names), 11, 6.5)


def _paint_search(
  figure: matplotlib.figure.Figure,
  searched: Mapping[str, Mapping[float, LearningCurve]],
  summary: Mapping[str, Any],
  names: Mapping[str, str],
) -> None:
  panels = figure.subplots(2, -(-len(searched) // 2), sharex=True, sharey=True, squeeze=False)
  for axes in panels.flat[len(searched) :]:
    axes.set_visible(False)
  for axes, (arm, by_factor) in zip(panels.flat, searched.items(), strict=False):
    for number, (factor, curve) in enumerate(by_factor.items()):
      chosen = factor == summary["arms"][arm]["rate_factor"]
      axes.plot(
        curve.steps,
        curve.top1,
        color=COLORS[number],
        linewidth=2.5 if chosen else 1,
        label=f"{factor:.2g} times its rate",
      )
      if curve.diverged_at is not None:
        axes.plot(curve.diverged_at, 0, "x", color=COLORS[number], markersize=9, clip_on=False)
    axes.axhline(summary["chance"], color="gray", linestyle=":", label="chance")
    axes.set_title(names[arm], fontsize=11)
  for axes in panels[:, 0]:
    label_accuracy(axes)
  for axes in panels[-1]:
    axes.set_xlabel("step")
  for axes in panels[0, len(searched) // 2 :]:  # above a panel that is not there
    axes.set_xlabel("step")
    axes.tick_params(labelbottom=True)
  handles, labels = panels[0, 0].get_legend_handles_labels()
  legend = figure.legend(handles, labels, loc="outside lower center", ncols=4)
  for line in legend.get_lines():
    line.set_linewidth(1.5)  # whichever the first panel's chosen rate is


def label_accuracy(axes: matplotlib.axes.Axes) -> None:
  """The vertical axis of accuracies, which are fractions."""
  axes.set_ylabel("top-1 accuracy [%]")
  axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
