"""The report of auxiliary heads: gradients by depth, and accuracy, with and without them."""

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import numpy as np

from speedpaper_jax.files import rules
from speedpaper_jax.reports import arms as of_arms
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import COLORS, draw, set_log_scale
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration
from speedpaper_jax.reports.step_axis import label_steps
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.learning_curves import LearningCurve, seed_name, switched_arm
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = {"googlenet": "GoogLeNet", "inception_v3": "Inception-v3"}
_HEADS = {"without": "without heads", "with": "with heads"}
_HEAD_COLORS = dict(zip(_HEADS, COLORS, strict=False))
# What the papers say of the heads of each, in our words.
_PAPERS = (
  "GoogLeNet's paper (section 5) fears that too little gradient comes down through so many layers, "
  "and adds two heads on the way, whose losses count 0.3 each. Inception-v3's paper (section 4) "
  "finds that a head makes no difference early in training and a small one at its end, and takes "
  "it for a regulariser."
)

_CONFIG: rules.Rules = {
  "seeds": rules.several(rules.SEED, 1),
  "base": {
    "data": {"name": rules.TEXT},
    "eval_batch_size": rules.ROWS,
    "aux_weight": rules.AT_LEAST_ZERO,
  },
  "arms": rules.Each({"aux_weight": rules.IfPresent(rules.AT_LEAST_ZERO)}),
}


