"""What auxiliary heads do to the gradients of the layers before them, and to the accuracy."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from speedpaper_jax.config import ranges
from speedpaper_jax.data.pipeline import train_batches
from speedpaper_jax.data.sources import Split
from speedpaper_jax.distributed import hosts, parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import layer_gradients, measured_runs
from speedpaper_jax.experiments.layer_gradients import LayerGradient
from speedpaper_jax.experiments.measured_runs import MeasuredRun
from speedpaper_jax.files.rules import Rule
from speedpaper_jax.inference import model_directory
from speedpaper_jax.inference.evaluation import divisible_batch_size
from speedpaper_jax.steps import assembly, build
from speedpaper_jax.steps.step import Batch
from speedpaper_jax.storage import run_data
from speedpaper_jax.storage.learning_curves import switched_arm
from speedpaper_jax.storage.run_directory import RunDirectory

WITHOUT, WITH = "without", "with"
# Names of the networks' modules begin so, but for the stem's and the softmax layer's.
_INCEPTION_MODULES = ("inception", "mixed")
# The main head's loss alone, and that which training minimises.
MAIN, WHOLE = "main", "whole"

# What the fields of configs/aux_heads.py may be.
RULES: Mapping[str, Rule] = measured_runs.RULES


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains each network without and with its heads, and measures its gradients on the way.

  Args:
    config: of configs/aux_heads.py. Each network has an arm "NAME-without" and an arm "NAME-with".
    directory: of the comparison.

  Returns:
    The summary: what `measured_runs.train` says of all runs together, `chance`, and what `compare`
    returns of each of the `networks`.
    arrays.npz has for each network the steps after which it was measured, `NAME/step` [T]; and of
    the networks with heads, `NAME/with/main` and `NAME/with/whole`, and without, `NAME/without`,
    the norm of the gradient of each module [seeds, T, modules]. NaN is what a run that diverged
    has not come to.

  Raises:
    UserError: see `measured_runs.train`; or the arms are no such pairs.
  """
  ranges.check_fields(config, RULES, "aux_heads")
  names = _networks(config)
  measured_runs.check(config)
  _check_pairs(config, names)
  trained, totals = measured_runs.train(config, directory, measure)
  arrays: dict[str, np.ndarray] = {}
  networks = {}
  for name in names:
    without, with_heads = (trained[switched_arm(name, heads)] for heads in (WITHOUT, WITH))
    networks[name], of_network = compare(without, with_heads)
    arrays |= {f"{name}/{key}": array for key, array in of_network.items()}
  hosts.from_main(lambda: directory.write_arrays(arrays))
  return {**totals, "chance": 1 / totals["num_classes"], "networks": networks}


def measure(config: ml_collections.ConfigDict, run: RunDirectory) -> dict[str, Any]:
  """Norms of the gradient at the first weights and at each checkpoint, on one training batch.

  Args:
    config: of the run.
    run: its directory.

  Returns:
    `step` [T], the `modules` from the input on, and for the losses "main" and "whole" the norms of
    their gradients [T][modules].
  """
  config = config.copy_and_resolve_references()
  config.parallel = "jit"
  config, mesh = assembly.prepare(config)
  _, split, _ = run_data.open_data(config.data)
  parts = assembly.assemble(
    config, mesh, split.num_classes, len(split), class_counts=split.class_counts()
  )
  batch = _batch(config, split, mesh)
  weights = {MAIN: 0.0, WHOLE: config.aux_weight}
  measures = {
    loss: layer_gradients.make_measurement(
      parts.model, mesh, aux_weight=weight, label_smoothing=config.label_smoothing
    )
    for loss, weight in weights.items()
  }
  found: dict[str, list[Mapping[str, LayerGradient]]] = {loss: [] for loss in measures}
  steps = [0, *hosts.from_main(run.saved_steps)]
  for step in steps:
    if step == 0:
      state = parts.initial_state()
      variables = {"params": state.params, "batch_stats": state.batch_stats}
    else:
      variables = model_directory.load(run.path, mesh, step, averaged=False).variables
    for loss, of_loss in measures.items():
      found[loss].append(layer_gradients.by_module(of_loss(variables, batch)))
  return {
    "step": steps,
    "modules": list(found[MAIN][0]),
    **{
      loss: [[gradient.norm for gradient in modules.values()] for modules in by_step]
      for loss, by_step in found.items()
    },
  }


