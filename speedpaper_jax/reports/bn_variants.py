"""The report of the comparison of section 4.2's networks: Figures 2 and 3, ours and the paper's."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import numpy as np
from matplotlib.ticker import PercentFormatter

from speedpaper_jax.files import rules
from speedpaper_jax.papers import batch_norm as paper
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import COLORS, draw
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration, percent
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.learning_curves import LearningCurve, run_name
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = {arm: row.name for arm, row in paper.FIGURE_3.items()} | {
  "inception_x5": "Inception at 5 times the rate",
  "inception_sigmoid": "Inception with sigmoids",
}
_COLORS = dict(zip(NAMES, COLORS, strict=False))

# What section 4.2.2 says of the controls, which Figure 3 leaves out.
_CONTROLS_IN_THE_PAPER = {"inception_x5": "diverges", "inception_sigmoid": "chance"}

_RATE: rules.Rules = {"learning_rate": rules.IfPresent(rules.ABOVE_ZERO)}
_CONFIG: rules.Rules = {
  "seeds": rules.several(rules.SEED, 1),
  "rate_factors": rules.several(rules.ABOVE_ZERO, 1),
  "baseline": rules.one_of(NAMES),
  "arms": rules.Each({"optimizer": rules.IfPresent(_RATE)}),
  "base": {"data": {"name": rules.TEXT}, "optimizer": {"learning_rate": rules.ABOVE_ZERO}},
}


def _summary_rules(seeds: int) -> rules.Rules:
  def by_seed(rule: rules.Rule) -> rules.Rule:
    return rules.several(rule, seeds, seeds)

  arm = {
    "rate_factor": rules.ABOVE_ZERO,
    "best_top1": by_seed(rules.FRACTION),
    "diverged_at": by_seed(rules.or_nothing(rules.STEP)),
    "steps_to_target": by_seed(rules.or_nothing(rules.AT_LEAST_ZERO)),
    "speedup": by_seed(rules.or_nothing(rules.AT_LEAST_ZERO)),
  }
  return {
    "runs": rules.COUNT,
    "seconds": rules.AT_LEAST_ZERO,
    "chance": rules.FRACTION,
    "targets": by_seed(rules.or_nothing(rules.FRACTION)),
    "arms": rules.Each(arm),
  }


def present(directory: RunDirectory) -> Page:
  """Draws the curves of all runs, and sets Figure 3's table beside ours.

  Raises:
    UserError: a file of the comparison or of one of its runs is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", _summary_rules(len(config["seeds"])))
  arms = [arm for arm in NAMES if arm in summary["arms"]]
  if config["baseline"] not in arms:
    raise contents.damaged(directory, "summary.json", "arms lacks the baseline.")
  factors, seeds = config["rate_factors"], config["seeds"]

  def curve(arm: str, factor: float, seed: int) -> LearningCurve:
    return learning_curves.read(directory, run_name(arm, factor, seed))

  searched = {arm: {factor: curve(arm, factor, seeds[0]) for factor in factors} for arm in arms}
  by_seed = {
    arm: [curve(arm, summary["arms"][arm]["rate_factor"], seed) for seed in seeds] for arm in arms
  }
  data = config["base"]["data"]["name"]
  draw(directory, "curves", lambda figure: _paint_curves(figure, by_seed, summary), 11, 5)
  draw(directory, "search", lambda figure: _paint_search(figure, searched, summary), 11, 6.5)
  return Page(
    title=f"The networks of section 4.2 on {data}",
    result=_result(summary, arms, config["baseline"]),
    sections=[
      Section(
        "Result",
        paragraphs=_remarks(summary, config["baseline"]),
        parts=[
          _table(config, summary, arms),
          Figure(
            "curves",
            f"Accuracy on held-out images of {data} against steps, each network at its best rate, "
            f"{_mean_and_range(seeds)}. Right, Figure 2 of the paper, on ImageNet.",
          ),
        ],
      ),
      Section(
        "The search",
        paragraphs=[
          "Every network has the same search. It is trained at "
          f"{', '.join(f'{factor:.2g}' for factor in factors)} times its rate in the paper with "
          f"seed {seeds[0]}; the rate with the best held-out accuracy is its own, at which the "
          "other seeds are trained. Held-out images choose the rate and are those of the result, "
          "for every network alike."
        ],
        parts=[
          Figure(
            "search", f"Every run of the search, with seed {seeds[0]}; the chosen rate is bold."
          )
        ],
      ),
    ],
  )


def _mean_and_range(seeds: Sequence[int]) -> str:
  if len(seeds) == 1:
    return "with one seed"
  return f"the mean of {len(seeds)} seeds, with the smallest and the largest value"


def _result(summary: Mapping[str, Any], arms: Sequence[str], baseline: str) -> str:
  runs = f"{summary['runs']} runs took {duration(summary['seconds'])}."
  if None in summary["targets"]:
    return (
      f"{NAMES[baseline]} stayed at chance, so that there is no accuracy for the others to reach. "
      f"{runs}"
    )
  speedups = {
    arm: statistics.mean(summary["arms"][arm]["speedup"])
    for arm in arms
    if arm != baseline and None not in summary["arms"][arm]["speedup"]
  }
  target = percent(statistics.mean(summary["targets"]))
  if not speedups:
    return f"No other network reaches {NAMES[baseline]}'s best accuracy, {target}. {runs}"
  fastest = max(speedups, key=speedups.__getitem__)
  return (
    f"{NAMES[fastest]} needs {speedups[fastest]:.1f} times fewer steps than {NAMES[baseline]} to "
    f"its best accuracy, {target}. {runs}"
  )


