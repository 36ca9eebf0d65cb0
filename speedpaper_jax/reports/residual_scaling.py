"""The report of Inception-ResNets whose residuals are scaled, or are not."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import numpy as np
from matplotlib.ticker import PercentFormatter

from speedpaper_jax.files import rules
from speedpaper_jax.papers.networks import NETWORKS
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import COLORS, draw, set_log_scale
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration
from speedpaper_jax.reports.step_axis import label_steps
from speedpaper_jax.storage.run_directory import RunDirectory

_CONFIG: rules.Rules = {
  "model": {"name": rules.one_of(NETWORKS)},
  "rates": rules.several(rules.ABOVE_ZERO, 1),
  "steps": rules.STEP,
  "data": {"name": rules.TEXT, "image_size": rules.IMAGE_SIZE},
  "warmup": {"steps": rules.STEP, "factor": rules.FRACTION},
}
_SUMMARY: rules.Rules = {
  "steps": rules.COUNT,
  "seconds": rules.AT_LEAST_ZERO,
  "blocks": rules.several(rules.TEXT, 1),
  "filters": rules.several(rules.COUNT, 1),
  "arms": rules.ListOf({"scale": rules.ABOVE_ZERO, "has_warmup": rules.SWITCH}),
}
_AXES = {
  "step": "T",
  **dict.fromkeys(("loss", "gradient_norm", "dead", "zeros", "top1"), "WRAT"),
  "deviations": "WRATB",
}


def present(directory: RunDirectory) -> Page:
  """Draws what happens to the last features, to loss and gradient, and to outputs by depth.

  Raises:
    UserError: a file of the run is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", _SUMMARY)
  if not summary["arms"]:
    raise contents.damaged(directory, "summary.json", "arms is empty.")
  arrays = contents.read_arrays(
    directory,
    _AXES,
    W=len(summary["filters"]),
    R=len(config["rates"]),
    A=len(summary["arms"]),
    B=len(summary["blocks"]),
  )
  contents.check_steps(directory, arrays["step"])
  names = [_name(arm) for arm in summary["arms"]]
  widest = int(np.argmax(summary["filters"]))
  rates = len(config["rates"])
  draw(
    directory,
    "dead",
    lambda figure: _paint_dead(figure, config, summary, arrays, names),
    3.6 * rates + 0.6,
    2.4 * len(summary["filters"]) + 0.9,
  )
  draw(
    directory,
    "training",
    lambda figure: _paint_training(figure, config, arrays, names, widest),
    3.6 * rates + 0.6,
    6,
  )
  draw(
    directory,
    "depth",
    lambda figure: _paint_depth(figure, config, summary, arrays, names, widest),
    3.6 * rates + 0.6,
    4.4,
  )
  network, data = NETWORKS[config["model"]["name"]].title, config["data"]
  filters = f"the network with {summary['filters'][widest]:,} last filters"
  return Page(
    title=f"Scaled residuals: {network} on {data['name']}",
    result=_result(config, summary, arrays, names),
    sections=[
      Section(
        "Result",
        paragraphs=[
          "A feature of the last maps, before the average pool, is dead where it is zero at each "
          f"place of all images of a batch. All networks see {data['image_size']} pixels, the "
          "same batches, and start from the same weights. With a warm-up the first "
          f"{config['warmup']['steps']} of {config['steps']} steps are at "
          f"{config['warmup']['factor']:g} times the rate.",
          "The paper (section 3.3) saw networks of more than 1,000 filters die after some ten "
          "thousand steps on ImageNet; scales of 0.1 to 0.3 prevented it, and a warm-up did not "
          "always.",
        ],
        parts=[
          Figure(
            "dead",
            "Dead features of the last maps against steps. From the left to the right the rate "
            "rises, from the top to the bottom the number of filters.",
          ),
          _table(config, summary, arrays, names),
        ],
      ),
      Section(
        "Loss, gradient and outputs by depth",
        parts=[
          Figure(
            "training",
            f"Training loss and norm of the gradient against steps, of {filters}. The line of a "
            "run ends where its loss is not finite.",
          ),
          Figure(
            "depth",
            f"Standard deviation of each residual block's output at the end, of {filters}. A line "
            "that falls out of the panel comes to zero.",
          ),
        ],
      ),
    ],
  )


def _name(arm: Mapping[str, Any]) -> str:
  unscaled = "unscaled" if arm["scale"] == 1 else f"scale {arm['scale']:g}"
  return f"{unscaled}, with warm-up" if arm["has_warmup"] else unscaled


