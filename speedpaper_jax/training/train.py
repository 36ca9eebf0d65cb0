"""One network trained on one data set, with checkpoints, and evaluations at intervals."""

import concurrent.futures
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.data.pipeline import train_batches
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.sources import Split
from speedpaper_jax.distributed import hosts, parallel
from speedpaper_jax.distributed.watchdog import Watchdog
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.inference import model_directory, recorded_answers
from speedpaper_jax.inference.evaluation import Evaluator
from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription
from speedpaper_jax.interop import published
from speedpaper_jax.models import registry
from speedpaper_jax.papers import expected_accuracies
from speedpaper_jax.papers.expected_accuracies import Expectation
from speedpaper_jax.steps import assembly, build
from speedpaper_jax.steps.assembly import Assembly
from speedpaper_jax.steps.step import TrainState
from speedpaper_jax.storage import run_data, sessions
from speedpaper_jax.storage.checkpoint import Checkpoints
from speedpaper_jax.storage.resuming import Changes
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.sessions import Recorder
from speedpaper_jax.training import continuing, fine_tuning
from speedpaper_jax.training.loop import Loop
from speedpaper_jax.training.profiling import Profiler
from speedpaper_jax.training.progress import Progress
from speedpaper_jax.training.throughput import Clock
from speedpaper_jax.training.traced_steps import Steps
from speedpaper_jax.training.undecodable import UndecodableImages


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
    of the best evaluation, where the config keeps its checkpoint; and where the config asks for
    them `train`, as `eval` but on the training images, and `ten_crops`.

  Raises:
    UserError: the config, the data or a checkpoint is not valid.
    DivergenceError: the loss, the gradient or the parameters are not finite.
    Interrupted: a stop was requested; the state is saved.
  """
  config, mesh = assembly.prepare(config)
  config.decay_batch_size = hosts.from_main(lambda: continuing.decay_batch_size(config, directory))
  config.gradient_sum_dtype = hosts.from_main(
    lambda: continuing.gradient_sum_dtype(config, directory)
  )
  data, train_split, eval_split = run_data.open_data(config.data)
  # What is no length, and images or weights that do not fit the network, are refused before
  # anything is written.
  parts = assembly.assemble(
    config, mesh, train_split.num_classes, len(train_split), train_split.class_counts()
  )
  source = _load_source(parts, directory, train_split)
  description = describe_model(config, train_split, _normalization(config, directory, source))
  evaluator = Evaluator(
    build.build_inference_model(config, eval_split.num_classes, mesh),
    config,
    mesh,
    description.preprocessing,
    eval_split,
    train_split,
  )
  changes = hosts.from_main(lambda: _start(directory, config, data))
  with contextlib.ExitStack() as until_end:
    saved = Checkpoints(directory.checkpoints, config.checkpoints_to_keep)
    until_end.enter_context(contextlib.closing(saved))
    parts, state, train_step, record = _initialize_or_restore(
      parts, directory, saved, description, source
    )
    session = continuing.session_of(parts, changes, command)
    recorder = Recorder(directory, session)
    evaluation, best = hosts.from_main(
      lambda: continuing.begin(parts, directory, description, data, session, recorder)
    )
    batches = train_batches(
      train_split,
      image_size=config.data.image_size,
      batch_size=config.batch_size,
      seed=config.seed,
      augmentation=build.build_augmentation(config),
      distort_on_device=parts.distorts_images,
      start=int(state.examples),
      host_index=jax.process_index(),
      host_count=jax.process_count(),
    )
    until_end.enter_context(contextlib.closing(batches))
    loop = Loop(
      parts,
      train_step,
      evaluator,
      UndecodableImages(
        train_split,
        config,
        parts.durations,
        parts.plan.total_steps,
        directory if hosts.is_main() else None,
      ),
      saved,
      progress=Progress(
        directory if hosts.is_main() else None,
        session.first_step,
        parts.plan.total_steps,
        parts.durations.epoch,
        _expected(config),
      ),
      profiler=Profiler(profile, directory.path / "profile"),
      watchdog=Watchdog(hosts.patience()),
      clock=Clock(record.get("seconds", 0.0)),
      session=recorder,
      best=best,
      window=_window(record),
      record=lambda step, answers: hosts.from_main(
        lambda: recorded_answers.record(
          directory, step, answers, eval_split, description.preprocessing.crop
        )
      ),
    )
    for part in (loop.progress, loop.profiler, loop.watchdog):
      until_end.enter_context(contextlib.closing(part))
    until_end.enter_context(recorder.ending())
    return loop.run(state, batches, evaluation)


def _expected(config: ml_collections.ConfigDict) -> Expectation | None:
  """The published accuracy that is shown beside the run's, if there is one."""
  return expected_accuracies.find(config.expected_curve) if config.expected_curve else None