def _remarks(summary: Mapping[str, Any], baseline: str) -> list[str]:
  remarks = [
    "A ratio says how many times fewer steps a network takes than the baseline to the baseline's "
    "best accuracy with the same seed; between two evaluations the curve counts as straight."
  ]
  if None in summary["targets"]:
    remarks.append(
      f"With {summary['targets'].count(None)} of {len(summary['targets'])} seeds "
      f"{NAMES[baseline]} stayed at chance, where the ratio is undefined."
    )
  return remarks


def _table(config: Mapping[str, Any], summary: Mapping[str, Any], arms: Sequence[str]) -> Table:
  rows = []
  speedups = paper.speedups()
  for arm in arms:
    found = summary["arms"][arm]
    printed = paper.FIGURE_3.get(arm)
    if printed is None:
      beside = ("–", "–", _CONTROLS_IN_THE_PAPER.get(arm, "–"))
    elif printed.steps_to_target is None:
      beside = ("never", "–", f"{100 * printed.max_top1:.1f}")
    else:
      beside = (
        f"{printed.steps_to_target / 1e6:.1f}M",
        f"{speedups[arm]:.1f}",
        f"{100 * printed.max_top1:.1f}",
      )
    rows.append(
      (
        NAMES[arm],
        f"{_rate(config, arm) * found['rate_factor']:.2g}",
        _spread(found["steps_to_target"], summary["targets"], ",.0f"),
        _spread(found["speedup"], summary["targets"], ".1f"),
        _accuracy(found),
        *beside,
      )
    )
  return Table(
    (
      "network",
      "rate",
      "steps to target",
      "ratio",
      "best top-1 [%]",
      "paper: steps to 72.2 %",
      "paper: ratio",
      "paper: max top-1 [%]",
    ),
    rows,
    f"Every network at its best rate, {_mean_and_range(config['seeds'])}. The target is the best "
    f"accuracy of {NAMES[config['baseline']]}.",
  )


def _rate(config: Mapping[str, Any], arm: str) -> float:
  changes = config["arms"][arm].get("optimizer", {})
  return changes.get("learning_rate", config["base"]["optimizer"]["learning_rate"])


def _spread(
  values: Sequence[float | None], targets: Sequence[float | None], number_format: str
) -> str:
  """`1,234 (1,100–1,400)`, or how many of the seeds never got there."""
  reached = [value for value in values if value is not None]
  if all(target is None for target in targets):
    return "undefined"
  if not reached:
    return "never"
  text = format(statistics.mean(reached), number_format)
  if len(reached) > 1:
    text += f" ({min(reached):{number_format}}–{max(reached):{number_format}})"
  missing = sum(
    value is None and target is not None for value, target in zip(values, targets, strict=True)
  )
  return f"{text}, {missing} never" if missing else text


def _accuracy(found: Mapping[str, Any]) -> str:
  best = [100 * top1 for top1 in found["best_top1"]]
  text = f"{statistics.mean(best):.1f}"
  if len(best) > 1:
    text += f" ({min(best):.1f}–{max(best):.1f})"
  diverged = sum(step is not None for step in found["diverged_at"])
  return f"{text}, {diverged} diverged" if diverged else text


def _paint_curves(
  figure: matplotlib.figure.Figure,
  by_seed: Mapping[str, Sequence[LearningCurve]],
  summary: Mapping[str, Any],
) -> None:
  ours, printed = figure.subplots(1, 2)
  arms_by_name = {name: arm for arm, name in NAMES.items()}
  for arm, curves in by_seed.items():
    shared = min(len(curve.steps) for curve in curves)  # a run that diverged ended early
    steps = curves[0].steps[:shared]
    top1 = np.array([curve.top1[:shared] for curve in curves])
    ours.plot(steps, top1.mean(0), color=_COLORS[arm], label=NAMES[arm])
    ours.fill_between(steps, top1.min(0), top1.max(0), color=_COLORS[arm], alpha=0.2, linewidth=0)
  ours.axhline(summary["chance"], color="gray", linestyle=":", label="chance")
  if None not in summary["targets"]:
    target = statistics.mean(summary["targets"])
    ours.axhline(target, color="gray", linestyle="--", label="target")
  ours.set_title("here")
  ours.set_xlabel("step")
  for name, curve in paper.figure_2().items():
    printed.plot(curve.steps / 1e6, curve.values, color=_COLORS[arms_by_name[name]])
  printed.set_title("paper, Figure 2")
  printed.set_xlabel("step [millions]")
  printed.set_ylim(0.4, 0.8)
  for axes in (ours, printed):
    _label_accuracy(axes)
  figure.legend(*ours.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _paint_search(
  figure: matplotlib.figure.Figure,
  searched: Mapping[str, Mapping[float, LearningCurve]],
  summary: Mapping[str, Any],
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
    axes.set_title(NAMES[arm], fontsize=11)
  for axes in panels[:, 0]:
    _label_accuracy(axes)
  for axes in panels[-1]:
    axes.set_xlabel("step")
  for axes in panels[0, len(searched) // 2 :]:  # above a panel that is not there
    axes.set_xlabel("step")
    axes.tick_params(labelbottom=True)
  handles, labels = panels[0, 0].get_legend_handles_labels()
  legend = figure.legend(handles, labels, loc="outside lower center", ncols=4)
  for line in legend.get_lines():
    line.set_linewidth(1.5)  # whichever the first panel's chosen rate is


def _label_accuracy(axes: matplotlib.axes.Axes) -> None:
  axes.set_ylabel("top-1 accuracy [%]")
  axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
