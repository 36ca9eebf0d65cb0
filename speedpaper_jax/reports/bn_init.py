"""The report of initial scales: what a hundred layers make of their input, what can be trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import numpy as np
from matplotlib.ticker import NullLocator

from speedpaper_jax.files import rules
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import draw
from speedpaper_jax.reports.networks import LABELS, NETWORK_COLORS, TWO_NETWORKS
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.storage.run_directory import RunDirectory

_INITIALIZERS = {
  "default": "PyTorch's default",
  "normal": "normal, σ = 1",
  "normal1000": "normal, σ = 1000",
  "kaiming": "Kaiming",
}
_LARGEST, _SMALLEST = (float(getattr(np.finfo(np.float32), end)) for end in ("max", "tiny"))
_HIGHEST_EXPONENT = 60  # of the axis, on which float32 ends at 38
_STYLES = {"without": "-", "with": "--"}  # where one line lies on another, both are seen
_THICK, _THIN = 2.6, 1.0  # lines, in points
_CHANCE = 0.1  # of ten digits
_WELL = 0.9
_NOTHING = "–"
_FAILURES = {
  "dead": "zero from layer",
  "overflow": "not finite from layer",
  "nan": "NaN from layer",
}

_CONFIG: rules.Rules = {
  "batch_size": rules.ROWS,
  "data": {"name": rules.TEXT},
  "optimizer": {"name": rules.TEXT},
  "deep": dict.fromkeys(("layers", "units", "batch_size", "seeds"), rules.ROWS),
  "trained": {
    **dict.fromkeys(("layers", "units", "seeds"), rules.ROWS),
    "steps": rules.STEP,
    "learning_rates": rules.several(rules.ABOVE_ZERO, 1),
  },
}
_DEVIATIONS: rules.Rules = {
  **dict.fromkeys(("first", "last", "last_in_float64"), rules.or_nothing(rules.AT_LEAST_ZERO_64)),
  **dict.fromkeys(_FAILURES, rules.several(rules.or_nothing(rules.ROWS))),
}
_ACCURACIES: rules.Rules = {"top1": rules.several(rules.FRACTION, 1)}
_SUMMARY: rules.Rules = {
  "deep": rules.Each(dict.fromkeys(TWO_NETWORKS, _DEVIATIONS)),
  "scales": rules.several(rules.ABOVE_ZERO, 1),
  "trained": dict.fromkeys(TWO_NETWORKS, _ACCURACIES),
}


def present(directory: RunDirectory) -> Page:
  """Draws deviations by layer and accuracies by initial scale, and says what became of them.

  Raises:
    UserError: a file of the run is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", _SUMMARY)
  arrays = _read_arrays(directory, summary)
  deep, trained = config["deep"], config["trained"]
  draw(
    directory,
    "deep",
    lambda figure: _paint_deep(figure, arrays, summary["deep"]),
    width=9,
    height=4 if len(summary["deep"]) <= 2 else 6.4,
  )
  draw(directory, "trained", lambda figure: _paint_trained(figure, arrays, trained["units"]))
  return Page(
    title="Initial scales with and without batch normalization",
    result=result(config, summary),
    sections=[
      Section(
        f"What {deep['layers']} layers make of their input",
        paragraphs=[
          f"{deep['layers']} layers of {deep['units']} rectified units, without biases and "
          f"untrained, are applied to {deep['batch_size']} random inputs. The weights are drawn "
          f"from different distributions, by {deep['seeds']} seeds each; batch normalization "
          f"takes the mini-batch's own statistics.",
          "On CPUs XLA takes numbers below 1.2·10⁻³⁸, which float32 holds with fewer digits, for "
          "zero, so that outputs are zero there, where PyTorch's go on to shrink to about 10⁻⁴⁰.",
        ],
        parts=[
          Figure(
            "deep",
            "Standard deviation of all outputs of a layer against the layer, median of the seeds. "
            "Thick lines are in float32, and a cross stands where they end: from the next layer "
            "on outputs are all zero, or not all finite. Thin lines go on in float64, with the "
            "same weights and inputs.",
          ),
          _deviations(summary["deep"]),
        ],
      ),
      Section(
        "What can be trained",
        paragraphs=[_search(config)],
        parts=[
          Figure(
            "trained",
            "Accuracy on held-out images against the standard deviation of the initial weights: "
            f"the mean of {trained['seeds']} seeds, and their range as a band, at the rate that is "
            f"best of {len(trained['learning_rates'])} for each network and deviation. Chance is "
            f"{100 * _CHANCE:.0f} %. Kaiming's deviation for {trained['units']} units is "
            f"√(2/{trained['units']}) = {(2 / trained['units']) ** 0.5:.3f}.",
          ),
          _accuracies(arrays),
        ],
      ),
    ],
  )


