"""The figure of internal covariate shift that two reports have: mean, deviation, drift by layer."""

from collections.abc import Mapping, Sequence

import numpy as np

from speedpaper_jax.reports import drawing, heat_maps
from speedpaper_jax.reports.heat_maps import Quantity
from speedpaper_jax.run_directory import RunDirectory

NAME = "covariate_shift"
CAPTION = (
  "The inputs of every layer's nonlinearities against steps, on the same examples: their mean and "
  "standard deviation over the examples, averaged over the layer's features, and the drift: by how "
  "much of its standard deviation a feature's mean moves in one step of training, on average. "
  "Colours are the same for all networks."
)
# Without this a small drift would be taken for a discovery.
BY_CONSTRUCTION = (
  "The paper's section 1 calls internal covariate shift that the inputs of a layer change their "
  "distribution while the layers below learn. Here it is measured on the inputs of nonlinearities, "
  "before and after single steps of training, and batch normalization takes the statistics of the "
  "very examples that are looked at. A normalised feature then has the mean β and, but for ε, the "
  "standard deviation |γ| by construction, whatever the layers below do, and its mean drifts only "
  "as far as a step changes β. A smaller drift thus shows that batch normalization does what it is "
  "meant to do, and not that this is why training is faster."
)


def draw(
  directory: RunDirectory,
  arrays: Mapping[str, np.ndarray],
  networks: Sequence[str],
  labels: Mapping[int, str],
  height: float,
) -> None:
  """Draws `NAME`.

  Args:
    directory: of the run.
    arrays: `step` [T], and for each network `NAME/mean`, `NAME/std` and `NAME/drift` [T, layers].
    networks: to show, from the top.
    labels: of some layers, by their numbers from 0.
    height: of the figure, in inches.
  """
  quantities = [
    Quantity(label, {network: arrays[f"{network}/{name}"] for network in networks}, name == "mean")
    for name, label in (
      ("mean", "mean"),
      ("std", "standard deviation"),
      ("drift", "drift [deviations per step]"),
    )
  ]
  drawing.draw(
    directory,
    NAME,
    lambda figure: heat_maps.paint(figure, quantities, arrays["step"], labels),
    width=9,
    height=height,
  )
