"""The steps of a training run, and what happens between them."""

import collections
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from speedpaper_jax.compilation import freed_memory
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.distributed import hosts, parallel
from speedpaper_jax.distributed.interrupts import Interrupted
from speedpaper_jax.distributed.watchdog import Watchdog
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference.evaluation import Evaluator
from speedpaper_jax.steps import build
from speedpaper_jax.steps.step import TrainState
from speedpaper_jax.storage.checkpoint import Checkpoints
from speedpaper_jax.storage.sessions import Recorder
from speedpaper_jax.training.profiling import Profiler
from speedpaper_jax.training.progress import Progress, format_evaluation
from speedpaper_jax.training.throughput import Clock, Throughput

Evaluation = dict[str, float]
# The sums over the rows of each step since the last line.
Window = Sequence[Mapping[str, np.ndarray]]


class DivergenceError(UserError):
  """The loss, the gradient or the parameters are not finite.

  Attributes:
    step: the first one of which that is known.
  """

  def __init__(self, message: str, step: int) -> None:
    super().__init__(message)
    self.step = step


@dataclasses.dataclass(frozen=True)
class Interval:
  """Steps between what comes again and again.

  Attributes:
    steps: how many; 0 for never.
    offset: added to the number of a step, which may have had other batches before it.
  """

  steps: int
  offset: int = 0

  @classmethod
  def of(cls, durations: Durations, text: str, field: str) -> "Interval":
    """Reads a field of a config."""
    return cls(durations.whole_steps(text, field), round(durations.offset_of(text, field)))

  def due(self, step: int) -> bool:
    """Whether what has this interval comes after this step."""
    return self.steps > 0 and (step + self.offset) % self.steps == 0


@dataclasses.dataclass(frozen=True)
class Plan:
  """Length and intervals of a run.

  Attributes:
    total_steps: the last step of the run.
    log_every: between lines.
    eval_every: between evaluations.
    checkpoint_every: between checkpoints.
  """

  total_steps: int
  log_every: Interval
  eval_every: Interval
  checkpoint_every: Interval

  @classmethod
  def of(cls, config: ml_collections.ConfigDict, durations: Durations) -> "Plan":
    """Reads a training config."""
    return cls(
      total_steps=build.total_steps(config, durations),
      log_every=Interval.of(durations, config.log_every, "config.log_every"),
      eval_every=Interval.of(durations, config.eval_every, "config.eval_every"),
      checkpoint_every=Interval.of(durations, config.checkpoint_every, "config.checkpoint_every"),
    )