def _load_source(
  parts: Assembly, directory: RunDirectory, train_split: Split
) -> LoadedModel | None:
  """The weights to start from, if the run is to start from such; they fit the network."""
  init_from = parts.config.init_from
  if not init_from or hosts.from_main(directory.has_checkpoint):
    return None
  path = hosts.in_all(lambda: published.model_directory(init_from))
  source = model_directory.load(path, parts.mesh)
  fine_tuning.transfer(parts.config, source, parts.state_template, train_split.class_names)
  return source


def _start(
  directory: RunDirectory, config: ml_collections.ConfigDict, data: run_data.RunData
) -> Changes:
  """Refuses what may not go on in the directory; returns the changes of the config."""
  changes = directory.start(config)
  sessions.check_checkpoints(directory)
  data.check(directory)
  return changes


def _initialize_or_restore(
  parts: Assembly,
  directory: RunDirectory,
  saved: Checkpoints,
  description: ModelDescription,
  source: LoadedModel | None,
) -> tuple[Assembly, TrainState, Any, Mapping[str, Any]]:
  """The state to take steps from, the compiled step, and what the checkpoint has besides."""
  normalization = description.preprocessing.normalization
  restored = saved.restore(parts.state_template)
  if restored is None:
    state, train_step = _initialize(parts, normalization, source, description.class_names)
    return parts, state, train_step, {}
  step, state, record = restored
  _check_is_of_a_run(directory, step)
  if hosts.is_main():
    _warn_of_other_replicas(parts.config, record["devices"], parts.mesh.size)
  parts = parts.continued_from(state)
  return parts, state, assembly.compile_step(parts, normalization), record


def _initialize(
  parts: Assembly,
  normalization: Normalization,
  source: LoadedModel | None,
  class_names: Sequence[str],
) -> tuple[TrainState, Any]:
  """The first state, and the compiled step."""
  # Compiling takes longest and needs shapes only; initial weights are drawn meanwhile.
  executor = concurrent.futures.ThreadPoolExecutor(1)
  compiling = executor.submit(assembly.compile_step, parts, normalization)
  executor.shutdown(wait=False)  # takes no more, and lets errors out before it has finished
  state = parts.initial_state()
  if source is not None:
    config = parts.config
    taken = fine_tuning.transfer(config, source, state, class_names)
    with_average = config.average_decay > 0
    state = TrainState.create(taken.variables, parts.optimizer, with_average)
    state = parallel.replicate(parts.mesh, state)
    print(f"starting from the weights in {config.init_from}{taken}", flush=True)
  return state, compiling.result()


def _window(record: Mapping[str, Any]) -> list[Mapping[str, np.ndarray]]:
  """Of a checkpoint, the steps after the last line; earlier versions kept less, or none."""
  return [
    {name: np.asarray(value, np.float32) for name, value in {"left_out": 0, **metrics}.items()}
    for metrics in record.get("window", [])
  ]


def _check_is_of_a_run(directory: RunDirectory, step: int) -> None:
  if step == 0:
    raise UserError(
      f"'{directory.path}' holds converted weights, not a run that could go on; name it in "
      f"config.init_from, and another --workdir."
    )


def _warn_of_other_replicas(config: ml_collections.ConfigDict, before: int, now: int) -> None:
  if config.batch_norm.enabled and config.batch_norm.statistics == "replica" and before != now:
    warn(
      f"continuing on {now} devices, after {before}: with config.batch_norm.statistics='replica' "
      f"each normalises another number of images than before."
    )


def describe_model(
  config: ml_collections.ConfigDict, split: Split, normalization: Normalization
) -> ModelDescription:
  """What model.json says of a trained network."""
  return ModelDescription(
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
  """That of the weights that training starts from, or has started from; else the config's.

  Raises:
    UserError: the config asks for another input than these weights have learned on.
  """
  if not config.init_from:
    return build.build_normalization(config)
  if source is not None:
    description = source.description
  else:
    description = model_directory.load_description(directory.path)
  normalization = description.preprocessing.normalization
  if config.data.per_image_whitening and not normalization.per_image_whitening:
    raise UserError(
      f"config.data.per_image_whitening=True is not the input of the weights in "
      f"config.init_from='{config.init_from}', which the run takes over; leave it False."
    )
  return normalization
