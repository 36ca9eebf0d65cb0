"""One network trained on one data set, with checkpoints, and evaluations at intervals."""

import concurrent.futures
import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from speedpaper_jax.compilation import freed_memory
from speedpaper_jax.config import ranges
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.data.normalization import DEFAULT, Normalization
from speedpaper_jax.data.pipeline import train_batches
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.sources import Split
from speedpaper_jax.distributed import hosts, parallel
from speedpaper_jax.distributed.watchdog import Watchdog
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.inference import model_directory
from speedpaper_jax.inference.evaluation import Evaluator
from speedpaper_jax.inference.model_directory import Description, LoadedModel
from speedpaper_jax.models import registry
from speedpaper_jax.steps import build
from speedpaper_jax.steps.step import TrainState, make_train_step
from speedpaper_jax.storage import run_data, sessions
from speedpaper_jax.storage.checkpoint import Checkpoints
from speedpaper_jax.storage.resuming import Changes
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.sessions import Recorder
from speedpaper_jax.training import continuing, fine_tuning
from speedpaper_jax.training.loop import Loop, Plan, Window
from speedpaper_jax.training.profiling import Profiler, Steps
from speedpaper_jax.training.progress import Progress
from speedpaper_jax.training.throughput import Clock


def run(
  config: ml_collections.ConfigDict,
  directory: RunDirectory,
  profile: Steps | None = None,
  command: str = "",
) -> dict[str, Any]:
  """Trains, resuming from the directory's newest checkpoint, and evaluates.

  Every process of the run calls this with the same arguments.

  Args:
    config: see `config/defaults.py`.
    directory: of the run.
    profile: steps to trace, into `profile/` of the directory.
    command: to be given again to do this again, for the record.

  Returns:
    The summary: `steps`, `seconds` (of all sessions of the run) and `eval`; `best`, step and top-1
    of the best evaluation, where the config keeps its checkpoint; and `train`, as `eval` but on the
    training images, where the config asks for it.

  Raises:
    UserError: the config, the data or a checkpoint does not do.
    DivergenceError: the loss, the gradient or the parameters are not finite.
    Interrupted: a request to stop came; the state is saved.
  """
  ranges.check(config)
  config = build.resolve(config)
  parallel.check_can_compile()
  mesh = parallel.make_mesh()
  parallel.check_batch(mesh, config.batch_size, config.accumulation_steps)
  data, train_split, eval_split = run_data.open_data(config.data)
  durations = Durations(config.batch_size, len(train_split))
  model = build.build_model(config, train_split.num_classes, mesh)
  optimizer = build.build_optimizer(config, durations)
  augmentation = build.build_augmentation(config)
  # What is no length, and images or weights that do not fit the network, are refused before
  # anything is written.
  Plan.of(config, durations)
  template = build.state_template(config, model, optimizer, mesh)
  source = None
  if config.init_from and not hosts.from_main(directory.has_checkpoint):
    source = model_directory.load(pathlib.Path(config.init_from), mesh)
    fine_tuning.transfer(config, source, template, train_split.class_names)
  normalization = _normalization(config, directory, source)
  description = describe_model(config, train_split, normalization)
  preprocessing = description.preprocessing
  evaluator = Evaluator(config, mesh, preprocessing, eval_split, train_split)

  def start() -> Changes:
    changes = directory.start(config)
    sessions.check_checkpoints(directory)
    data.check(directory)
    return changes

  changes = hosts.from_main(start)

  with contextlib.closing(Checkpoints(directory.checkpoints, config.checkpoints_to_keep)) as saved:
    restored = saved.restore(template)
    if restored is None:
      state, train_step = _begin(
        config, model, optimizer, mesh, normalization, source, train_split.class_names
      )
      record: dict[str, Any] = {"seconds": 0.0}
    else:
      step, state, record = restored
      _check_is_of_a_run(directory, step)
      if hosts.is_main():
        _tell_of_other_replicas(config, record["devices"], mesh.size)
      durations = dataclasses.replace(
        durations, first_step=int(state.step), first_examples=int(state.examples)
      )
      # The schedule goes on where the run is in the data.
      optimizer = build.build_optimizer(config, durations)
      train_step = compile_step(config, model, optimizer, mesh, normalization)
    plan = Plan.of(config, durations)
    session = continuing.session_of(
      config, durations, changes, continuing.jump(config, changes, durations), command
    )
    recorder = Recorder(directory, session)
    evaluation, best = hosts.from_main(
      lambda: continuing.begin(
        config, directory, description, data, changes, session, recorder, plan.total_steps
      )
    )
    batches = train_batches(
      train_split,
      image_size=config.data.image_size,
      batch_size=config.batch_size,
      seed=config.seed,
      augmentation=augmentation,
      start=int(state.examples),
      host_index=jax.process_index(),
      host_count=jax.process_count(),
    )
    with (
      contextlib.closing(batches),
      contextlib.closing(
        Progress(
          directory if hosts.is_main() else None,
          durations.first_step,
          plan.total_steps,
          durations.epoch,
        )
      ) as progress,
      contextlib.closing(Profiler(profile, directory.path / "profile")) as profiler,
      contextlib.closing(Watchdog(hosts.patience())) as watchdog,
      recorder.ending(),
    ):
      loop = Loop(
        config,
        plan,
        mesh,
        train_step,
        evaluator,
        saved,
        progress,
        profiler,
        watchdog,
        Clock(record["seconds"]),
        recorder,
        build.build_schedule(config, durations),
        best,
        _window(record),
      )
      return loop.run(state, batches, evaluation)


