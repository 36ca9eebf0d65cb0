"""The training loop: one network, one data set, checkpoints, evaluation at intervals."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from speedpaper_jax import build, fine_tuning, model_directory, parallel, ranges
from speedpaper_jax.checkpoint import Checkpoints
from speedpaper_jax.data.pipeline import train_batches
from speedpaper_jax.data.sources import Split, open_split
from speedpaper_jax.durations import Durations
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.evaluation import Evaluator
from speedpaper_jax.interrupts import Interrupted, StopSignal
from speedpaper_jax.model_directory import Description, LoadedModel
from speedpaper_jax.models import registry
from speedpaper_jax.normalization import DEFAULT, Normalization
from speedpaper_jax.preprocessing import Preprocessing
from speedpaper_jax.progress import Progress, format_evaluation
from speedpaper_jax.run_directory import RunDirectory
from speedpaper_jax.step import TrainState, make_train_step


class DivergenceError(UserError):
  """The loss, the gradient or the parameters are not finite.

  Attributes:
    step: the first one of which that is known.
  """

  def __init__(self, message: str, step: int) -> None:
    super().__init__(message)
    self.step = step


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains, resuming from the directory's newest checkpoint, and evaluates.

  Args:
    config: see `experiments/defaults.py`.
    directory: of the run.

  Returns:
    The summary: `steps`, `seconds` (of all sessions of the run) and `eval`; and `train`, the same
    on the training images, where the config asks for it.

  Raises:
    UserError: the config, the data or a checkpoint does not do.
    DivergenceError: the loss, the gradient or the parameters are not finite.
    Interrupted: SIGINT or SIGTERM came; the state is saved.
  """
  ranges.check(config)
  mesh = parallel.make_mesh()
  parallel.check_batch(mesh, config.batch_size, config.accumulation_steps)
  train_split = open_split(config.data.name, config.data.train_split, config.data.dir)
  eval_split = open_split(config.data.name, config.data.eval_split, config.data.dir)
  durations = Durations(config.batch_size, len(train_split))
  plan = _Plan.of(config, durations)
  model = build.build_model(config, train_split.num_classes, mesh)
  optimizer = build.build_optimizer(config, durations)
  augmentation = build.build_augmentation(config)
  # Images or weights that do not fit the network are refused before anything is written.
  template = build.state_template(config, model, optimizer, mesh)
  source = None
  if config.init_from and not directory.has_checkpoint():
    source = model_directory.load(pathlib.Path(config.init_from), mesh)
    fine_tuning.transfer(config, source, template, train_split.num_classes)
  normalization = _normalization(config, directory, source)
  description = describe_model(config, train_split, normalization)
  preprocessing = description.preprocessing
  evaluator = Evaluator(config, mesh, preprocessing, eval_split, train_split)

  for name in directory.start(config):
    warn(f"continuing with another config.{name} than the run began with.")
  directory.write("model.json", description.to_json())

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
    elif source is not None:
      variables, new = fine_tuning.transfer(config, source, state, train_split.num_classes)
      state = TrainState.create(variables, optimizer, with_average=config.average_decay > 0)
      state = parallel.replicate(mesh, state)
      except_for = f", except for {', '.join(new)}" if new else ""
      print(f"starting from the weights in {config.init_from}{except_for}", flush=True)
    directory.save_config(config)
    train_step = compiling.result()
    first_step = int(state.step)
    directory.forget_metrics_after(first_step)
    if first_step:
      print(f"resuming after step {first_step}", flush=True)
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
    progress = Progress(directory, first_step, plan.total_steps, durations.steps("1 epochs", ""))
    with contextlib.closing(batches), contextlib.closing(progress):
      loop = _Loop(config, plan, mesh, train_step, evaluator, saved, progress, seconds)
      return loop.run(state, batches, directory.evaluation(first_step))


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
    return model_directory.load_description(directory.path).preprocessing.normalization
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


@dataclasses.dataclass(frozen=True)
class _Plan:
  """Lengths and intervals of a run, in steps; an interval of 0 is never."""

  total_steps: int
  log_every: int
  eval_every: int
  checkpoint_every: int

  @classmethod
  def of(cls, config: ml_collections.ConfigDict, durations: Durations) -> "_Plan":
    return cls(
      total_steps=build.total_steps(config, durations),
      log_every=durations.whole_steps(config.log_every, "config.log_every"),
      eval_every=durations.whole_steps(config.eval_every, "config.eval_every"),
      checkpoint_every=durations.whole_steps(config.checkpoint_every, "config.checkpoint_every"),
    )

  @staticmethod
  def due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


