"""The report of internal covariate shift in Inception, with and without batch normalization."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import numpy as np

from speedpaper_jax.files import rules
from speedpaper_jax.reports import contents, covariate_shift_maps
from speedpaper_jax.reports.drawing import draw
from speedpaper_jax.reports.networks import LABELS, NETWORK_COLORS, TWO_NETWORKS
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import percent
from speedpaper_jax.reports.step_axis import label_steps
from speedpaper_jax.storage.run_directory import RunDirectory

_LITERATURE = (
  "Whether less internal covariate shift is why batch normalization works is disputed, and this "
  "figure does not decide it.",
  "Santurkar et al. 2018, “How Does Batch Normalization Help Optimization?” (arXiv 1805.11604), "
  "add noise after batch normalization so that distributions shift more than without it, find "
  "that training hardly suffers, and see the reason in a smoother loss. Bjorck et al. 2018 "
  "(1806.02375) see it in the larger learning rates that it allows, and Luo et al. 2018 "
  "(1809.00846) in part in regularisation. Balduzzi et al. 2017 (1702.08591) study how gradients "
  "come to resemble white noise with depth, and what batch normalization and skip connections "
  "change about that.",
)

_CONFIG: rules.Rules = {
  "data": {"name": rules.TEXT, "image_size": rules.IMAGE_SIZE},
  "batch_size": rules.ROWS,
  "measure_every": rules.STEP,
  "measured_examples": rules.ROWS,
  "batch_norm": {"decay": rules.FRACTION_BELOW_ONE},
  "optimizer": {
    "name": rules.TEXT,
    "momentum": rules.FRACTION_BELOW_ONE,
    "learning_rate": rules.ABOVE_ZERO,
  },
}
_DRIFTS: rules.Rules = {
  "top1": rules.FRACTION,
  "drift": contents.LOSS,
  "unnormalized_drift": contents.LOSS,
}
_SUMMARY: rules.Rules = {
  "steps": rules.STEP,
  "layers": rules.several(rules.TEXT, 1),
  "networks": dict.fromkeys(TWO_NETWORKS, _DRIFTS),
}


def present(directory: RunDirectory) -> Page:
  """Draws mean, deviation and drift of every layer's inputs, and says what the drift is.

  Raises:
    UserError: a file of the run is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", _SUMMARY)
  networks = summary["networks"]
  summary["networks"] = {name: contents.with_nan(networks[name]) for name in networks}
  arrays = contents.read_arrays(
    directory, covariate_shift_maps.axes(TWO_NETWORKS), L=len(summary["layers"])
  )
  contents.check_steps(directory, arrays["step"])
  labels = module_labels(summary["layers"])
  covariate_shift_maps.draw(directory, arrays, TWO_NETWORKS, labels, height=8.4)
  draw(directory, "accuracy", lambda figure: _paint_accuracy(figure, arrays), height=3.6)
  return Page(
    title="Internal covariate shift in Inception with and without batch normalization",
    result=result(summary),
    sections=[
      Section(
        "The inputs of all nonlinearities",
        paragraphs=[covariate_shift_maps.BY_CONSTRUCTION],
        parts=[
          Figure(
            covariate_shift_maps.NAME,
            f"{covariate_shift_maps.CAPTION} The {len(summary['layers'])} layers begin at the top; "
            "the first of each module has its name.",
          ),
          _totals(summary, arrays),
        ],
      ),
      Section(
        "Accuracy",
        parts=[
          Figure(
            "accuracy",
            "Accuracy on held-out images against steps. In inference batch normalization uses "
            f"moving averages, here with a decay of {config['batch_norm']['decay']:g}, which at "
            "first lag behind.",
          )
        ],
      ),
      Section("What it explains", paragraphs=_LITERATURE),
      Section("What was trained", paragraphs=[_settings(config)]),
    ],
  )


def result(summary: Mapping[str, Any]) -> str:
  """The median drifts and the accuracies; a drift that BN does not make smaller is named."""
  without, with_batch_norm = (summary["networks"][network] for network in TWO_NETWORKS)
  sentences = [
    f"In one step of training the mean of a nonlinearity's input drifts by "
    f"{_decimal(without['drift'])} of its standard deviation without batch normalization. With it "
    f"the drift is {_decimal(with_batch_norm['unnormalized_drift'])} before normalization and "
    f"{_decimal(with_batch_norm['drift'])} after it (medians over layers and time).",
  ]
  if not with_batch_norm["drift"] < without["drift"]:
    sentences.append("In this run it is not smaller with batch normalization.")
  elif not with_batch_norm["unnormalized_drift"] < without["drift"]:
    sentences.append("Before normalization it is not smaller than without, in this run.")
  sentences.append(
    f"After {summary['steps']:,} steps the accuracy on held-out images is "
    f"{percent(without['top1'])} without and {percent(with_batch_norm['top1'])} with it."
  )
  return " ".join(sentences)


def module_labels(layers: Sequence[str]) -> dict[int, str]:
  """Number of a module's first layer → its name: `inception_3a/conv_1x1` → `3a`.

  What comes before the modules is `conv`.
  """
  labels: dict[int, str] = {}
  for number, layer in enumerate(layers):
    module, separator, _ = layer.removeprefix("inception_").partition("/")
    name = module if separator else "conv"
    if name not in labels.values():
      labels[number] = name
  return labels


def _decimal(number: float) -> str:
  """Two digits without an exponent, as 0.00002."""
  return np.format_float_positional(number, precision=2, fractional=False, trim="-")


def _totals(summary: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Table:
  rows = []
  for network in TWO_NETWORKS:
    found = summary["networks"][network]
    by_layer = np.median(arrays[f"{network}/unnormalized_drift"], 0)
    most = int(np.argmax(by_layer))
    rows.append(
      (
        LABELS[network],
        _decimal(found["drift"]),
        _decimal(found["unnormalized_drift"]),
        f"{_decimal(by_layer[most])}, {summary['layers'][most]}",
        percent(found["top1"]),
      )
    )
  return Table(
    ("network", "drift", "before normalization", "layer with the most of that", "accuracy"),
    rows,
    "Drift in standard deviations per step, as a median over layers and time, or over time for the "
    "layer, and accuracy on held-out images after the last step.",
  )


def _settings(config: Mapping[str, Any]) -> str:
  data, optimizer = config["data"], config["optimizer"]
  return (
    f"The network of Figure 5, without dropout and local response normalization, learns "
    f"`{data['name']}` at {data['image_size']}×{data['image_size']} pixels, in mini-batches of "
    f"{config['batch_size']}, by `{optimizer['name']}` with momentum {optimizer['momentum']:g} and "
    f"a learning rate of {optimizer['learning_rate']:g}, the initial rate of Inception and "
    f"BN-Baseline in section 4.2.2. Both networks see the same mini-batches. The statistics are "
    f"those of {config['measured_examples']} training images, before and after every "
    f"{config['measure_every']}th step."
  )


def _paint_accuracy(figure: matplotlib.figure.Figure, arrays: Mapping[str, np.ndarray]) -> None:
  axes = figure.subplots()
  for network in TWO_NETWORKS:
    axes.plot(
      arrays["step"],
      100 * arrays[f"{network}/top1"],
      color=NETWORK_COLORS[network],
      label=LABELS[network],
    )
  axes.set_ylim(0, 100)
  axes.set_ylabel("accuracy [%]")
  label_steps(axes)
  axes.legend(loc="lower right")
