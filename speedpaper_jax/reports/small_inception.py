"""The report of the small Inception: what batch normalization and weight decay each add to it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.axes
import matplotlib.figure
import numpy as np

from speedpaper_jax.files import rules
from speedpaper_jax.papers.small_inception import TABLE_1
from speedpaper_jax.reports import arms as of_arms
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import draw
from speedpaper_jax.reports.networks import NETWORK_COLORS
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration, percent
from speedpaper_jax.storage.learning_curves import LearningCurve
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = {
  "batch_norm_and_decay": "batch normalization and weight decay",
  "batch_norm": "batch normalization alone",
  "decay": "weight decay alone",
  "neither": "neither",
}
# A colour says whether there is batch normalization, a broken line that there is no weight decay.
_STYLES = {
  "batch_norm_and_decay": (NETWORK_COLORS["with"], "-"),
  "batch_norm": (NETWORK_COLORS["with"], "--"),
  "decay": (NETWORK_COLORS["without"], "-"),
  "neither": (NETWORK_COLORS["without"], "--"),
}


class Addition(NamedTuple):
  """Two arms that differ in one thing.

  Attributes:
    what: it is.
    where: in which networks.
    arm: that has it.
    other: that has not.
  """

  what: str
  where: str
  arm: str
  other: str


ADDITIONS = (
  Addition("batch normalization", "with weight decay", "batch_norm_and_decay", "decay"),
  Addition("batch normalization", "without weight decay", "batch_norm", "neither"),
  Addition("weight decay", "with batch normalization", "batch_norm_and_decay", "batch_norm"),
  Addition("weight decay", "without batch normalization", "decay", "neither"),
)

_OPTIMIZER: rules.Rules = {**of_arms.CONFIG["base"]["optimizer"], "l2": rules.AT_LEAST_ZERO}
_CONFIG: rules.Rules = {
  **of_arms.CONFIG,
  "base": {**of_arms.CONFIG["base"], "optimizer": _OPTIMIZER},
  "arms": rules.Each(of_arms.CHANGES),
}


def present(directory: RunDirectory) -> Page:
  """Draws the curves of the four networks, and sets their accuracies beside the paper's.

  Raises:
    UserError: a file of the comparison or of one of its runs is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", _summary_rules(len(config["seeds"])))
  arms = [arm for arm in NAMES if arm in summary["arms"]]
  if not arms:
    raise contents.damaged(directory, "summary.json", f"arms has none of {', '.join(NAMES)}.")
  searched, by_seed = of_arms.read_curves(directory, config, summary, arms)
  draw(directory, "curves", lambda figure: _paint_curves(figure, by_seed, summary), 11, 5)
  data, seeds = config["base"]["data"]["name"], of_arms.mean_and_range(config["seeds"])
  sections = [
    Section(
      "Result",
      parts=[
        Figure(
          "curves",
          f"Accuracy on held-out images of {data} against epochs, {seeds}. Right, the same from "
          "the middle of training on.",
        ),
        _accuracies(config, summary, arms),
        _additions(summary, config["seeds"]),
      ],
    )
  ]
  if len(config["rate_factors"]) > 1:
    of_arms.draw_search(directory, searched, summary, NAMES)
    sections.append(of_arms.search_section(config, "the paper's"))
  return Page(
    title=f"The small Inception on {data}, with and without batch normalization and weight decay",
    result=_result(summary, arms),
    sections=sections,
  )


def _summary_rules(seeds: int) -> rules.Rules:
  of_all = of_arms.summary_rules(
    seeds, final_top1=rules.FRACTION, train_top1=rules.or_nothing(rules.FRACTION)
  )
  return {**of_all, "steps_per_epoch": rules.ABOVE_ZERO}


def _points(summary: Mapping[str, Any], addition: Addition) -> list[float] | None:
  """What something adds at the end of training in percentage points, by seed.

  None where it is not known: an arm is not there, or diverged with some seed.
  """
  found = [summary["arms"].get(arm) for arm in (addition.arm, addition.other)]
  if any(arm is None or set(arm["diverged_at"]) != {None} for arm in found):
    return None
  one, other = (arm["final_top1"] for arm in found)
  return [100 * (with_it - without) for with_it, without in zip(one, other, strict=True)]


def _points_in_the_paper(addition: Addition) -> float:
  return TABLE_1[addition.arm].test - TABLE_1[addition.other].test