class _Loop:
  """Steps, with what happens between them."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    plan: _Plan,
    mesh: Mesh,
    train_step: Any,
    evaluator: Evaluator,
    saved: Checkpoints,
    progress: Progress,
    seconds_before: float,
  ) -> None:
    self._config = config
    self._plan = plan
    self._mesh = mesh
    self._train_step = train_step
    self._evaluator = evaluator
    self._saved = saved
    self._progress = progress
    self._clock = _Clock(seconds_before)
    self._unread: collections.deque[tuple[int, Any]] = collections.deque()
    self._window: list[dict[str, np.ndarray]] = []
    self._last_evaluation_seconds = 0.0
    self._last_saved_step = 0

  def run(
    self, state: TrainState, batches: Iterator[Any], metrics: dict[str, float] | None
  ) -> dict[str, Any]:
    """Takes all steps that are left; `metrics` is the evaluation of `state`, if there is one."""
    plan = self._plan
    first_step = step = self._last_saved_step = int(state.step)
    with StopSignal() as stop:
      ended = first_step >= plan.total_steps
      if metrics is None and first_step and (plan.due(first_step, plan.eval_every) or ended):
        metrics = self._evaluate(first_step, state)
      self._clock.start_window()
      for step in range(first_step + 1, plan.total_steps + 1):
        batch = parallel.shard_batch(self._mesh, next(batches))
        state, step_metrics = self._train_step(state, batch)
        self._unread.append((step, step_metrics))
        # One step late, so that the device already has its next step when Python waits for it.
        self._read_metrics(keep=1)
        self._progress.advance()
        last = step == plan.total_steps or stop.number is not None
        metrics = None
        if plan.due(step, plan.checkpoint_every) or last:
          self._save(step, state)
        if stop.number is not None:
          raise self._interrupted(stop.number, step)
        if plan.due(step, plan.eval_every) or last:
          metrics = self._evaluate(step, state)
          if stop.number is not None:
            self._save(step, state)
            raise self._interrupted(stop.number, step)
      summary: dict[str, Any] = {"steps": step, "eval": metrics}
      if self._config.evaluate_training_images:
        summary["train"] = self._evaluator.on_training_images(state.evaluated)
        self._progress.say(f"training images: {format_evaluation(summary['train'])}")
        if stop.number is not None:
          raise self._interrupted(stop.number, step)
      # Before signals end the process at once again: the last checkpoint may still be on its way.
      self._saved.close()
    return summary | {"seconds": self._clock.total_seconds()}

  def _read_metrics(self, keep: int) -> None:
    """Waits for all but the last `keep` steps, and logs where it is due."""
    while len(self._unread) > keep:
      step, on_device = self._unread.popleft()
      metrics = jax.device_get(on_device)
      loss = metrics["loss"] / max(metrics["count"], 1)
      if not math.isfinite(loss):
        raise self._diverged(f"The loss is {loss} at step {step}", step)
      if not math.isfinite(metrics["gradient_norm"]):
        raise self._diverged(f"The gradient is not finite at step {step}", step)
      self._window.append(metrics)
      if self._plan.due(step, self._plan.log_every) or step == self._plan.total_steps:
        self._log(step)

  def _log(self, step: int) -> None:
    seconds = self._clock.end_window()
    sums = {name: float(np.sum([m[name] for m in self._window])) for name in self._window[0]}
    steps, count = len(self._window), max(sums["count"], 1)
    left = self._plan.total_steps - step
    evaluations = left // self._plan.eval_every + 1 if self._plan.eval_every else 1
    self._progress.train(
      step,
      {
        "loss": sums["loss"] / count,
        "top1": sums["top1"] / count,
        "top5": sums["top5"] / count,
        "gradient_norm": sums["gradient_norm"] / steps,
        "images_per_second": steps * self._config.batch_size / seconds,
        "seconds": self._clock.total_seconds(),
      },
      eta_seconds=left * seconds / steps + evaluations * self._last_evaluation_seconds,
    )
    self._window = []
    self._clock.start_window()

  def _save(self, step: int, state: TrainState) -> None:
    """Saves once all steps up to this one, and what they have come to, are known to be finite."""
    self._read_metrics(keep=0)
    with self._clock.pause():
      # A finite gradient can still be a step too far.
      trained = jax.device_get((state.params, state.batch_stats))
      if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained)):
        raise self._diverged(f"The parameters are not finite after step {step}", step)
      self._saved.save(step, state, {"seconds": self._clock.total_seconds()})
      self._last_saved_step = step

  def _evaluate(self, step: int, state: TrainState) -> dict[str, float]:
    self._read_metrics(keep=0)
    began = time.monotonic()
    with self._clock.pause():
      metrics = self._evaluator(state.evaluated)
    self._last_evaluation_seconds = time.monotonic() - began
    self._progress.evaluation(step, metrics)
    return metrics

  def _diverged(self, what: str, step: int) -> DivergenceError:
    kept = (
      f"The checkpoint of step {self._last_saved_step} is kept"
      if self._last_saved_step
      else "Nothing was saved before"
    )
    return DivergenceError(
      f"{what}. {kept}; lower config.optimizer.learning_rate or set config.optimizer.clip_norm.",
      step,
    )

  def _interrupted(self, signal_number: int, step: int) -> Interrupted:
    self._saved.close()
    return Interrupted(signal_number, step)


class _Clock:
  """Time in all, and time of training alone in windows between log lines."""

  def __init__(self, seconds_before: float) -> None:
    self._began = time.monotonic() - seconds_before
    self._window_began = self._began

  def total_seconds(self) -> float:
    return time.monotonic() - self._began

  def start_window(self) -> None:
    self._window_began = time.monotonic()

  def end_window(self) -> float:
    return time.monotonic() - self._window_began

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """What happens inside does not count to the window."""
    began = time.monotonic()
    yield
    self._window_began += time.monotonic() - began
