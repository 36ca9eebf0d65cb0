"""The report of averaged weights: held-out accuracy with each kind of batch statistics."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import numpy as np

from speedpaper_jax.files import rules
from speedpaper_jax.reports import arms as of_arms
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import COLORS, draw
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration
from speedpaper_jax.reports.step_axis import label_steps
from speedpaper_jax.storage.run_directory import RunDirectory

RAW, AVERAGED = "raw", "averaged"
WAYS = {
  "moving": "moving averages",
  AVERAGED: "average of moving averages",
  "population": "Algorithm 2",
  RAW: "weights not averaged",
}
_PHRASES = {
  "moving": "the trained network's moving averages",
  AVERAGED: "the average of moving averages",
  "population": "Algorithm 2's statistics",
}
_COLORS = dict(zip(WAYS, COLORS, strict=False))

_CHANGES: rules.Rules = {
  "batch_size": rules.IfPresent(rules.ROWS),
  "batch_norm": rules.IfPresent({"decay": rules.IfPresent(rules.FRACTION_BELOW_ONE)}),
}
_CONFIG: rules.Rules = {
  "seeds": rules.several(rules.SEED, 1),
  "base": {
    "data": {"name": rules.TEXT},
    "batch_size": rules.ROWS,
    "batch_norm": {
      "decay": rules.or_nothing(rules.FRACTION_BELOW_ONE),
      "population_batches": rules.ROWS,
    },
    "average_decay": rules.FRACTION_BELOW_ONE,
  },
  "arms": rules.Each(_CHANGES),
}


def present(directory: RunDirectory) -> Page:
  """Draws the accuracy of each way against steps, and names the best at each batch size.

  Raises:
    UserError: a file of the comparison is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  seeds: Sequence[int] = config["seeds"]
  summary = contents.read(directory, "summary.json", _summary_rules(len(seeds)))
  arms = sorted(
    (arm for arm in config["arms"] if arm in summary["arms"]),
    key=lambda arm: (_batch_size(config, arm), _decay(config, arm) or 0),
  )
  if not arms:
    raise contents.damaged(directory, "summary.json", "arms has none of the config's.")
  arrays = {arm: _read_arrays(directory, arm, summary, len(seeds)) for arm in arms}
  panels = {_title(config, arm): of_arm for arm, of_arm in arrays.items()}
  rows = -(-len(panels) // 2)
  draw(directory, "accuracy", lambda figure: _paint(figure, panels), 11, 1 + 3.2 * rows)
  data = config["base"]["data"]["name"]
  return Page(
    title=f"Averaged weights on {data}, and the batch statistics with them",
    result=_result(config, summary, arms),
    sections=[
      Section(
        "Result",
        paragraphs=[_about(config)],
        parts=[
          Figure(
            "accuracy",
            f"Accuracy on held-out images of {data} against steps, with each kind of statistics: "
            f"{of_arms.mean_and_range(seeds)}.",
          ),
          _table(config, summary, arms, "final_top1", "after the last step"),
          _table(config, summary, arms, "mean_top1", "as the mean over all checkpoints"),
        ],
      )
    ],
  )


def _summary_rules(seeds: int) -> dict[str, Any]:
  by_seed = rules.several(rules.FRACTION, seeds, seeds)
  return {
    "runs": rules.COUNT,
    "seconds": rules.AT_LEAST_ZERO,
    "arms": rules.Each(
      {
        "steps": rules.several(rules.STEP, 1),
        "diverged_at": rules.several(rules.or_nothing(rules.STEP), seeds, seeds),
        **{way: {"final_top1": by_seed, "mean_top1": by_seed} for way in WAYS},
      }
    ),
  }


def _read_arrays(
  directory: RunDirectory, arm: str, summary: Mapping[str, Any], seeds: int
) -> dict[str, np.ndarray]:
  axes = {"step": "T", **dict.fromkeys(WAYS, "ST")}
  arrays = contents.read_arrays(
    directory,
    {f"{arm}/{name}": letters for name, letters in axes.items()},
    S=seeds,
    T=len(summary["arms"][arm]["steps"]),
  )
  contents.check_steps(directory, arrays[f"{arm}/step"])
  return {name: arrays[f"{arm}/{name}"] for name in axes}


def _batch_size(config: Mapping[str, Any], arm: str) -> int:
  rows: int = config["arms"][arm].get("batch_size", config["base"]["batch_size"])
  return rows


def _decay(config: Mapping[str, Any], arm: str) -> float | None:
  changes = config["arms"][arm].get("batch_norm", {})
  decay: float | None = changes.get("decay", config["base"]["batch_norm"]["decay"])
  return decay


def _title(config: Mapping[str, Any], arm: str) -> str:
  decay = _decay(config, arm)
  shown = "the dialect's" if decay is None else f"{decay:g}"
  return f"batch {_batch_size(config, arm)}, BN decay {shown}"


def _result(config: Mapping[str, Any], summary: Mapping[str, Any], arms: Sequence[str]) -> str:
  sentences = []
  for rows in sorted({_batch_size(config, arm) for arm in arms}):
    of_batch = [arm for arm in arms if _batch_size(config, arm) == rows]

    def mean(way: str, what: str, of_batch: Sequence[str] = of_batch) -> float:
      """In percent, over the arms and seeds of the batch size."""
      values = [top1 for arm in of_batch for top1 in summary["arms"][arm][way][what]]
      return 100 * statistics.mean(values)

    ways = [way for way in WAYS if way != RAW]
    ranked = sorted(ways, key=lambda way: mean(way, "mean_top1"), reverse=True)
    best, *others = (_PHRASES[way] for way in ranked)
    over_the_run, at_the_end = (
      [f"{mean(way, what):.1f} %" for way in ranked] for what in ("mean_top1", "final_top1")
    )
    sentences.append(
      f"At a batch of {rows} averaged weights are best with {best}, {over_the_run[0]} over the "
      f"whole run, then with {others[0]}, {over_the_run[1]}, and {others[1]}, {over_the_run[2]}; "
      f"at the end it is {at_the_end[0]}, {at_the_end[1]} and {at_the_end[2]}."
    )
  runs = f"{summary['runs']} runs took {duration(summary['seconds'])}."
  return " ".join((*sentences, runs))


def _about(config: Mapping[str, Any]) -> str:
  base = config["base"]
  decay = base["average_decay"]
  bounded = max(round((10 * decay - 1) / (1 - decay)), 0)
  return (
    "Averaged weights are those that training evaluates and saves. “Moving averages” are those of "
    "the network that is trained, “average of moving averages” those that are averaged with the "
    "weights, which is what training does, and “Algorithm 2” takes the statistics of "
    f"{base['batch_norm']['population_batches']} training batches with the averaged weights. "
    f"The average has a decay of {decay:g}, but never more than (1 + n) / (10 + n) after n steps: "
    f"in the first {bounded:,} steps its memory is a tenth of the run so far. A moving average "
    "with a decay of 0.9 remembers 10 steps, one of 0.99 a hundred."
  )


def _table(
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  arms: Sequence[str],
  what: str,
  when: str,
) -> Table:
  rows = []
  for arm in arms:
    found = summary["arms"][arm]
    diverged = sum(step is not None for step in found["diverged_at"])
    rows.append(
      (
        f"{_title(config, arm)}{f', {diverged} diverged' if diverged else ''}",
        *(of_arms.spread([100 * top1 for top1 in found[way][what]], ".1f") for way in WAYS),
      )
    )
  return Table(
    ("arm", *WAYS.values()),
    rows,
    f"Top-1 accuracy on held-out images [%] {when}, {of_arms.mean_and_range(config['seeds'])}.",
  )


def _paint(
  figure: matplotlib.figure.Figure, panels: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
  grid = figure.subplots(-(-len(panels) // 2), 2, sharey=True, squeeze=False)
  for axes in grid.flat[len(panels) :]:
    axes.set_visible(False)
  for axes, (title, of_arm) in zip(grid.flat, panels.items(), strict=False):
    for way, name in WAYS.items():
      _paint_way(axes, of_arm["step"], of_arm[way], _COLORS[way], name)
    axes.set_title(title)
    axes.set_ylim(0, 1)
    label_steps(axes)
  for axes in grid[:, 0]:
    of_arms.label_accuracy(axes)
  figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _paint_way(
  axes: matplotlib.axes.Axes, steps: np.ndarray, top1: np.ndarray, color: str, label: str
) -> None:
  """Accuracies [seeds, T]: mean and range of the runs that came to the end."""
  whole = top1[np.isfinite(top1).all(-1)]
  if len(whole):
    style = ":" if label == WAYS[RAW] else "-"
    axes.plot(steps, whole.mean(0), style, color=color, label=label)
    axes.fill_between(steps, whole.min(0), whole.max(0), color=color, alpha=0.2, linewidth=0)