class Loop:
  """Takes the steps of a run in all its processes."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    plan: Plan,
    mesh: Mesh,
    train_step: Any,
    evaluator: Evaluator,
    saved: Checkpoints,
    progress: Progress,
    profiler: Profiler,
    watchdog: Watchdog,
    clock: Clock,
    session: Recorder,
    schedule: optax.Schedule,
    best: dict[str, Any] | None,
    window: Window,
  ) -> None:
    """Takes everything that outlives a step.

    Args:
      config: of the run.
      plan: of the run.
      mesh: the devices.
      train_step: compiled.
      evaluator: for held-out images.
      saved: the run's checkpoints.
      progress: shows and records.
      profiler: traces some of the steps.
      watchdog: is told what the loop does.
      clock: of the run.
      session: is told of the steps.
      schedule: the learning rate of each step, the first of which is 0.
      best: `step` and `top1` of the best evaluation of earlier sessions of the run.
      window: of an earlier session, the steps after its last line.
    """
    self._config = config
    self._plan = plan
    self._mesh = mesh
    self._train_step = train_step
    self._evaluator = evaluator
    self._saved = saved
    self._progress = progress
    self._profiler = profiler
    self._watchdog = watchdog
    self._clock = clock
    self._session = session
    self._schedule = schedule
    self._throughput = Throughput(train_step, config.batch_size, mesh.size, config.model.dtype)
    self._unread: collections.deque[tuple[int, Any]] = collections.deque()
    self._window = list(window)
    self._steps_of_before = len(window)
    self._last_evaluation_seconds = 0.0
    self._best = best
    self._saved.protect(best["step"] if best else None)

  def run(
    self, state: TrainState, batches: Iterator[Any], metrics: Evaluation | None
  ) -> dict[str, Any]:
    """Takes all steps that are left.

    Args:
      state: to begin with.
      batches: of this process, from the position of `state` on.
      metrics: the evaluation of `state`, if there is one.

    Returns:
      The summary of the run.

    Raises:
      DivergenceError: the loss, the gradient or the parameters are not finite.
      Interrupted: a request to stop came; the state is saved.
      UserError: a checkpoint could not be written.
    """
    plan = self._plan
    first_step = step = int(state.step)
    with hosts.stop_requests() as stop:
      ended = first_step >= plan.total_steps
      if metrics is None and first_step and (plan.eval_every.due(first_step) or ended):
        metrics = self._evaluate(first_step, state, stop)
      self._clock.start_window()
      for step in range(first_step + 1, plan.total_steps + 1):
        state = self._take(step, state, batches)
        stopping = stop.came(step)
        last = step == plan.total_steps or stopping is not None
        metrics = None
        if plan.checkpoint_every.due(step) or last:
          self._save(step, state)
        if stopping is not None:
          raise self._stopped(stopping)
        if plan.eval_every.due(step) or last:
          metrics = self._evaluate(step, state, stop)
      summary: dict[str, Any] = {"steps": step, "eval": metrics}
      if self._best is not None:
        summary["best"] = {name: self._best[name] for name in ("step", "top1")}
      if self._config.evaluate_training_images:
        evaluate = self._evaluator.on_training_images
        summary["train"] = self._run_evaluation(evaluate, step, state, stop)
        self._progress.say(f"training images: {format_evaluation(summary['train'])}")
      self._watchdog.rest()
      # Before signals end the process at once again: the last checkpoint may still be on its way.
      self._saved.close()
    return summary | {"seconds": hosts.from_main(self._clock.total_seconds)}

  def _take(self, step: int, state: TrainState, batches: Iterator[Any]) -> TrainState:
    """One step; its metrics are read after the next one has been started."""
    self._watchdog.doing(f"waiting for the images of step {step}", for_data=True)
    with self._clock.data_wait():
      rows = next(batches)
    self._watchdog.doing(f"in step {step}, in which all processes wait for each other")
    self._profiler.before(step)
    state, metrics = self._train_step(state, parallel.shard_batch(self._mesh, rows))
    self._unread.append((step, metrics))
    # One step late, so that the device already has its next step when Python waits for it.
    self._read_metrics(keep=1)
    if self._profiler.ends_with(step):
      self._read_metrics(keep=0)
      with self._clock.pause():
        self._progress.say(self._profiler.stop())
    self._progress.advance()
    return state

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
      if self._plan.log_every.due(step) or step == self._plan.total_steps:
        self._log(step)

  def _log(self, step: int) -> None:
    self._saved.check()
    seconds, data_wait_seconds = self._clock.window()
    sums = {name: float(np.sum([m[name] for m in self._window])) for name in self._window[0]}
    steps, count = len(self._window), max(sums["count"], 1)
    timed_steps = steps - self._steps_of_before
    left = self._plan.total_steps - step
    eval_every = self._plan.eval_every.steps
    evaluations = left // eval_every + 1 if eval_every else 1
    self._progress.train(
      step,
      {
        "loss": sums["loss"] / count,
        "top1": sums["top1"] / count,
        "top5": sums["top5"] / count,
        "gradient_norm": sums["gradient_norm"] / steps,
        "learning_rate": float(self._schedule(step - 1)),
        **self._throughput.metrics(timed_steps, seconds, data_wait_seconds),
        "seconds": self._clock.total_seconds(),
      },
      eta_seconds=left * seconds / timed_steps + evaluations * self._last_evaluation_seconds,
    )
    self._session.reached(step)
    self._window = []
    self._steps_of_before = 0
    self._clock.start_window()

  def _save(self, step: int, state: TrainState) -> None:
    """Saves once all steps up to this one, and what they have come to, are known to be finite."""
    self._read_metrics(keep=0)
    self._watchdog.doing(f"saving the checkpoint of step {step}")
    with self._clock.pause():
      # A finite gradient can still be a step too far.
      trained = jax.device_get((state.params, state.batch_stats))
      if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained)):
        raise self._diverged(f"The parameters are not finite after step {step}", step)
      record = {
        "seconds": self._clock.total_seconds(),
        "devices": self._mesh.size,
        # So that the next line is over the same steps, whether the run is interrupted or not.
        "window": [{name: float(value) for name, value in m.items()} for m in self._window],
      }
      self._saved.save(step, state, record)
      self._session.reached(step)
      freed_memory.give_back()  # a long run would grow

  def _evaluate(self, step: int, state: TrainState, stop: hosts.StopRequests) -> Evaluation:
    self._read_metrics(keep=0)
    began = time.monotonic()
    with self._clock.pause():
      metrics = self._run_evaluation(self._evaluator, step, state, stop)
    self._last_evaluation_seconds = time.monotonic() - began
    self._progress.evaluation(step, metrics)
    if self._config.keep_best and (self._best is None or metrics["top1"] > self._best["top1"]):
      self._best = {"step": step, **metrics}
      self._saved.protect(step)
      self._save(step, state)
    return metrics

  def _run_evaluation(
    self,
    evaluate: Callable[..., Evaluation],
    step: int,
    state: TrainState,
    stop: hosts.StopRequests,
  ) -> Evaluation:
    """Evaluates, unless a request to stop comes: there may be no time for the rest of the images.

    It is made up for when the run goes on.
    """
    self._watchdog.rest()  # the first time it compiles; from its first batch on it is watched

    def on_batch() -> None:
      self._watchdog.doing(f"evaluating after step {step}")
      if (stopping := stop.came(step)) is not None:
        self._save(step, state)
        raise self._stopped(stopping)

    return evaluate(state.evaluated, on_batch)

  def _diverged(self, what: str, step: int) -> DivergenceError:
    with contextlib.suppress(UserError):  # one thing at a time
      self._saved.wait()
    newest = hosts.from_main(self._saved.newest)
    kept = f"The checkpoint of step {newest} is kept" if newest else "Nothing was saved before"
    return DivergenceError(
      f"{what}. {kept}; lower config.optimizer.learning_rate or set config.optimizer.clip_norm.",
      step,
    )

  def _stopped(self, interrupted: Interrupted) -> Interrupted:
    """Says so only when the checkpoint is on disk."""
    self._saved.close()
    return interrupted