def _read_arrays(directory: RunDirectory, summary: Mapping[str, Any]) -> dict[str, np.ndarray]:
  axes = {"scales": "K"}
  for network in TWO_NETWORKS:
    axes[f"trained/{network}"] = "KR"
    for initializer in summary["deep"]:
      for dtype in ("float32", "float64"):
        axes[f"deep/{initializer}/{network}/{dtype}"] = "SL"
  unknown = [initializer for initializer in summary["deep"] if initializer not in _INITIALIZERS]
  if unknown or not summary["deep"]:
    what = f"it has the unknown '{unknown[0]}'." if unknown else "it is empty."
    raise contents.damaged(directory, "summary.json", f"deep: {what}")
  return contents.read_arrays(directory, axes, K=len(summary["scales"]))


def result(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
  """From how many initialisations deep networks fail, and from how many scales others learn."""
  deep, scales = summary["deep"], summary["scales"]
  failing = {
    network: sum(_first_failures(of[network]) != {} for of in deep.values())
    for network in TWO_NETWORKS
  }
  learning = {
    network: sum(top1 >= _WELL for top1 in summary["trained"][network]["top1"])
    for network in TWO_NETWORKS
  }
  return (
    f"Without batch normalization the outputs of {config['deep']['layers']} layers vanish or "
    f"overflow in float32 from {failing['without']} of {len(deep)} initialisations, with it from "
    f"{failing['with'] or 'none'}. Networks of {config['trained']['layers']} layers learn the "
    f"digits to {100 * _WELL:.0f} % accuracy or more from {learning['without']} of {len(scales)} "
    f"initial scales without it, and from {learning['with']} with it."
  )


def _first_failures(description: Mapping[str, Any]) -> dict[str, list[int]]:
  """For each kind of failure that occurs in float32 the layers, sorted, at which it begins.

  Outputs that are NaN as soon as they are not finite are that alone.
  """
  layers = {
    kind: sorted(layer for layer in description[kind] if layer is not None) for kind in _FAILURES
  }
  if layers["overflow"] == layers["nan"]:
    del layers["overflow"]
  return {kind: found for kind, found in layers.items() if found}


def _deviations(deep: Mapping[str, Any]) -> Table:
  rows = []
  for initializer, networks in deep.items():
    for network in TWO_NETWORKS:
      found = networks[network]
      failures = _first_failures(found)
      rows.append(
        (
          _INITIALIZERS[initializer],
          LABELS[network],
          *(_number(found[name]) for name in ("first", "last", "last_in_float64")),
          "; ".join(f"{_FAILURES[kind]} {_layers(layers)}" for kind, layers in failures.items())
          or _NOTHING,
        )
      )
  return Table(
    (
      "weights",
      "network",
      "first layer",
      "last, float32",
      "last, float64",
      "where float32 ends",
    ),
    rows,
    "Standard deviation of a layer's outputs, median of the seeds, and the first layer at which "
    "float32 ends, as a range over the seeds.",
  )


def _number(deviation: float | None) -> str:
  """None stands for what is not finite."""
  if deviation is None:
    return "not finite"
  if deviation == 0:
    return "0"
  if not 0.001 <= deviation < 1e6:
    return f"{deviation:.1e}"
  return f"{deviation:,.0f}" if deviation >= 100 else f"{deviation:.3f}"


def _layers(layers: Sequence[int]) -> str:
  return str(layers[0]) if layers[0] == layers[-1] else f"{layers[0]}–{layers[-1]}"


def _search(config: Mapping[str, Any]) -> str:
  trained, data = config["trained"], config["data"]["name"]
  return (
    f"{trained['layers']} layers of {trained['units']} rectified units learn `{data}` for "
    f"{trained['steps']:,} steps of {config['batch_size']} images, by "
    f"`{config['optimizer']['name']}`. The weights are normal with the deviation that the figure "
    f"shows. Each network may choose among the learning rates "
    f"{', '.join(f'{rate:g}' for rate in trained['learning_rates'])} for each deviation, by the "
    f"accuracy on the same held-out images, on average of {trained['seeds']} seeds."
  )


def _accuracies(arrays: Mapping[str, np.ndarray]) -> Table:
  best = [arrays[f"trained/{network}"] for network in TWO_NETWORKS]
  return Table(
    ("initial σ", *(f"{LABELS[network]} [%]" for network in TWO_NETWORKS)),
    [
      (f"{scale:g}", *(f"{100 * top1.mean():.1f}" for top1 in of_scale))
      for scale, *of_scale in zip(arrays["scales"], *best, strict=True)
    ],
    "Accuracy on held-out images, mean of the seeds, at the best of the rates.",
  )


def _paint_deep(
  figure: matplotlib.figure.Figure,
  arrays: Mapping[str, np.ndarray],
  deep: Mapping[str, Any],
) -> None:
  text = matplotlib.rcParams["text.color"]
  columns = min(len(deep), 2)
  panels = figure.subplots(
    -(-len(deep) // columns), columns, sharex=True, sharey=True, squeeze=False
  )
  for axes, (initializer, networks) in zip(panels.flat, deep.items(), strict=False):
    for network in TWO_NETWORKS:
      float32, float64 = (
        _finite_medians(arrays[f"deep/{initializer}/{network}/{dtype}"])
        for dtype in ("float32", "float64")
      )
      _plot_deviations(axes, float32, float64, network)
      failures = _first_failures(networks[network])
      for kind in list(failures)[:1]:
        _mark_end(axes, float32, network, _FAILURES[kind], failures[kind])
    for limit in (_SMALLEST, _LARGEST):
      axes.axhline(limit, color=text, linewidth=1.2, linestyle=":")
    axes.set_title(_INITIALIZERS[initializer])
  axes = panels[0, 0]
  axes.set_yscale("log")
  axes.set_ylim(10.0**-_HIGHEST_EXPONENT, 10.0**_HIGHEST_EXPONENT)
  axes.set_yticks([10.0**exponent for exponent in (-40, -20, 0, 20, 40)])
  axes.yaxis.set_minor_locator(NullLocator())
  for row in panels:
    row[0].set_ylabel("standard deviation")
  for axes in panels[-1]:
    axes.set_xlabel("layer")
  _label_limits(panels[0, 0])
  for name in TWO_NETWORKS:
    axes.plot([], [], _STYLES[name], color=NETWORK_COLORS[name], label=LABELS[name])
  for dtype, width in (("float32", _THICK), ("float64", _THIN)):
    axes.plot([], [], color=text, linewidth=width, label=dtype)
  figure.legend(loc="outside upper center", ncols=4)


def _finite_medians(deviations: np.ndarray) -> np.ndarray:
  """[seeds, layers] → [layers], NaN where the median is 0 or not finite: a line ends there."""
  medians = np.median(deviations, 0)
  return np.where(np.isfinite(medians) & (medians > 0), medians, np.nan)


def _plot_deviations(
  axes: matplotlib.axes.Axes, float32: np.ndarray, float64: np.ndarray, network: str
) -> None:
  """In float32, and from its last point on in float64."""
  layers = np.arange(1, len(float32) + 1)
  has_ended = np.isnan(float32)
  continuation = np.where(has_ended | np.append(has_ended[1:], False), float64, np.nan)
  for deviations, width in ((continuation, _THIN), (float32, _THICK)):
    color, style = NETWORK_COLORS[network], _STYLES[network]
    axes.plot(layers, deviations, style, color=color, linewidth=width)


def _mark_end(
  axes: matplotlib.axes.Axes,
  deviations: np.ndarray,
  network: str,
  failure: str,
  layers: Sequence[int],
) -> None:
  shown = np.flatnonzero(np.isfinite(deviations))
  if not shown.size:
    return
  last = shown[-1]
  axes.plot(last + 1, deviations[last], "X", color=NETWORK_COLORS[network], markersize=9)
  in_left_half = last < len(deviations) / 2
  axes.annotate(
    f"{failure} {_layers(layers)}",
    (last + 1, deviations[last]),
    (12 if in_left_half else -6, -14),
    textcoords="offset points",
    ha="left" if in_left_half else "right",
    va="center" if in_left_half else "top",
    fontsize=11,
  )


def _label_limits(axes: matplotlib.axes.Axes) -> None:
  right = axes.get_yaxis_transform()  # x from 0 to 1
  for limit, side, text in (
    (_LARGEST, "right", "largest float32"),
    (_SMALLEST, "left", "smallest normal float32"),
  ):
    place = 0.98 if side == "right" else 0.02
    axes.text(place, limit, text, transform=right, ha=side, va="bottom", fontsize=10)


def _paint_trained(
  figure: matplotlib.figure.Figure, arrays: Mapping[str, np.ndarray], units: int
) -> None:
  axes = figure.subplots()
  text = matplotlib.rcParams["text.color"]
  scales = arrays["scales"]
  for network in TWO_NETWORKS:
    color = NETWORK_COLORS[network]
    top1 = 100 * arrays[f"trained/{network}"]
    axes.fill_between(scales, top1.min(-1), top1.max(-1), color=color, alpha=0.25, linewidth=0)
    axes.plot(scales, top1.mean(-1), "o-", color=color, label=LABELS[network])
  axes.axhline(100 * _CHANCE, color=text, linestyle=":", zorder=1, label="chance")
  axes.axvline(np.sqrt(2 / units), color=text, linewidth=1, zorder=1, label="Kaiming's")
  axes.set_xscale("log")
  axes.xaxis.set_major_formatter("{x:g}")
  axes.set_ylim(0, 100)
  axes.set_xlabel("standard deviation of the initial weights")
  axes.set_ylabel("accuracy [%]")
  figure.legend(loc="outside upper center", ncols=4)
