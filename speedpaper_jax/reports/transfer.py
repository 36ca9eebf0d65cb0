"""The report of networks that start from weights learned on other images, or from scratch."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure

from speedpaper_jax.errors import printable
from speedpaper_jax.files import rules
from speedpaper_jax.reports import arms as of_arms
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import draw
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration, percent
from speedpaper_jax.storage.learning_curves import LearningCurve
from speedpaper_jax.storage.run_directory import RunDirectory

SCRATCH = "scratch"
NAMES = {
  SCRATCH: "from scratch",
  "free": "pretrained, all layers free",
  "half_frozen": "pretrained, lower half frozen",
  "frozen": "pretrained, trunk frozen",
}

_DATA: rules.Rules = {"name": rules.TEXT, "dir": rules.TEXT, "train_split": rules.TEXT}
_CONFIG: rules.Rules = {
  **of_arms.CONFIG,
  "base": {
    **of_arms.CONFIG["base"],
    "data": _DATA,
    "freeze": rules.TEXT,
  },
  "source": {"data": _DATA},
  "arms": rules.Each({**of_arms.CHANGES, "freeze": rules.IfPresent(rules.TEXT)}),
}
_SOURCE: rules.Rules = {
  "steps": rules.STEP,
  "seconds": rules.AT_LEAST_ZERO,
  "top1": rules.FRACTION,
  "same_classes": rules.SWITCH,
}


def present(directory: RunDirectory) -> Page:
  """Draws the curves of all runs, and says how soon each network is as good as from scratch.

  Raises:
    UserError: a file of the comparison or of one of its runs is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  wanted = of_arms.target_rules(len(config["seeds"]), final_top1=rules.FRACTION)
  summary = contents.read(directory, "summary.json", {**wanted, "source": _SOURCE})
  arms = [arm for arm in NAMES if arm in summary["arms"]]
  if SCRATCH not in arms:
    raise contents.damaged(directory, "summary.json", f"arms lacks '{SCRATCH}'.")
  searched, by_seed = of_arms.read_curves(directory, config, summary, arms)
  source, target = (_data_set(config[section]["data"]) for section in ("source", "base"))
  seeds = of_arms.mean_and_range(config["seeds"])
  draw(directory, "curves", lambda figure: _paint_curves(figure, by_seed, summary), 8, 5)
  of_arms.draw_search(directory, searched, summary, NAMES)
  return Page(
    title=f"From {source} to {target}: pretrained against from scratch",
    result=_result(summary, arms),
    sections=[
      Section(
        "Result",
        paragraphs=_remarks(config, summary),
        parts=[
          _table(config, summary, arms),
          Figure(
            "curves",
            f"Accuracy on held-out images of {target} against steps, each network at its best "
            f"rate, {seeds}.",
          ),
        ],
      ),
      Section("The source network", paragraphs=_about_source(config, summary["source"])),
      of_arms.search_section(config, "its rate in the config"),
    ],
  )


def _data_set(data: Mapping[str, Any]) -> str:
  """What a data set is called; a folder has a name of its own."""
  if data["name"] != "folder":
    return data["name"]
  # Of the path as it was given: where the report is written anew, it may lead elsewhere.
  return printable(pathlib.PurePath(data["dir"]).name or data["dir"])


def _result(summary: Mapping[str, Any], arms: Sequence[str]) -> str:
  took = duration(summary["seconds"] + summary["source"]["seconds"])
  runs = f"The source network and {summary['runs']} runs took {took}."
  best = {arm: statistics.mean(summary["arms"][arm]["best_top1"]) for arm in arms}
  pretrained = [arm for arm in arms if arm != SCRATCH]
  if not pretrained:
    return f"From scratch the network comes to {percent(best[SCRATCH])}. {runs}"
  highest = max(pretrained, key=best.__getitem__)
  accuracies = (
    f"With pretrained weights the network comes to {percent(best[highest])} ({NAMES[highest]}), "
    f"from scratch to {percent(best[SCRATCH])}."
  )
  return " ".join(filter(None, (accuracies, _soonest(summary, pretrained), runs)))


def _soonest(summary: Mapping[str, Any], pretrained: Sequence[str]) -> str:
  """Which network is the first to be as good as from scratch, in words."""
  at_chance = summary["targets"].count(None)
  if at_chance == len(summary["targets"]):
    return "From scratch it stayed at chance, which is no accuracy to reach."
  if at_chance:
    return ""  # the remarks say with how many seeds
  steps = {
    arm: statistics.mean(summary["arms"][arm]["steps_to_target"])
    for arm in (*pretrained, SCRATCH)
    if None not in summary["arms"][arm]["steps_to_target"]
  }
  first = min((arm for arm in pretrained if arm in steps), key=steps.__getitem__, default=None)
  if first is None or SCRATCH not in steps:
    return "With no arm it is as good as from scratch with every seed."
  return (
    f"It is as good as from scratch after {steps[first]:,.0f} steps ({NAMES[first]}) instead of "
    f"{steps[SCRATCH]:,.0f}."
  )


def _remarks(config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
  data = config["base"]["data"]
  remarks = [
    f"All networks are trained on {_data_set(data)}, split {data['train_split']}. The target is "
    "the best accuracy from scratch with the same seed; between two evaluations, and before the "
    "first, the curve counts as straight."
  ]
  if None in summary["targets"]:
    remarks.append(
      f"With {summary['targets'].count(None)} of {len(summary['targets'])} seeds the network from "
      "scratch stayed at chance, so that there is no target."
    )
  return remarks


def _about_source(config: Mapping[str, Any], source: Mapping[str, Any]) -> list[str]:
  data = config["source"]["data"]
  softmax_layer = (
    "The classes of both have the same names, so that the softmax layer is taken over, too, and "
    "knows them before the first step."
    if source["same_classes"]
    else "The classes are others, so that the softmax layer starts from scratch in every network."
  )
  return [
    f"It is trained on {_data_set(data)}, split {data['train_split']}, for {source['steps']:,} "
    f"steps in {duration(source['seconds'])}, after which it classifies {percent(source['top1'])} "
    f"of the held-out images. It is in `source/`, where it can be evaluated and started from.",
    softmax_layer,
  ]


def _table(config: Mapping[str, Any], summary: Mapping[str, Any], arms: Sequence[str]) -> Table:
  rows = []
  for arm in arms:
    found = summary["arms"][arm]
    rows.append(
      (
        NAMES[arm],
        config["arms"][arm].get("freeze", config["base"]["freeze"]) or "nothing",
        of_arms.rate(config, summary, arm),
        of_arms.spread_of_reached(found["steps_to_target"], summary["targets"], ",.0f"),
        of_arms.best_top1(found),
        of_arms.spread([100 * top1 for top1 in found["final_top1"]], ".1f"),
      )
    )
  return Table(
    ("network", "frozen", "rate", "steps to target", "best top-1 [%]", "at the end [%]"),
    rows,
    f"Every network at its best rate, {of_arms.mean_and_range(config['seeds'])}.",
  )


def _paint_curves(
  figure: matplotlib.figure.Figure,
  by_seed: Mapping[str, Sequence[LearningCurve]],
  summary: Mapping[str, Any],
) -> None:
  axes = figure.subplots()
  of_arms.paint_curves(axes, by_seed, summary, NAMES)
  figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
