"""The report of networks with and without residual connections: Figures 21 and 23, and ours."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import numpy as np

from speedpaper_jax.files import rules
from speedpaper_jax.papers import residual_learning as paper
from speedpaper_jax.papers.networks import NETWORKS
from speedpaper_jax.reports import arms as of_arms
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import COLORS, draw, set_log_scale
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration, percent
from speedpaper_jax.storage.learning_curves import LearningCurve
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = {name: NETWORKS[name].title for pair in paper.PAIRS for name in pair}
_COLORS = dict(zip(NAMES, COLORS, strict=False))

_CONFIG: rules.Rules = {
  **of_arms.CONFIG,
  "base": {
    **of_arms.CONFIG["base"],
    "model": {"width": rules.ABOVE_ZERO},
    "data": {"name": rules.TEXT, "image_size": rules.IMAGE_SIZE},
  },
  "margin": rules.FRACTION,
  "arms": rules.Each(of_arms.CHANGES),
}


def present(directory: RunDirectory) -> Page:
  """Draws error against epochs of all networks beside the paper's, and says how soon each is good.

  Raises:
    UserError: a file of the comparison or of one of its runs is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", _summary_rules(len(config["seeds"])))
  pairs = [pair for pair in paper.PAIRS if {*pair} <= summary["arms"].keys()]
  if not pairs:
    raise contents.damaged(directory, "summary.json", "arms lacks a pair of networks.")
  arms = [name for pair in pairs for name in pair]
  searched, by_seed = of_arms.read_curves(directory, config, summary, arms)
  data, seeds = config["base"]["data"], of_arms.mean_and_range(config["seeds"])
  draw(
    directory,
    "curves",
    lambda figure: _paint_curves(figure, pairs, by_seed, summary, config["margin"]),
    5.5 * len(pairs),
    8,
  )
  of_arms.draw_search(directory, searched, summary, NAMES)
  return Page(
    title=f"With and without residual connections on {data['name']}",
    result=_result(summary, pairs),
    sections=[
      Section(
        "Result",
        paragraphs=[
          f"The networks have {config['base']['model']['width']:g} times the paper's filters, and "
          f"see {data['image_size']} pixels. Both of a pair cost about the same in the paper.",
          "The common error of a pair is, with the same seed, the higher one of their two lowest "
          f"errors and {100 * config['margin']:g} points, so that no flat and noisy end decides; "
          "between two evaluations the curve counts as straight.",
          *_at_chance(summary, pairs),
        ],
        parts=[
          Figure(
            "curves",
            f"Above, error on held-out images of {data['name']} against epochs, each network at "
            f"its best rate, {seeds}. Below, Figures 21 and 23 of the paper, on ImageNet. The "
            "dotted lines are common errors.",
          ),
          _table(config, summary, pairs),
        ],
      ),
      of_arms.search_section(config, "the recipe's rate"),
    ],
  )


def _summary_rules(seeds: int) -> rules.Rules:
  of_all = of_arms.summary_rules(
    seeds,
    final_top1=rules.FRACTION,
    common_top1=rules.or_nothing(rules.FRACTION),
    epochs_to_common=rules.or_nothing(rules.AT_LEAST_ZERO),
  )
  return {**of_all, "steps_per_epoch": rules.ABOVE_ZERO}


def speedups(summary: Mapping[str, Any], pair: tuple[str, str]) -> list[float]:
  """How many times fewer epochs the residual network of a pair takes to the common error.

  By seed, without those that have no common error.
  """
  without, residual = (summary["arms"][name]["epochs_to_common"] for name in pair)
  return [
    slow / fast
    for slow, fast in zip(without, residual, strict=True)
    if slow is not None and fast is not None
  ]


def _printed_speedup(margin: float, pair: tuple[str, str]) -> float:
  error = paper.common_error(pair, 100 * margin)
  without, residual = (paper.epochs_to(name, error) for name in pair)
  return without / residual


