"""Figures of a run, drawn from what it left behind."""

from typing import Any

import matplotlib
import matplotlib.figure

from speedpaper_jax.progress import format_evaluation, format_seconds
from speedpaper_jax.run_directory import RunDirectory

_TRAIN, _EVAL = "#4c78a8", "#e45756"


def write(directory: RunDirectory) -> None:
  """Draws loss and accuracy against steps into `plots/`."""
  directory.plots.mkdir(exist_ok=True)
  entries = directory.metrics()
  _draw(directory, entries, "loss", "cross-entropy loss [nats]", 1.0)
  _draw(directory, entries, "top1", "top-1 accuracy [%]", 100.0)


def describe(summary: dict[str, Any]) -> str:
  """The result in one line."""
  return (
    f"{format_evaluation(summary['eval'])}  after {summary['steps']} steps in "
    f"{format_seconds(summary['seconds'])}"
  )


def _draw(
  directory: RunDirectory, entries: list[dict[str, Any]], key: str, label: str, factor: float
) -> None:
  figure = matplotlib.figure.Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
  axes = figure.subplots()
  for split, name, color, marker in (
    ("train", "training batches", _TRAIN, None),
    ("eval", "held-out images", _EVAL, "o"),
  ):
    points = [entry for entry in entries if entry["split"] == split and key in entry]
    axes.plot(
      [point["step"] for point in points],
      [point[key] * factor for point in points],
      label=name,
      color=color,
      marker=marker,
      markersize=4,
    )
  if key == "loss":
    axes.set_yscale("log")
  axes.set_xlabel("step")
  axes.set_ylabel(label)
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(frameon=False)
  figure.savefig(directory.plots / f"{key}.png")
