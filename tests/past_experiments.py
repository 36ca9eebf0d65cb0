"""Directories of experiments with small networks that have ended, without any training."""

import numpy as np
import past_runs
from commands import ROOT

from speedpaper_jax.config import files as config_files
from speedpaper_jax.storage.run_directory import RunDirectory


def write(path, name, arrays, summary, *, arguments="", **changes):
  """Writes a run of `configs/NAME.py`; in `changes` of the config, `__` stands for a dot."""
  config = config_files.load(f"{ROOT}/configs/{name}.py:{arguments}")
  config.update_from_flattened_dict({key.replace("__", "."): changes[key] for key in changes})
  directory = RunDirectory(path)
  directory.start(config)
  directory.write_arrays(arrays)
  directory.write("summary.json", {"experiment": name, **summary, **past_runs.PROVENANCE})
  return directory


def bn_fc(path, losses, outputs=None, layers=3, **changes):
  """A fit in as many epochs as there are losses, the first of which is before training."""
  generator = np.random.default_rng(0)
  x = np.linspace(-7, 10, 20)
  y = x**2 - 5 + generator.normal(0, 2, x.shape)
  epochs = len(losses["with"])
  arrays = {"train_x": x, "train_y": y, "test_x": x, "test_y": y}
  for network in ("without", "with"):
    inputs = generator.normal(0, 1, (epochs, layers, 2 * len(x)))
    arrays[f"{network}/inputs"] = inputs
    arrays[f"{network}/activations"] = np.maximum(inputs, 0)
    arrays[f"{network}/outputs"] = np.tile(x**2, (epochs, 1))
    arrays[f"{network}/test_loss"] = np.array(losses[network])
  arrays |= outputs or {}
  summary = {
    "steps": 32 * (epochs - 1),
    "seconds": 12.0,
    "test_variance": float(np.var(y)),
    "networks": {name: {"test_loss": losses[name][-1]} for name in losses},
  }
  return write(path, "bn_fc", arrays, summary, epochs=epochs - 1, hidden_layers=layers, **changes)


def classification(path, name, networks, layers, summary, steps, accuracies, **changes):
  """`mnist_bn` or `covariate_shift`; `accuracies` are by network, one for each of `steps`."""
  generator = np.random.default_rng(0)
  arrays = {"step": np.array(steps)}
  for network in networks:
    shape = (len(steps), layers)
    arrays[f"{network}/top1"] = np.array(accuracies[network])
    arrays[f"{network}/mean"] = generator.normal(0, 1, shape)
    arrays[f"{network}/std"] = generator.uniform(0.5, 2, shape)
    for drift in ("drift", "unnormalized_drift"):
      arrays[f"{network}/{drift}"] = 10 ** generator.uniform(-8, 0, shape)
    if name == "mnist_bn":
      values = generator.normal(0, 1, (len(steps), 3, 5))
      arrays[f"{network}/percentiles"] = np.sort(values, axis=1)
  summary = {"steps": steps[-1], "seconds": 60.0, **summary}
  return write(path, name, arrays, summary, **changes)


def replace(directory, **arrays):
  """Puts other arrays in the place of a run's; in their names `__` stands for a slash."""
  changed = {name.replace("__", "/"): array for name, array in arrays.items()}
  directory.write_arrays(directory.read_arrays() | changed)


def spoil(directory, *names):
  """Makes some numbers of arrays NaN and others infinite."""
  arrays = directory.read_arrays()
  for name in names:
    array = np.array(arrays[name], np.float64)
    array.flat[::2] = np.nan
    array.flat[1::4] = np.inf
    arrays[name] = array
  directory.write_arrays(arrays)


def figures(directory):
  """The names of the figures, each of which is there for both grounds."""
  names = {path.name.removesuffix(".png") for path in directory.plots.iterdir()}
  light = {name for name in names if not name.endswith(".dark")}
  assert names == light | {f"{name}.dark" for name in light}
  return light


def parts(page, kind):
  """The figures or the tables of a page."""
  return [part for section in page.sections for part in section.parts if isinstance(part, kind)]


def paragraphs(page):
  """All of them as one text."""
  return " ".join(text for section in page.sections for text in section.paragraphs)