def _begin(
  config: ml_collections.ConfigDict,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  normalization: Normalization,
  source: LoadedModel | None,
  class_names: Sequence[str],
) -> tuple[TrainState, Any]:
  """The first state, and the compiled step."""
  # Compiling takes longest and needs shapes only; initial weights are drawn meanwhile.
  executor = concurrent.futures.ThreadPoolExecutor(1)
  compiling = executor.submit(compile_step, config, model, optimizer, mesh, normalization)
  executor.shutdown(wait=False)  # takes no more, and lets errors out before it has finished
  state = build.initial_state(config, model, optimizer, mesh)
  if source is not None:
    taken = fine_tuning.transfer(config, source, state, class_names)
    state = TrainState.create(taken.variables, optimizer, with_average=config.average_decay > 0)
    state = parallel.replicate(mesh, state)
    print(f"starting from the weights in {config.init_from}{taken}", flush=True)
  return state, compiling.result()


def _window(record: Mapping[str, Any]) -> Window:
  """Of a checkpoint, the steps after the last line; earlier versions did not keep them."""
  return [
    {name: np.asarray(value, np.float32) for name, value in metrics.items()}
    for metrics in record.get("window", [])
  ]


def _check_is_of_a_run(directory: RunDirectory, step: int) -> None:
  if step == 0:
    raise UserError(
      f"'{directory.path}' holds converted weights, not a run that could go on; name it in "
      f"config.init_from, and another --workdir."
    )


def _tell_of_other_replicas(config: ml_collections.ConfigDict, before: int, now: int) -> None:
  if config.batch_norm.enabled and config.batch_norm.statistics == "replica" and before != now:
    warn(
      f"continuing on {now} devices, after {before}: with config.batch_norm.statistics='replica' "
      f"each normalises another number of images than before."
    )


def describe_model(
  config: ml_collections.ConfigDict, split: Split, normalization: Normalization
) -> Description:
  """What model.json says of a trained network."""
  return Description(
    name=config.model.name,
    dialect=config.model.dialect or registry.dialects(config.model.name)[0],
    num_classes=split.num_classes,
    class_names=split.class_names,
    preprocessing=Preprocessing(build.build_evaluation_crop(config), normalization),
    source=f"trained on {config.data.name}, split {config.data.train_split}",
  )


def _normalization(
  config: ml_collections.ConfigDict, directory: RunDirectory, source: LoadedModel | None
) -> Normalization:
  """That of the weights that training starts from, or has started from."""
  if source is not None:
    return source.description.preprocessing.normalization
  if config.init_from:
    description = model_directory.load_description(directory.path)
    return description.preprocessing.normalization
  return DEFAULT


def compile_step(
  config: ml_collections.ConfigDict,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  normalization: Normalization = DEFAULT,
) -> Any:
  """The training step, compiled for the shapes of state and batch."""
  step = make_train_step(
    model,
    optimizer,
    seed=config.seed,
    label_smoothing=config.label_smoothing,
    aux_weight=config.aux_weight,
    accumulation_steps=config.accumulation_steps,
    average_decay=config.average_decay,
    normalization=normalization,
    axis_name=parallel.axis_name(config.parallel),
  )
  size, rows = config.data.image_size, config.batch_size
  batch = {
    "image": jax.ShapeDtypeStruct((rows, size, size, 3), jnp.uint8),
    "label": jax.ShapeDtypeStruct((rows,), jnp.int32),
    "mask": jax.ShapeDtypeStruct((rows,), jnp.float32),
  }
  state = build.state_template(config, model, optimizer, mesh)
  compiled = parallel.jit_train_step(step, mesh, config.parallel).lower(state, batch).compile()
  freed_memory.give_back()
  return compiled
