"""A figure of one feature's values through Algorithm 1, and of their gradient's way back."""

import pathlib

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from speedpaper_jax.explanations import batch_norm
from speedpaper_jax.explanations.inputs import Inputs
from speedpaper_jax.files import figures

_VALUE, _DIRECT, _THROUGH_VARIANCE, _THROUGH_MEAN = "#4c78a8", "#72b7b2", "#f58518", "#b279a2"
_FEATURE = 0


def write(path: pathlib.Path, inputs: Inputs) -> None:
  """Draws the first feature of the first mini-batch.

  Args:
    path: of the figure, a .png.
    inputs: the first mini-batch, ∂ℓ/∂y, γ, β and ε are read.

  Raises:
    UserError: the file cannot be written.
  """
  figure = matplotlib.figure.Figure(figsize=(11, 7.4), dpi=150, layout="constrained")
  forward, backward = figure.subfigures(2, 1, squeeze=False, hspace=0.04)[:, 0]
  _draw_forward(forward, inputs)
  _draw_backward(backward, inputs)
  figures.write(path, figure)


def _draw_forward(figure: matplotlib.figure.SubFigure, inputs: Inputs) -> None:
  result = batch_norm.transform(inputs.x, inputs.scale, inputs.bias, inputs.epsilon)
  x, x_hat, y = (values[:, _FEATURE] for values in (inputs.x, result.x_hat, result.y))
  mean, scale, bias = (values[_FEATURE] for values in (result.mean, inputs.scale, inputs.bias))
  std = np.sqrt(result.variance[_FEATURE])
  panels = figure.subplots(1, 4, sharey=True)
  for axes, values, center, spread, title in zip(
    panels,
    (x, x - mean, x_hat, y),
    (mean, 0, 0, bias),
    (std, std, x_hat.std(), scale * x_hat.std()),
    (
      f"$x_i$\n$\\mu_B = {mean:.2f}$, $\\sigma_B = {std:.2f}$",
      "$x_i - \\mu_B$\nmean 0",
      "$\\hat{x}_i = (x_i - \\mu_B)/\\sqrt{\\sigma_B^2 + \\epsilon}$\n"
      f"mean 0, variance {x_hat.var():.3f}",
      f"$y_i = \\gamma\\,\\hat{{x}}_i + \\beta$\n$\\gamma = {scale:g}$, $\\beta = {bias:g}$",
    ),
    strict=True,
  ):
    axes.axhspan(center - spread, center + spread, color=_VALUE, alpha=0.15, linewidth=0)
    axes.axhline(center, color=_VALUE, linestyle="--", linewidth=1.2)
    axes.plot(np.arange(1, len(x) + 1), values, "o", color=_VALUE, markersize=9)
    axes.set_title(title, fontsize=12.5)
    _finish(axes, len(x))
  panels[0].set_ylabel("value", fontsize=12.5)
  figure.suptitle(
    "Algorithm 1 on one feature: value (dot), mean (dashed), one standard deviation (band)",
    fontsize=14,
  )


def _draw_backward(figure: matplotlib.figure.SubFigure, inputs: Inputs) -> None:
  result = batch_norm.gradients(inputs.d_y, inputs.x, inputs.scale, inputs.epsilon)
  m = len(inputs.x)
  examples = np.arange(1, m + 1)
  panels = figure.subplots(1, 3, sharey=True, width_ratios=(1, 1, 2))
  for axes, values, title in zip(
    panels,
    (inputs.d_y, result.d_x_hat),
    (
      "$\\partial\\ell/\\partial y_i$",
      "$\\partial\\ell/\\partial\\hat{x}_i = \\gamma\\,\\partial\\ell/\\partial y_i$",
    ),
    strict=False,
  ):
    axes.bar(examples, values[:, _FEATURE], 0.6, color=_VALUE)
    axes.set_title(title, fontsize=12.5)
  total = panels[2]
  for place, values, color, label in (
    (-1, result.d_x_direct[:, _FEATURE], _DIRECT, "direct"),
    (
      0,
      result.d_x_through_variance[:, _FEATURE],
      _THROUGH_VARIANCE,
      "through the variance $\\sigma_B^2$",
    ),
    (
      1,
      np.full(m, result.d_x_through_mean[_FEATURE]),
      _THROUGH_MEAN,
      "through the mean $\\mu_B$",
    ),
  ):
    total.bar(examples + 0.22 * place, values, 0.22, color=color, label=label)
  total.plot(examples, result.d_x[:, _FEATURE], "D", color="black", markersize=7, label="sum")
  total.set_title("$\\partial\\ell/\\partial x_i$ and its three parts", fontsize=12.5)
  for axes in panels:
    axes.axhline(0, color="black", linewidth=0.8)
    _finish(axes, m)
  panels[0].set_ylabel("gradient", fontsize=12.5)
  handles, labels = total.get_legend_handles_labels()
  handles, labels = handles[1:] + handles[:1], labels[1:] + labels[:1]  # the sum last
  figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=12.5)
  figure.suptitle("The gradient's way back: equations (1) to (4) of section 3", fontsize=14)


def _finish(axes: Axes, m: int) -> None:
  axes.set_xlabel("example", fontsize=12.5)
  axes.set_xlim(0.4, m + 0.6)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  axes.tick_params(labelsize=12)
  axes.grid(axis="y", alpha=0.3)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
