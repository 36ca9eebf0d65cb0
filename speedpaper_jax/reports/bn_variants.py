"""The report of the comparison of section 4.2's networks: Figures 2 and 3, ours and the paper's."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure

from speedpaper_jax.files import rules
from speedpaper_jax.papers import batch_norm as paper
from speedpaper_jax.reports import arms as of_arms
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import COLORS, draw
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration, percent
from speedpaper_jax.storage.learning_curves import LearningCurve
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = {arm: row.name for arm, row in paper.FIGURE_3.items()} | {
  "inception_x5": "Inception at 5 times the rate",
  "inception_sigmoid": "Inception with sigmoids",
}
_COLORS = dict(zip(NAMES, COLORS, strict=False))

# What section 4.2.2 says of the controls, which Figure 3 leaves out.
_CONTROLS_IN_THE_PAPER = {"inception_x5": "diverges", "inception_sigmoid": "chance"}

_CONFIG: rules.Rules = {
  **of_arms.CONFIG,
  "baseline": rules.one_of(NAMES),
  "arms": rules.Each(of_arms.CHANGES),
}


def present(directory: RunDirectory) -> Page:
  """Draws the curves of all runs, and sets Figure 3's table beside ours.

  Raises:
    UserError: a file of the comparison or of one of its runs is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  speedup = rules.or_nothing(rules.AT_LEAST_ZERO)
  wanted = of_arms.target_rules(len(config["seeds"]), speedup=speedup)
  summary = contents.read(directory, "summary.json", wanted)
  arms = [arm for arm in NAMES if arm in summary["arms"]]
  if config["baseline"] not in arms:
    raise contents.damaged(directory, "summary.json", "arms lacks the baseline.")
  searched, by_seed = of_arms.read_curves(directory, config, summary, arms)
  data, seeds = config["base"]["data"]["name"], of_arms.mean_and_range(config["seeds"])
  draw(directory, "curves", lambda figure: _paint_curves(figure, by_seed, summary), 11, 5)
  of_arms.draw_search(directory, searched, summary, NAMES)
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
            f"{seeds}. Right, Figure 2 of the paper, on ImageNet.",
          ),
        ],
      ),
      of_arms.search_section(config, "its rate in the paper"),
    ],
  )


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
        of_arms.rate(config, summary, arm),
        of_arms.spread_of_reached(found["steps_to_target"], summary["targets"], ",.0f"),
        of_arms.spread_of_reached(found["speedup"], summary["targets"], ".1f"),
        of_arms.best_top1(found),
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
    f"Every network at its best rate, {of_arms.mean_and_range(config['seeds'])}. The target is the "
    f"best accuracy of {NAMES[config['baseline']]}.",
  )


def _paint_curves(
  figure: matplotlib.figure.Figure,
  by_seed: Mapping[str, Sequence[LearningCurve]],
  summary: Mapping[str, Any],
) -> None:
  ours, printed = figure.subplots(1, 2)
  of_arms.paint_curves(ours, by_seed, summary, NAMES)
  ours.set_title("here")
  arms_by_name = {name: arm for arm, name in NAMES.items()}
  for name, curve in paper.figure_2().items():
    printed.plot(curve.positions / 1e6, curve.values, color=_COLORS[arms_by_name[name]])
  printed.set_title("paper, Figure 2")
  printed.set_xlabel("step [millions]")
  printed.set_ylim(0.4, 0.8)
  of_arms.label_accuracy(printed)
  figure.legend(*ours.get_legend_handles_labels(), loc="outside lower center", ncols=3)