def _at_the_end(values: np.ndarray) -> np.ndarray:
  """[..., T] → [...], the mean over the last quarter of the measurements; NaN of a run that ended.

  Single batches are noisy.
  """
  count = values.shape[-1]
  found: np.ndarray = np.mean(values[..., count - max(1, count // 4) :], -1)
  return found


def _result(
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  names: Sequence[str],
) -> str:
  """Of the rate at which the arms differ most."""
  dead = _at_the_end(arrays["dead"])
  by_arm = np.nan_to_num(dead, nan=1.0).mean(0)  # what is not finite has died, too
  rate = int(np.argmax(by_arm.max(1) - by_arm.min(1)))
  parts = [f"{name} {_percents(dead[:, rate, number])}" for number, name in enumerate(names)]
  return (
    f"Of the features of the last maps so many are dead at the end, at a rate of "
    f"{config['rates'][rate]:g}: {'; '.join(parts)}. {dead.size} runs took "
    f"{duration(summary['seconds'])}."
  )


def _percents(fractions: np.ndarray) -> str:
  """`12–25 %` of several networks; a run whose loss was not finite has none."""
  finite = fractions[np.isfinite(fractions)]
  if not finite.size:
    return "unknown (the loss is not finite)"
  least, most = (f"{100 * fraction:.0f}" for fraction in (finite.min(), finite.max()))
  return f"{least} %" if least == most else f"{least}–{most} %"


def _table(
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  names: Sequence[str],
) -> Table:
  dead, loss, top1 = (_at_the_end(arrays[name]) for name in ("dead", "loss", "top1"))

  def cell(place: tuple[int, int, int]) -> str:
    if not np.isfinite(loss[place]):
      return "loss not finite"
    return f"{100 * dead[place]:.0f} · {loss[place]:.2f} · {100 * top1[place]:.0f}"

  rows = [
    (
      f"{filters:,} filters, rate {rate:g}",
      *(cell((width, number, arm)) for arm in range(len(names))),
    )
    for width, filters in enumerate(summary["filters"])
    for number, rate in enumerate(config["rates"])
  ]
  return Table(
    ("network", *names),
    rows,
    "At the end, means over the last quarter of the measurements: dead features of the last maps "
    "[%] · training loss [nats] · training accuracy [%].",
  )


def _paint_dead(
  figure: matplotlib.figure.Figure,
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  names: Sequence[str],
) -> None:
  shape = len(summary["filters"]), len(config["rates"])
  panels = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
  for axes, place in zip(panels.flat, np.ndindex(shape), strict=True):
    _plot_arms(axes, arrays["step"], arrays["dead"][place], names)
    filters, rate = summary["filters"][place[0]], config["rates"][place[1]]
    axes.set_title(f"{filters:,} filters, rate {rate:g}", fontsize=11)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
  for axes in panels[-1]:
    label_steps(axes)
  for axes in panels[:, 0]:
    axes.set_ylabel("dead [%]")
  _add_legend(figure, panels[0, 0])


def _paint_training(
  figure: matplotlib.figure.Figure,
  config: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  names: Sequence[str],
  width: int,
) -> None:
  panels = figure.subplots(2, len(config["rates"]), sharex=True, sharey="row", squeeze=False)
  for row, name, label in (
    (panels[0], "loss", "training loss [nats]"),
    (panels[1], "gradient_norm", "gradient norm"),
  ):
    for number, axes in enumerate(row):
      _plot_arms(axes, arrays["step"], arrays[name][width, number], names)
      set_log_scale(axes)
    row[0].set_ylabel(label)
  for axes, rate in zip(panels[0], config["rates"], strict=True):
    axes.set_title(f"rate {rate:g}", fontsize=11)
  for axes in panels[1]:
    label_steps(axes)
  _add_legend(figure, panels[0, 0])


def _paint_depth(
  figure: matplotlib.figure.Figure,
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  names: Sequence[str],
  width: int,
) -> None:
  panels = figure.subplots(1, len(config["rates"]), sharey=True, squeeze=False)[0]
  blocks = np.arange(1, len(summary["blocks"]) + 1)
  for number, axes in enumerate(panels):
    _plot_arms(axes, blocks, arrays["deviations"][width, number, :, -1], names)
    axes.set_title(f"rate {config['rates'][number]:g}", fontsize=11)
    axes.set_xlabel("residual block")
    set_log_scale(axes)
  panels[0].set_ylabel("deviation of the output")
  _add_legend(figure, panels[0])


def _plot_arms(
  axes: matplotlib.axes.Axes, x: np.ndarray, values: np.ndarray, names: Sequence[str]
) -> None:
  """A line for each arm of `values` [A, X]."""
  for number, name in enumerate(names):
    style = "--" if name.endswith("warm-up") else "-"
    axes.plot(x, values[number], style, color=COLORS[number % len(COLORS)], label=name)


def _add_legend(figure: matplotlib.figure.Figure, axes: matplotlib.axes.Axes) -> None:
  handles, labels = axes.get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