def _batch(config: ml_collections.ConfigDict, split: Split, mesh: Mesh) -> Batch:
  """Training images, the same for all networks and seeds; as many as evaluation takes at a time."""
  batches = train_batches(
    split,
    image_size=config.data.image_size,
    batch_size=divisible_batch_size(config.eval_batch_size, mesh),
    seed=0,
    augmentation=build.build_augmentation(config),
    host_index=jax.process_index(),
    host_count=jax.process_count(),
  )
  with contextlib.closing(batches):
    return parallel.shard_batch(mesh, next(batches))


def compare(
  without: Sequence[MeasuredRun], with_heads: Sequence[MeasuredRun]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """What the heads of one network do.

  Args:
    without: its runs without heads, by seed.
    with_heads: with them, with the same seeds.

  Returns:
    For the summary the network's `modules`, and the `stem`, those of them that come before the
    first Inception module; the `steps` after which it was measured; at each of them the
    `stem_factor`, by which the heads' losses change the norm of the gradient of the stem in the
    network that has them, the geometric mean over the seeds, None where no run came so far; and
    under "without" and "with", by seed, `best_top1`, `final_top1` and `diverged_at`.
    And the network's arrays, see `run`.
  """
  longest = max((*without, *with_heads), key=lambda each: len(each.measured["step"])).measured
  modules, steps = longest["modules"], longest["step"]
  arrays = {
    "step": np.array(steps, np.int64),
    f"{WITHOUT}": _stack(without, WHOLE, len(steps)),
    f"{WITH}/{MAIN}": _stack(with_heads, MAIN, len(steps)),
    f"{WITH}/{WHOLE}": _stack(with_heads, WHOLE, len(steps)),
  }
  stem = list(itertools.takewhile(lambda name: not name.startswith(_INCEPTION_MODULES), modules))
  main, whole = (
    np.linalg.norm(arrays[f"{WITH}/{loss}"][..., : len(stem)], axis=-1) for loss in (MAIN, WHOLE)
  )
  return {
    "modules": modules,
    "stem": stem,
    "steps": steps,
    "stem_factor": [_geometric_mean(ratios) for ratios in (whole / main).T],
    **{
      heads: {
        "best_top1": [each.curve.best_top1 for each in runs],
        "final_top1": [each.curve.final_top1 for each in runs],
        "diverged_at": [each.curve.diverged_at for each in runs],
      }
      for heads, runs in {WITHOUT: without, WITH: with_heads}.items()
    },
  }, arrays


def _stack(runs: Sequence[MeasuredRun], loss: str, steps: int) -> np.ndarray:
  """[seeds, steps, modules], with NaN for what a run has not come to."""
  stacked = np.full((len(runs), steps, len(runs[0].measured["modules"])), np.nan)
  for number, each in enumerate(runs):
    norms = np.array(each.measured[loss], np.float64)  # where it was not finite, None is NaN
    stacked[number, : len(norms)] = norms
  return stacked


def _geometric_mean(ratios: np.ndarray) -> float | None:
  valid = ratios[np.isfinite(ratios) & (ratios > 0)]
  return float(np.exp(np.mean(np.log(valid)))) if valid.size else None


def _networks(config: ml_collections.ConfigDict) -> list[str]:
  """The networks that have an arm with heads, or without."""
  ends = [switched_arm("", heads) for heads in (WITHOUT, WITH)]
  return list(
    dict.fromkeys(arm.removesuffix(end) for arm in config.arms for end in ends if arm.endswith(end))
  )


def _check_pairs(config: ml_collections.ConfigDict, names: Sequence[str]) -> None:
  if config.base.init_from:
    raise UserError(
      f"config.base.init_from is '{config.base.init_from}', but gradients are looked at from the "
      "first weights of a seed on; leave it empty."
    )
  pairs = [switched_arm(name, heads) for name in names for heads in (WITHOUT, WITH)]
  for arm in dict.fromkeys((*pairs, *config.arms)):
    if arm not in config.arms or arm not in pairs:
      raise UserError(
        f"The arms are {', '.join(config.arms)}; each network needs two, 'NAME-without' and "
        "'NAME-with'."
      )
    heads = measured_runs.run_config(config, arm, config.seeds[0]).model.aux_heads
    if heads != arm.endswith(switched_arm("", WITH)):
      raise UserError(
        f"The arm '{arm}' has model.aux_heads={heads}, which is not what its name says."
      )
