"""The report of the parabola that is fitted with and without batch normalization."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import numpy as np
from matplotlib.ticker import MaxNLocator

from speedpaper_jax.files import rules
from speedpaper_jax.reports import contents, ridgelines
from speedpaper_jax.reports.drawing import draw, set_log_scale
from speedpaper_jax.reports.evaluations import evenly_spaced
from speedpaper_jax.reports.networks import LABELS, NETWORK_COLORS, TWO_NETWORKS
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.storage.run_directory import RunDirectory

_ACTIVATIONS = {"relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid"}
_MOST_LAYERS = 8  # side by side
_RIDGES = (
  "All layers have the same axes. The height of a ridge is the square root of the share of the "
  f"values, cut at {100 * ridgelines.HIGHEST_SHARE:.0f} %; outliers, 0.2 % at either end, may lie "
  "beyond the axis. Before training, at epoch 0, the moving averages are still 0 and 1, and batch "
  "normalization changes nothing in inference."
)

_CONFIG: rules.Rules = {
  "activation": rules.one_of(_ACTIVATIONS),
  "input_batch_norm": rules.SWITCH,
  "epochs": rules.whole(0, 2**20),
  "batch_size": rules.ROWS,
  "train_examples": rules.ROWS,
  "test_examples": rules.ROWS,
  "hidden_layers": rules.whole(2, 10_000),
  "hidden_units": rules.ROWS,
  "initial_std": rules.ABOVE_ZERO,
  "initial_bias": rules.FINITE,
  "batch_norm": {"decay": rules.FRACTION_BELOW_ONE},
  "optimizer": {"name": rules.TEXT, "learning_rate": rules.ABOVE_ZERO},
}


def present(directory: RunDirectory) -> Page:
  """Draws loss, fits and distributions, and gives the losses.

  Raises:
    UserError: a file of the run is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", {"test_variance": rules.ABOVE_ZERO})
  arrays = _read_arrays(directory, config)
  layers = evenly_spaced(range(arrays["with/inputs"].shape[1]), _MOST_LAYERS)
  epochs = shown_epochs(config["epochs"])
  draw(
    directory,
    "inputs",
    lambda figure: _paint_inputs_and_outputs(figure, arrays, epochs, layers),
    width=10.5,
    height=5,
  )
  draw(
    directory,
    "activations",
    lambda figure: _paint_distributions(figure, "activations", arrays, epochs, layers),
    width=9,
    height=5,
  )
  variance = summary["test_variance"]
  draw(directory, "loss", lambda figure: _paint_loss(figure, arrays, variance))
  draw(directory, "fit", lambda figure: _paint_fit(figure, arrays))
  return Page(
    title="A parabola fitted with and without batch normalization",
    result=result(arrays, variance),
    sections=[
      Section(
        "What the layers see",
        paragraphs=[_collapse(arrays)],
        parts=[
          Figure(
            "inputs",
            "Inputs of the nonlinearities on the test set, and on the right the network's output "
            f"after the last epoch over the test set's points. {_RIDGES}",
          ),
          Figure("activations", "Activations, which are the nonlinearities' outputs, likewise."),
        ],
      ),
      Section(
        "What is learned",
        paragraphs=[_moving_averages(config)],
        parts=[
          Figure(
            "loss",
            "Mean squared error on the test set against epochs, before the first and after each. "
            "The best constant is the mean of the targets, and its loss their variance; the "
            "noise's variance is what the parabola itself would have.",
          ),
          Figure("fit", "The networks' outputs after the last epoch, and the test set."),
          _losses(arrays),
        ],
      ),
      Section("What was trained", paragraphs=_settings(config)),
    ],
  )


