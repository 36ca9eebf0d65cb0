"""The figure of internal covariate shift that two reports have: mean, deviation, drift by layer."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from speedpaper_jax.reports import drawing, heat_maps
from speedpaper_jax.reports.heat_maps import Quantity
from speedpaper_jax.storage.run_directory import RunDirectory

NAME = "covariate_shift"
CAPTION = (
  "The inputs of every layer's nonlinearities against steps, on the same examples: their mean and "
  "standard deviation over the examples, averaged over the layer's features; their drift, which is "
  "by how much of its standard deviation a feature's mean moves in one step of training, on "
  "average; and the same drift before normalization, of Wu. Without batch normalization there is "
  "nothing in between. The colours of a column mean the same for all networks, and those of both "
  "drifts too."
)
# Without this a small drift would be taken for a discovery.
BY_CONSTRUCTION = (
  "The paper's section 1 calls internal covariate shift that the inputs of a layer change their "
  "distribution while the layers below learn. Here it is measured before and after single steps of "
  "training, and batch normalization takes the statistics of the very examples that are looked "
  "at. A normalised feature then has the mean β and, but for ε, the standard deviation |γ| by "
  "construction, whatever the layers below do, and its mean drifts only as far as a step changes "
  "β. What the layers below do shows in the drift before normalization. That the one after it is "
  "small says that batch normalization does what it is meant to do, and not that this is why "
  "training is faster."
)

_DRIFTS = ("drift", "unnormalized_drift")


def axes(networks: Collection[str]) -> dict[str, str]:
  """Of the arrays, as `contents.read_arrays` takes them: T measurements, L layers."""
  of_networks = {f"{network}/top1": "T" for network in networks}
  for network in networks:
    of_networks |= {f"{network}/{name}": "TL" for name in ("mean", "std", *_DRIFTS)}
  return {"step": "T", **of_networks}


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
    arrays: `step` [T], and for each network `NAME/mean`, `NAME/std`, `NAME/drift` and
      `NAME/unnormalized_drift` [T, layers].
    networks: to show, from the top.
    labels: of some layers, by their numbers from 0.
    height: of the figure, in inches.
  """
  values = {
    name: {network: arrays[f"{network}/{name}"] for network in networks}
    for name in ("mean", "std", *_DRIFTS)
  }
  drifts = heat_maps.logarithmic_scale(array for name in _DRIFTS for array in values[name].values())
  unit = "[deviations per step]"
  quantities = [
    Quantity("mean", values["mean"], heat_maps.signed_scale(values["mean"].values())),
    Quantity(
      "standard deviation", values["std"], heat_maps.logarithmic_scale(values["std"].values())
    ),
    Quantity(f"drift\n{unit}", values["drift"], drifts),
    Quantity(f"drift before BN\n{unit}", values["unnormalized_drift"], drifts),
  ]
  drawing.draw(
    directory,
    NAME,
    lambda figure: heat_maps.paint(figure, quantities, arrays["step"], labels),
    width=10.5,
    height=height,
  )
