"""The horizontal axis of training steps."""

import matplotlib.axes
from matplotlib.ticker import MaxNLocator


def label_steps(axes: matplotlib.axes.Axes, most_ticks: int = 6) -> None:
  """Round numbers with thousands separators."""
  axes.xaxis.set_major_locator(MaxNLocator(most_ticks - 1, integer=True, steps=[1, 2, 5, 10]))
  axes.xaxis.set_major_formatter("{x:,.0f}")
  axes.set_xlabel("step")