def _read_arrays(directory: RunDirectory, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
  axes = {"test_x": "X", "test_y": "X"}
  for network in TWO_NETWORKS:
    axes |= {f"{network}/test_loss": "E", f"{network}/outputs": "EX"}
    axes |= {f"{network}/inputs": "ELN", f"{network}/activations": "ELN"}
  lengths = {"E": config["epochs"] + 1, "L": config["hidden_layers"]}
  arrays = contents.read_arrays(directory, axes, **lengths)
  if arrays["with/inputs"].shape[-1] % len(arrays["test_x"]):
    raise contents.damaged(
      directory, "arrays.npz", "'with/inputs' does not have as many values for each example."
    )
  return arrays


def result(arrays: Mapping[str, np.ndarray], variance: float) -> str:
  """The losses after the last epoch beside that of the best constant, and who learned no more."""
  epochs = len(arrays["with/test_loss"]) - 1
  (verb, without), (other_verb, with_batch_norm) = (
    _loss(arrays[f"{network}/test_loss"]) for network in TWO_NETWORKS
  )
  sentence = (
    f"After {epochs} epochs the test loss {verb} {without} without batch normalization and "
    f"{'' if verb == other_verb else f'{other_verb} '}{with_batch_norm} with it; the best constant "
    f"has {variance:.1f}."
  )
  for network in TWO_NETWORKS:
    outputs = arrays[f"{network}/outputs"][-1]
    if np.isfinite(outputs).all() and np.ptp(outputs) < 0.01 * np.sqrt(variance):
      sentence += f" {network.capitalize()} batch normalization the output is the same for every x."
  return sentence


def shown_epochs(last: int) -> list[int]:
  """Before training, early, and at the end."""
  return sorted({0, min(1, last), last // 3, last})


def _loss(losses: np.ndarray) -> tuple[str, str]:
  """A verb and the last loss."""
  second_half = losses[len(losses) // 2 :]
  settled = (
    len(second_half) > 1
    and np.isfinite(second_half).all()
    and np.ptp(second_half) <= 0.01 * losses[-1]
  )
  return "has settled at" if settled else "is", f"{losses[-1]:.1f}"


def _collapse(arrays: Mapping[str, np.ndarray]) -> str:
  """How much the inputs still depend on the example, after the last epoch."""
  examples = len(arrays["test_x"])
  clauses = []
  for network in TWO_NETWORKS:
    last = arrays[f"{network}/inputs"][-1]
    with np.errstate(invalid="ignore"):  # of a network that diverged
      first_layer, *_, last_layer = last.reshape(len(last), examples, -1).std(1).mean(1)
    clauses.append(
      f"{LABELS[network]} it is {_deviation(first_layer)} in the first layer and "
      f"{_deviation(last_layer)} in the last"
    )
  return (
    "The standard deviation of a unit's input over the test set says how much of the example is "
    f"left in it. After the last epoch, on average of a layer's units, {' and '.join(clauses)}."
  )


def _deviation(number: float) -> str:
  if not np.isfinite(number):
    return "not finite"
  return "less than 0.01" if number < 0.01 else f"{number:.2f}"


def _moving_averages(config: Mapping[str, Any]) -> str:
  return (
    "The test loss is that of inference, where batch normalization uses moving averages, here with "
    f"a decay of {config['batch_norm']['decay']:g}. They lag behind the weights while these "
    f"change, and the loss may go up and down with them."
  )


def _settings(config: Mapping[str, Any]) -> list[str]:
  layers, units = config["hidden_layers"], config["hidden_units"]
  paragraphs = [
    f"The targets are y = x² − 5 with normal noise of standard deviation 2, at "
    f"{config['train_examples']:,} x from -7 to 10 to train on and {config['test_examples']:,} to "
    f"test. Both networks have {layers} hidden layers of {units} units, "
    f"{_ACTIVATIONS[config['activation']]}, and the same initial weights of standard deviation "
    f"{config['initial_std']:g}; all biases are {config['initial_bias']:g} at first. Both see the "
    f"same mini-batches of {config['batch_size']}, and `{config['optimizer']['name']}` trains them "
    f"with a learning rate of {config['optimizer']['learning_rate']:g}."
  ]
  if config["input_batch_norm"]:
    paragraphs.append(
      "The network with batch normalization has it before every nonlinearity, and on x itself, "
      "which the other network takes as it is. Without that the networks differ in their hidden "
      "layers alone:"
    )
    activation = f"activation={config['activation']},input_batch_norm=no"
    paragraphs.append(f"`python -m speedpaper_jax.main --config=configs/bn_fc.py:{activation}`")
  return paragraphs


def _losses(arrays: Mapping[str, np.ndarray]) -> Table:
  losses = [arrays[f"{network}/test_loss"] for network in TWO_NETWORKS]
  return Table(
    ("epoch", *(LABELS[network] for network in TWO_NETWORKS)),
    [
      (str(epoch), *(f"{loss:.1f}" for loss in of_epoch))
      for epoch, of_epoch in enumerate(zip(*losses, strict=True))
    ],
    "Mean squared error on the test set, in inference, after so many epochs.",
  )


def _paint_inputs_and_outputs(
  figure: matplotlib.figure.Figure,
  arrays: Mapping[str, np.ndarray],
  epochs: Sequence[int],
  layers: Sequence[int],
) -> None:
  left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(3.6, 1)).flat
  _paint_distributions(left, "inputs", arrays, epochs, layers)
  panels = right.subplots(len(TWO_NETWORKS), 1, sharex=True)
  for axes, network in zip(panels, TWO_NETWORKS, strict=True):
    _plot_test_set(axes, arrays)
    _plot_outputs(axes, arrays, network)
    axes.tick_params(labelsize=10)
  panels[0].set_title("output", fontsize=11)
  right.supxlabel("x", fontsize=12)


def _paint_distributions(
  figure: matplotlib.figure.FigureBase,
  name: str,
  arrays: Mapping[str, np.ndarray],
  epochs: Sequence[int],
  layers: Sequence[int],
) -> None:
  ridgelines.paint(
    figure,
    {network: arrays[f"{network}/{name}"][epochs][:, layers] for network in TWO_NETWORKS},
    times=epochs,
    layers=[layer + 1 for layer in layers],
    time="after epoch",
    value="input of a nonlinearity" if name == "inputs" else "activation",
  )


def _paint_loss(
  figure: matplotlib.figure.Figure, arrays: Mapping[str, np.ndarray], variance: float
) -> None:
  axes = figure.subplots()
  for network in TWO_NETWORKS:
    losses = arrays[f"{network}/test_loss"]
    axes.plot(losses, "o-", color=NETWORK_COLORS[network], label=LABELS[network])
  noise = float(np.var(arrays["test_y"] - parabola(arrays["test_x"])))
  for level, style, label in ((variance, "--", "best constant"), (noise, ":", "noise alone")):
    axes.axhline(level, linestyle=style, color=matplotlib.rcParams["text.color"], label=label)
  set_log_scale(axes)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  axes.set_xlabel("epoch")
  axes.set_ylabel("mean squared error")
  figure.legend(loc="outside upper center", ncols=4)


def _paint_fit(figure: matplotlib.figure.Figure, arrays: Mapping[str, np.ndarray]) -> None:
  axes = figure.subplots()
  _plot_test_set(axes, arrays)
  x = arrays["test_x"]
  axes.plot(x, parabola(x), ":", color=matplotlib.rcParams["text.color"], label="x² − 5")
  for network in TWO_NETWORKS:
    _plot_outputs(axes, arrays, network)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
  axes.set_xlabel("x")
  axes.set_ylabel("y")
  figure.legend(loc="outside upper center", ncols=4)


def _plot_test_set(axes: matplotlib.axes.Axes, arrays: Mapping[str, np.ndarray]) -> None:
  axes.plot(
    arrays["test_x"],
    arrays["test_y"],
    "o",
    color=matplotlib.rcParams["text.color"],
    alpha=0.35,
    markersize=3.5,
    markeredgewidth=0,
    label="test set",
  )


def _plot_outputs(
  axes: matplotlib.axes.Axes, arrays: Mapping[str, np.ndarray], network: str
) -> None:
  outputs = arrays[f"{network}/outputs"][-1]
  axes.plot(arrays["test_x"], outputs, color=NETWORK_COLORS[network], label=LABELS[network])


def parabola(x: np.ndarray) -> np.ndarray:
  """The targets without their noise."""
  return x**2 - 5
