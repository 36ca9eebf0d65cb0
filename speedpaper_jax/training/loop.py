"""The steps of a training run, and what happens between them."""

import collections
import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from speedpaper_jax.compilation import freed_memory
from speedpaper_jax.descriptions.operations import training_flops
from speedpaper_jax.distributed import hosts, parallel
from speedpaper_jax.distributed.interrupts import Interrupted
from speedpaper_jax.distributed.watchdog import Watchdog
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference.evaluation import Answers, Evaluator
from speedpaper_jax.steps.assembly import Assembly
from speedpaper_jax.steps.step import TrainState
from speedpaper_jax.storage import undecodable
from speedpaper_jax.storage.checkpoint import Checkpoints
from speedpaper_jax.storage.sessions import Recorder
from speedpaper_jax.training.profiling import Profiler
from speedpaper_jax.training.progress import Progress, format_evaluation
from speedpaper_jax.training.throughput import Clock, Throughput
from speedpaper_jax.training.undecodable import UndecodableImages

Evaluation = dict[str, float]
Result = TypeVar("Result")


class DivergenceError(UserError):
  """The loss, the gradient or the parameters are not finite.

  Attributes:
    step: the first one of which that is known.
  """

  def __init__(self, message: str, step: int) -> None:
    super().__init__(message)
    self.step = step