def _result(summary: Mapping[str, Any], arms: Sequence[str]) -> str:
  sentences = []
  for what in dict.fromkeys(addition.what for addition in ADDITIONS):
    known = {
      addition: points
      for addition in ADDITIONS
      if addition.what == what and (points := _points(summary, addition)) is not None
    }
    if known:
      ours = " and ".join(
        f"{statistics.mean(points):+.2f} points {addition.where}"
        for addition, points in known.items()
      )
      papers = " and ".join(f"{_points_in_the_paper(addition):+.2f}" for addition in known)
      sentences.append(
        f"{what.capitalize()} changes the accuracy at the end by {ours} (in the paper on CIFAR-10 "
        f"by {papers})."
      )
  diverged = [NAMES[arm] for arm in arms if set(summary["arms"][arm]["diverged_at"]) != {None}]
  if diverged:
    sentences.append(f"With {' and with '.join(diverged)} training diverged.")
  if not sentences:
    best = max(arms, key=lambda arm: statistics.mean(summary["arms"][arm]["final_top1"]))
    top1 = statistics.mean(summary["arms"][best]["final_top1"])
    sentences.append(f"With {NAMES[best]} the network comes to {percent(top1)}.")
  sentences.append(f"{summary['runs']} runs took {duration(summary['seconds'])}.")
  return " ".join(sentences)


def _accuracies(
  config: Mapping[str, Any], summary: Mapping[str, Any], arms: Sequence[str]
) -> Table:
  rows = []
  for arm in arms:
    found = summary["arms"][arm]
    diverged = sum(step is not None for step in found["diverged_at"])
    of_training = [top1 for top1 in found["train_top1"] if top1 is not None]
    rows.append(
      (
        NAMES[arm] + (f", {diverged} diverged" if diverged else ""),
        of_arms.rate(config, summary, arm),
        of_arms.spread(_in_percent(found["final_top1"]), ".2f"),
        of_arms.spread(_in_percent(found["best_top1"]), ".2f"),
        of_arms.spread(_in_percent(of_training), ".2f") if of_training else "–",
        f"{TABLE_1[arm].test:.2f}",
        f"{TABLE_1[arm].train:.1f}",
      )
    )
  return Table(
    (
      "with",
      "rate",
      "held out, at the end [%]",
      "held out, best [%]",
      "training images [%]",
      "paper: test [%]",
      "paper: training [%]",
    ),
    rows,
    f"Top-1 accuracy, {of_arms.mean_and_range(config['seeds'])}. The paper's numbers are of "
    "CIFAR-10, without random crops (arXiv 1611.03530, Table 1). Weight decay is "
    f"{config['base']['optimizer']['l2']:g} here; the paper prints neither its coefficient nor the "
    "length of training.",
  )


def _in_percent(fractions: Sequence[float]) -> list[float]:
  return [100 * fraction for fraction in fractions]


def _additions(summary: Mapping[str, Any], seeds: Sequence[int]) -> Table:
  rows = []
  for addition in ADDITIONS:
    points = _points(summary, addition)
    ours = "undefined" if points is None else f"{statistics.mean(points):+.2f}"
    if points is not None and len(points) > 1:
      ours += f" (from {min(points):+.2f} to {max(points):+.2f})"
    rows.append(
      (f"{addition.what}, {addition.where}", ours, f"{_points_in_the_paper(addition):+.2f}")
    )
  return Table(
    ("what is added", "here [points]", "paper [points]"),
    rows,
    "Accuracy on held-out images at the end of training with it, less that without it, "
    f"{of_arms.mean_and_range(seeds)}."
    + (" Another seed may change it by several points." if len(seeds) == 1 else ""),
  )


def _paint_curves(
  figure: matplotlib.figure.Figure,
  by_seed: Mapping[str, Sequence[LearningCurve]],
  summary: Mapping[str, Any],
) -> None:
  whole, late = figure.subplots(1, 2)
  last = max(
    (step for curves in by_seed.values() for curve in curves for step in curve.steps), default=0
  )
  for axes, first in ((whole, 0), (late, last / 2)):
    _paint_from(axes, by_seed, first, summary["steps_per_epoch"])
    axes.set_xlabel("epoch")
    of_arms.label_accuracy(axes)
  whole.axhline(summary["chance"], color="gray", linestyle=":", label="chance")
  whole.set_title("all of training")
  late.set_title("its second half")
  figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _paint_from(
  axes: matplotlib.axes.Axes,
  by_seed: Mapping[str, Sequence[LearningCurve]],
  first_step: float,
  steps_per_epoch: float,
) -> None:
  """A line and a range for each arm, from a step on."""
  for arm, curves in by_seed.items():
    color, line = _STYLES[arm]
    shared = min(len(curve.steps) for curve in curves)  # a run that diverged ended early
    steps = np.array(curves[0].steps[:shared])
    shown = steps >= first_step
    epochs = steps[shown] / steps_per_epoch
    top1 = np.array([curve.top1[:shared] for curve in curves])[:, shown]
    axes.plot(epochs, top1.mean(0), color=color, linestyle=line, label=NAMES[arm])
    axes.fill_between(epochs, top1.min(0), top1.max(0), color=color, alpha=0.2, linewidth=0)
