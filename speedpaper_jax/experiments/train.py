"""One network trained on one data set, with checkpoints, and evaluations at intervals."""

import concurrent.futures
import contextlib
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from speedpaper_jax import build, fine_tuning, hosts, model_directory, parallel, ranges, run_data
from speedpaper_jax.checkpoint import Checkpoints
from speedpaper_jax.data.pipeline import train_batches
from speedpaper_jax.data.sources import Split
from speedpaper_jax.durations import Durations
from speedpaper_jax.errors import warn
from speedpaper_jax.evaluation import Evaluator
from speedpaper_jax.experiments.loop import Loop, Plan
from speedpaper_jax.model_directory import Description, LoadedModel
from speedpaper_jax.models import registry
from speedpaper_jax.normalization import DEFAULT, Normalization
from speedpaper_jax.preprocessing import Preprocessing
from speedpaper_jax.profiling import Profiler, Steps
from speedpaper_jax.progress import Progress
from speedpaper_jax.run_directory import RunDirectory
from speedpaper_jax.step import TrainState, make_train_step
from speedpaper_jax.throughput import Clock
from speedpaper_jax.watchdog import Watchdog


def run(
  config: ml_collections.ConfigDict, directory: RunDirectory, profile: Steps | None = None
) -> dict[str, Any]:
  """Trains, resuming from the directory's newest checkpoint, and evaluates.

  Every process of the run calls this with the same arguments.

  Args:
    config: see `experiments/defaults.py`.
    directory: of the run.
    profile: steps to trace, into `profile/` of the directory.

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
  mesh = parallel.make_mesh()
  parallel.check_batch(mesh, config.batch_size, config.accumulation_steps)
  data, train_split, eval_split = run_data.open_data(config.data)
  durations = Durations(config.batch_size, len(train_split))
  plan = Plan.of(config, durations)
  model = build.build_model(config, train_split.num_classes, mesh)
  optimizer = build.build_optimizer(config, durations)
  augmentation = build.build_augmentation(config)
  # Images or weights that do not fit the network are refused before anything is written.
  template = build.state_template(config, model, optimizer, mesh)
  source = None
  if config.init_from and not hosts.from_main(directory.has_checkpoint):
    source = model_directory.load(pathlib.Path(config.init_from), mesh)
    fine_tuning.transfer(config, source, template, train_split.class_names)
  normalization = _normalization(config, directory, source)
  description = describe_model(config, train_split, normalization)
  preprocessing = description.preprocessing
  evaluator = Evaluator(config, mesh, preprocessing, eval_split, train_split)

  def start() -> None:
    for name in directory.start(config):
      warn(f"continuing with another config.{name} than the run began with.")
    data.check(directory)
    directory.write("model.json", description.to_json())

  hosts.from_main(start)

  with contextlib.closing(Checkpoints(directory.checkpoints, config.checkpoints_to_keep)) as saved:
    # Compiling takes longest and needs shapes only; initial weights are drawn meanwhile.
    executor = concurrent.futures.ThreadPoolExecutor(1)
    compiling = executor.submit(compile_step, config, model, optimizer, mesh, normalization)
    executor.shutdown(wait=False)  # takes no more, and lets errors out before it has finished
    state = build.initial_state(config, model, optimizer, mesh)
    restored = saved.restore(state)
    seconds = 0.0
    if restored is not None:
      _, state, record = restored
      seconds = record["seconds"]
      if hosts.is_main():
        _tell_of_other_replicas(config, record["devices"], mesh.size)
    elif source is not None:
      taken = fine_tuning.transfer(config, source, state, train_split.class_names)
      state = TrainState.create(taken.variables, optimizer, with_average=config.average_decay > 0)
      state = parallel.replicate(mesh, state)
      print(f"starting from the weights in {config.init_from}{taken}", flush=True)
    train_step = compiling.result()
    first_step = int(state.step)

    def resume() -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
      directory.save_config(config)
      data.save(directory, first_step)
      directory.forget_metrics_after(first_step)
      if first_step:
        print(f"resuming after step {first_step}", flush=True)
      best = directory.best_evaluation() if config.keep_best else None
      return directory.evaluation(first_step), best

    evaluation, best = hosts.from_main(resume)
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
          first_step,
          plan.total_steps,
          durations.steps("1 epochs", ""),
        )
      ) as progress,
      contextlib.closing(Profiler(profile, directory.path / "profile")) as profiler,
      contextlib.closing(Watchdog(hosts.patience())) as watchdog,
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
        Clock(seconds),
        best,
      )
      return loop.run(state, batches, evaluation)


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
  return parallel.jit_train_step(step, mesh, config.parallel).lower(state, batch).compile()