@dataclasses.dataclass
class Loop:
  """Takes the steps of a run in all its processes.

  Attributes:
    parts: of the run.
    train_step: compiled.
    evaluator: for held-out images.
    undecodable: the training images that cannot be decoded.
    saved: the run's checkpoints.
    progress: shows and records.
    profiler: traces some of the steps.
    watchdog: is notified of what the loop does.
    clock: of the run.
    session: records the steps.
    best: `step` and `top1` of the best evaluation of earlier sessions of the run.
    window: the metrics of the steps after the last line, sums over their rows.
    record: keeps the step and the answers to held-out images.
  """

  parts: Assembly
  train_step: Any
  evaluator: Evaluator
  undecodable: UndecodableImages
  saved: Checkpoints
  progress: Progress
  profiler: Profiler
  watchdog: Watchdog
  clock: Clock
  session: Recorder
  best: dict[str, Any] | None
  window: list[Mapping[str, np.ndarray]]
  record: Callable[[int, Answers], None]

  def __post_init__(self) -> None:
    config, mesh = self.parts.config, self.parts.mesh
    self._throughput = Throughput(
      self.train_step,
      functools.partial(training_flops, self.parts.model, config.data.image_size),
      config.batch_size,
      mesh.size,
      config.model.dtype,
    )
    self._unread: collections.deque[tuple[int, Any]] = collections.deque()
    self._steps_of_before = len(self.window)
    self._last_evaluation_seconds = 0.0
    self.saved.protect(self.best["step"] if self.best else None)

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
      Interrupted: a stop was requested; the state is saved.
      UserError: a checkpoint could not be written, or too many images cannot be decoded.
    """
    plan = self.parts.plan
    first_step = step = int(state.step)
    with hosts.stop_requests() as stop:
      ended = first_step >= plan.total_steps
      if metrics is None and first_step and (plan.eval_every.due(first_step) or ended):
        metrics = self._evaluate(first_step, state, stop)
      self.clock.start_window()
      for step in range(first_step + 1, plan.total_steps + 1):
        state = self._step(step, state, batches)
        stopping = stop.requested(f"step {step}")
        last = step == plan.total_steps or stopping is not None
        metrics = None
        if plan.checkpoint_every.due(step) or last:
          self._save(step, state)
        if stopping is not None:
          raise self._stopped(stopping)
        if plan.eval_every.due(step) or last:
          metrics = self._evaluate(step, state, stop)
      summary: dict[str, Any] = {"steps": step, "eval": metrics}
      if self.best is not None:
        summary["best"] = {name: self.best[name] for name in ("step", "top1")}
      if self.parts.config.evaluate_training_images:
        evaluate = self.evaluator.on_training_images
        summary["train"] = self._run_evaluation(evaluate, step, state, stop)
        self.progress.print(f"training images: {format_evaluation(summary['train'])}")
      if self.parts.config.evaluate_ten_crops:
        evaluate = self.evaluator.on_ten_crops
        summary["ten_crops"] = self._run_evaluation(evaluate, step, state, stop)
        self.progress.print(f"ten crops: {format_evaluation(summary['ten_crops'])}")
      if self.parts.config.record_answers:
        self.record(step, self._run_evaluation(self.evaluator.answers, step, state, stop))
      self.watchdog.pause()
      # Before signals end the process at once again: the last checkpoint may still be on its way.
      self.saved.close()
    return summary | {"seconds": hosts.from_main(self.clock.total_seconds)}

  def _step(self, step: int, state: TrainState, batches: Iterator[Any]) -> TrainState:
    """One step; its metrics are read after the next one has been started."""
    self.watchdog.doing(f"waiting for the images of step {step}", for_data=True)
    with self.clock.data_wait():
      rows = next(batches)
    self.undecodable.note(step, rows["mask"])
    self.watchdog.doing(f"in step {step}, in which all processes wait for each other")
    self.profiler.before(step)
    state, metrics = self.train_step(state, parallel.shard_batch(self.parts.mesh, rows))
    self._unread.append((step, metrics))
    # One step late, so that the device already has its next step when Python waits for it.
    self._read_metrics(keep=1)
    if self.profiler.ends_with(step):
      self._read_metrics(keep=0)
      with self.clock.pause():
        self.progress.print(self.profiler.stop())
    self.progress.advance()
    return state

  def _read_metrics(self, keep: int) -> None:
    """Waits for all but the last `keep` steps, and logs where it is due."""
    while len(self._unread) > keep:
      step, on_device = self._unread.popleft()
      metrics = dict(jax.device_get(on_device))
      loss = metrics["loss"] / max(metrics["count"], 1)
      if not math.isfinite(loss):
        raise self._diverged(f"The loss is {loss} at step {step}", step)
      if not math.isfinite(metrics["gradient_norm"]):
        raise self._diverged(f"The gradient is not finite at step {step}", step)
      # What is padded with zeros is no row of training: those that do not count have no image.
      metrics["left_out"] = self.parts.config.batch_size - metrics["count"]
      if (too_many := self.undecodable.too_many(step, int(metrics["left_out"]))) is not None:
        raise self._ended(too_many)
      self.window.append(metrics)
      if self.parts.plan.log_every.due(step) or step == self.parts.plan.total_steps:
        self._log(step)

  def _log(self, step: int) -> None:
    self.saved.check()
    seconds, data_wait_seconds = self.clock.window()
    sums = {name: float(np.sum([m[name] for m in self.window])) for name in self.window[0]}
    steps, count = len(self.window), sums["count"] or math.nan  # where no image could be decoded
    timed_steps = steps - self._steps_of_before
    left = self.parts.plan.total_steps - step
    eval_every = self.parts.plan.eval_every.steps
    evaluations = left // eval_every + 1 if eval_every else 1
    self.undecodable.record(step)
    self.progress.train(
      step,
      {
        "loss": sums["loss"] / count,
        "top1": sums["top1"] / count,
        "top5": sums["top5"] / count,
        "gradient_norm": sums["gradient_norm"] / steps,
        "learning_rate": float(self.parts.schedule(step - 1)),
        "left_out": int(sums["left_out"]),
        "undecodable_images": self.undecodable.number,
        **self._throughput.metrics(timed_steps, seconds, data_wait_seconds),
        "seconds": self.clock.total_seconds(),
      },
      eta_seconds=left * seconds / timed_steps + evaluations * self._last_evaluation_seconds,
    )
    self.session.reached(step)
    self.window = []
    self._steps_of_before = 0
    self.clock.start_window()

  def _save(self, step: int, state: TrainState) -> None:
    """Saves once all steps up to this one, and their parameters, are known to be finite."""
    self._read_metrics(keep=0)
    self.undecodable.record(step)
    self.watchdog.doing(f"saving the checkpoint of step {step}")
    with self.clock.pause():
      # A finite gradient can still be a step too far.
      trained = jax.device_get((state.params, state.batch_stats))
      if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained)):
        raise self._diverged(f"The parameters are not finite after step {step}", step)
      record = {
        "seconds": self.clock.total_seconds(),
        "devices": self.parts.mesh.size,
        # So that the next line is over the same steps, whether the run is interrupted or not.
        "window": [{name: float(value) for name, value in m.items()} for m in self.window],
      }
      self.saved.save(step, state, record)
      self.session.reached(step)
      freed_memory.give_back()  # a long run would grow

  def _evaluate(self, step: int, state: TrainState, stop: hosts.StopRequests) -> Evaluation:
    self._read_metrics(keep=0)
    began = time.monotonic()
    with self.clock.pause():
      metrics = self._run_evaluation(self.evaluator, step, state, stop)
    self._last_evaluation_seconds = time.monotonic() - began
    self.progress.evaluation(step, metrics)
    if self.parts.config.keep_best and (self.best is None or metrics["top1"] > self.best["top1"]):
      self.best = {"step": step, **metrics}
      self.saved.protect(step)
      self._save(step, state)
    return metrics

  def _run_evaluation(
    self,
    evaluate: Callable[..., Result],
    step: int,
    state: TrainState,
    stop: hosts.StopRequests,
  ) -> Result:
    """Evaluates, unless a stop is requested: there may be no time for the other images.

    It is repeated when the run resumes.
    """
    self.watchdog.pause()  # the first time it compiles; from its first batch on it is watched

    def on_batch() -> None:
      self.watchdog.doing(f"evaluating after step {step}")
      if (stopping := stop.requested(f"step {step}")) is not None:
        self._save(step, state)
        raise self._stopped(stopping)

    return evaluate(state.evaluated, on_batch)

  def _diverged(self, what: str, step: int) -> DivergenceError:
    newest = self._newest_checkpoint()
    kept = f"The checkpoint of step {newest} is kept" if newest else "Nothing was saved before"
    return DivergenceError(
      f"{what}. {kept}; lower config.optimizer.learning_rate or set config.optimizer.clip_norm.",
      step,
    )

  def _ended(self, too_many: str) -> UserError:
    newest = self._newest_checkpoint()
    goes_on = f"goes on from the checkpoint of step {newest}" if newest else "begins anew"
    return UserError(
      f"{too_many}; mend them or the disk ({undecodable.NAME} names them) and give the same "
      f"command again, which {goes_on}, or allow a larger share."
    )

  def _newest_checkpoint(self) -> int | None:
    with contextlib.suppress(UserError):  # one thing at a time
      self.saved.wait()
    newest: int | None = hosts.from_main(self.saved.newest)
    return newest

  def _stopped(self, interrupted: Interrupted) -> Interrupted:
    """Says so only when the checkpoint is on disk."""
    self.saved.close()
    return interrupted