def present(directory: RunDirectory) -> Page:
  """Draws gradients against depth and accuracy against steps, and says what the heads do to both.

  Raises:
    UserError: a file of the comparison or of one of its runs is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  seeds: Sequence[int] = config["seeds"]
  summary = contents.read(directory, "summary.json", _summary_rules(len(seeds)))
  networks = [name for name in NAMES if name in summary["networks"]]
  if not networks:
    raise contents.damaged(directory, "summary.json", "networks has none of the two.")
  for name in networks:
    _check_lengths(directory, name, summary["networks"][name])
  arrays = {name: _read_arrays(directory, name, summary, len(seeds)) for name in networks}
  curves = {
    name: {
      heads: [
        learning_curves.read(directory, seed_name(switched_arm(name, heads), seed))
        for seed in seeds
      ]
      for heads in _HEADS
    }
    for name in networks
  }
  draw(
    directory,
    "gradients",
    lambda figure: _paint_gradients(figure, summary, arrays),
    11,
    1.2 + 3.4 * len(networks),
  )
  draw(directory, "accuracy", lambda figure: _paint_accuracy(figure, curves, summary), 11, 4.6)
  data = config["base"]["data"]["name"]
  spread = of_arms.mean_and_range(seeds)
  return Page(
    title=f"Auxiliary heads on {data}: gradients and accuracy",
    result=_result(summary, networks),
    sections=[
      Section(
        "Gradients",
        paragraphs=[_what_is_measured(config, summary), _PAPERS],
        parts=[
          Figure(
            "gradients",
            "Norm of the loss's gradient by module, from the input on, before the first step, at "
            f"the first checkpoint and after the last step: {spread}. Before the first step the "
            "trunks of both networks have the same weights.",
          ),
          _table(config, summary, networks),
        ],
      ),
      Section(
        "Accuracy",
        parts=[
          Figure("accuracy", f"Accuracy on held-out images of {data} against steps: {spread}.")
        ],
      ),
    ],
  )


def _summary_rules(seeds: int) -> dict[str, Any]:
  top1 = rules.several(rules.FRACTION, seeds, seeds)
  of_heads: rules.Rules = {
    "best_top1": top1,
    "final_top1": top1,
    "diverged_at": rules.several(rules.or_nothing(rules.STEP), seeds, seeds),
  }
  return {
    "runs": rules.COUNT,
    "seconds": rules.AT_LEAST_ZERO,
    "chance": rules.FRACTION,
    "networks": rules.Each(
      {
        "modules": rules.several(rules.TEXT, 1),
        "stem": rules.several(rules.TEXT, 1),
        "steps": rules.several(rules.STEP, 1),
        "stem_factor": rules.several(rules.or_nothing(rules.ABOVE_ZERO), 1),
        **dict.fromkeys(_HEADS, of_heads),
      }
    ),
  }


def _check_lengths(directory: RunDirectory, name: str, found: Mapping[str, Any]) -> None:
  if len(found["stem_factor"]) != len(found["steps"]):
    what = f"networks.{name} has not as many factors as steps."
    raise contents.damaged(directory, "summary.json", what)
  if found["modules"][: len(found["stem"])] != found["stem"]:
    what = f"networks.{name}.stem is not where the modules begin."
    raise contents.damaged(directory, "summary.json", what)


def _read_arrays(
  directory: RunDirectory, name: str, summary: Mapping[str, Any], seeds: int
) -> dict[str, np.ndarray]:
  found = summary["networks"][name]
  axes = {"step": "T", "without": "STM", "with/main": "STM", "with/whole": "STM"}
  arrays = contents.read_arrays(
    directory,
    {f"{name}/{key}": letters for key, letters in axes.items()},
    S=seeds,
    T=len(found["steps"]),
    M=len(found["modules"]),
  )
  contents.check_steps(directory, arrays[f"{name}/step"])
  return {key: arrays[f"{name}/{key}"] for key in axes}


def _result(summary: Mapping[str, Any], networks: Sequence[str]) -> str:
  sentences = []
  for name in networks:
    found = summary["networks"][name]
    top1 = {heads: statistics.mean(found[heads]["final_top1"]) for heads in _HEADS}
    sentences.append(
      f"In {NAMES[name]} heads make the gradient of the stem {_times(found['stem_factor'][0])} as "
      f"large before the first step and {_times(found['stem_factor'][-1])} after the last, where "
      f"the accuracy is {100 * top1['with']:.1f} % with them and {100 * top1['without']:.1f} % "
      "without."
    )
  return f"{' '.join(sentences)} {summary['runs']} runs took {duration(summary['seconds'])}."


def _times(factor: float | None) -> str:
  return "an unknown number of times" if factor is None else f"{factor:.1f} times"


def _what_is_measured(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
  stems = "; ".join(
    f"{NAMES[name]}'s {', '.join(f'`{module}`' for module in found['stem'])}"
    for name, found in summary["networks"].items()
    if name in NAMES
  )
  return (
    f"The gradient is that of the cross-entropy of {config['base']['eval_batch_size']} training "
    "images, the same for all networks, in training mode; its norm is over the kernels of a "
    "module. The whole loss counts the heads, too, and is what training minimises. The stem is all "
    f"that comes before the first Inception module: {stems}."
  )


def _table(config: Mapping[str, Any], summary: Mapping[str, Any], networks: Sequence[str]) -> Table:
  rows = []
  for name in networks:
    found = summary["networks"][name]
    for heads, words in _HEADS.items():
      factors = found["stem_factor"] if heads == "with" else []
      rows.append(
        (
          f"{NAMES[name]} {words}",
          f"{_of_arm(config, name, heads, 'aux_weight'):g}",
          _factor(factors[:1]),
          _factor(factors[len(factors) // 2 :][:1]),
          _factor(factors[-1:]),
          of_arms.best_top1(found[heads]),
          of_arms.spread([100 * top1 for top1 in found[heads]["final_top1"]], ".1f"),
        )
      )
  return Table(
    (
      "network",
      "heads' weight",
      "stem's gradient, at first",
      "half-way",
      "at the end",
      "best top-1 [%]",
      "at the end [%]",
    ),
    rows,
    "The stem's gradient of the whole loss as a multiple of that of the main loss alone, at the "
    "same weights, the geometric mean over the seeds. Accuracy on held-out images: "
    f"{of_arms.mean_and_range(config['seeds'])}.",
  )


def _of_arm(config: Mapping[str, Any], name: str, heads: str, field: str) -> float:
  value: float = config["arms"].get(switched_arm(name, heads), {}).get(field, config["base"][field])
  return value


def _factor(factors: Sequence[float | None]) -> str:
  return "–" if not factors else "not finite" if factors[0] is None else f"× {factors[0]:.2f}"


def _paint_gradients(
  figure: matplotlib.figure.Figure,
  summary: Mapping[str, Any],
  arrays: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
  moments = (0, 1, -1)
  panels = figure.subplots(len(arrays), len(moments), sharey="row", squeeze=False)
  lines = {
    "without heads": ("without", _HEAD_COLORS["without"], "-"),
    "with heads, whole loss": ("with/whole", _HEAD_COLORS["with"], "-"),
    "with heads, main loss alone": ("with/main", _HEAD_COLORS["with"], ":"),
  }
  for row, (name, of_network) in zip(panels, arrays.items(), strict=True):
    modules, steps = summary["networks"][name]["modules"], of_network["step"]
    for axes, moment in zip(row, moments, strict=True):
      number = min(moment, len(steps) - 1) if moment > 0 else moment
      for label, (key, color, style) in lines.items():
        _paint_norms(axes, of_network[key][:, number], label, color, style)
      step = steps[number]
      axes.set_title(f"{NAMES[name]}, {f'step {step:,}' if step else 'before the first step'}")
      axes.set_xticks(range(len(modules)), map(_short, modules), rotation=90, fontsize=9)
    set_log_scale(row[0])
    row[0].set_ylabel("norm of the gradient")
  handles = panels[0, 0].get_legend_handles_labels()
  figure.legend(*handles, loc="outside lower center", ncols=3)


def _paint_norms(
  axes: matplotlib.axes.Axes, norms: np.ndarray, label: str, color: str, style: str
) -> None:
  """Norms [seeds, modules]: their geometric mean and their range."""
  norms = np.where((norms > 0) & np.isfinite(norms), norms, np.nan)
  known = norms[~np.isnan(norms).any(-1)]
  if len(known):
    positions = np.arange(norms.shape[-1])
    axes.plot(positions, np.exp(np.log(known).mean(0)), style, color=color, label=label)
    axes.fill_between(positions, known.min(0), known.max(0), color=color, alpha=0.2, linewidth=0)


def _short(module: str) -> str:
  """`inception_3a` and `mixed_5b` without what they have in common, `conv_1a_3x3` as `conv_1a`."""
  return re.sub(r"^(inception|mixed)_|_\dx\d$", "", module)


def _paint_accuracy(
  figure: matplotlib.figure.Figure,
  curves: Mapping[str, Mapping[str, Sequence[LearningCurve]]],
  summary: Mapping[str, Any],
) -> None:
  panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
  for axes, (name, of_network) in zip(panels, curves.items(), strict=True):
    for heads, runs in of_network.items():
      of_arms.paint_mean_and_range(axes, runs, _HEAD_COLORS[heads], _HEADS[heads])
    axes.axhline(summary["chance"], color="gray", linestyle=":", label="chance")
    axes.set_title(NAMES[name])
    label_steps(axes)
  of_arms.label_accuracy(panels[0])
  figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