def _result(summary: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> str:
  sentences = [_of_pair(summary, pair) for pair in pairs]
  runs = f"{summary['runs']} runs took {duration(summary['seconds'])}."
  return " ".join([*sentences, runs])


def _of_pair(summary: Mapping[str, Any], pair: tuple[str, str]) -> str:
  without, residual = pair
  found = speedups(summary, pair)
  if not found:
    return f"{NAMES[without]} and {NAMES[residual]} reach no common error."
  errors = [1 - top1 for top1 in summary["arms"][without]["common_top1"] if top1 is not None]
  epochs = {
    name: statistics.mean(
      value for value in summary["arms"][name]["epochs_to_common"] if value is not None
    )
    for name in pair
  }
  ratio = of_arms.spread(found, ".1f")
  return (
    f"{NAMES[residual]} comes to an error of {percent(statistics.mean(errors))} in "
    f"{epochs[residual]:.1f} epochs, {NAMES[without]} in {epochs[without]:.1f}: {ratio} times as "
    "many."
  )


def _at_chance(summary: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> list[str]:
  remarks = []
  for pair in pairs:
    common = summary["arms"][pair[0]]["common_top1"]
    if None in common:
      remarks.append(
        f"With {common.count(None)} of {len(common)} seeds {NAMES[pair[0]]} or {NAMES[pair[1]]} "
        "stayed at chance, and they have no common error."
      )
  return remarks


def _table(
  config: Mapping[str, Any], summary: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
) -> Table:
  rows = []
  for pair in pairs:
    printed_error = paper.common_error(pair, 100 * config["margin"])
    for name in pair:
      found = summary["arms"][name]
      is_residual = name == pair[1]
      ratio = "1" if not is_residual else _ratio(speedups(summary, pair))
      rows.append(
        (
          NAMES[name],
          of_arms.rate(config, summary, name),
          of_arms.spread_of_reached(found["epochs_to_common"], found["common_top1"], ".1f"),
          ratio,
          of_arms.spread([100 * (1 - top1) for top1 in found["best_top1"]], ".1f"),
          of_arms.spread([100 * (1 - top1) for top1 in found["final_top1"]], ".1f"),
          f"{paper.epochs_to(name, printed_error):.0f} (to {printed_error:.1f} %)",
          f"{_printed_speedup(config['margin'], pair):.2f}" if is_residual else "1",
          f"{paper.TABLE_2[name].top1:.1f}",
        )
      )
  return Table(
    (
      "network",
      "rate",
      "epochs to common error",
      "ratio",
      "lowest error [%]",
      "final error [%]",
      "paper: epochs",
      "paper: ratio",
      "paper: final error [%]",
    ),
    rows,
    f"Every network at its best rate, {of_arms.mean_and_range(config['seeds'])}. A ratio is the "
    "epochs of the network without residual connections, divided by those of the one with them. "
    "The paper's epochs are read off Figures 21 and 23 by the same rule, and its errors are those "
    "of Table 2: one crop, without some 1,700 of the 50,000 validation images.",
  )


def _ratio(found: Sequence[float]) -> str:
  return of_arms.spread(found, ".1f") if found else "undefined"


def _paint_curves(
  figure: matplotlib.figure.Figure,
  pairs: Sequence[tuple[str, str]],
  by_seed: Mapping[str, Sequence[LearningCurve]],
  summary: Mapping[str, Any],
  margin: float,
) -> None:
  panels = figure.subplots(2, len(pairs), squeeze=False)
  for (ours, printed), pair in zip(panels.T, pairs, strict=True):
    for name in pair:
      _paint_ours(ours, name, by_seed[name], summary["steps_per_epoch"])
      curve = paper.top1_errors()[name]
      printed.plot(curve.positions, curve.values, color=_COLORS[name], label=NAMES[name])
    common = [top1 for top1 in summary["arms"][pair[0]]["common_top1"] if top1 is not None]
    if common:
      ours.axhline(100 * (1 - statistics.mean(common)), color="gray", linestyle=":")
    printed.axhline(paper.common_error(pair, 100 * margin), color="gray", linestyle=":")
    ours.set_title("here")
    printed.set_title(f"paper, Figure {paper.FIGURES[pair]}")
    for axes in (ours, printed):
      axes.set_xlabel("epoch")
    set_log_scale(ours)
    printed.set_ylim(18, 33)
    printed.legend()
  for axes in panels[:, 0]:
    axes.set_ylabel("top-1 error [%]")


def _paint_ours(
  axes: matplotlib.axes.Axes,
  name: str,
  curves: Sequence[LearningCurve],
  steps_per_epoch: float,
) -> None:
  shared = min(len(curve.steps) for curve in curves)  # a run that diverged ended early
  epochs = np.array(curves[0].steps[:shared]) / steps_per_epoch
  error = 100 * (1 - np.array([curve.top1[:shared] for curve in curves]))
  axes.plot(epochs, error.mean(0), color=_COLORS[name], label=NAMES[name])
  axes.fill_between(epochs, error.min(0), error.max(0), color=_COLORS[name], alpha=0.2, linewidth=0)
