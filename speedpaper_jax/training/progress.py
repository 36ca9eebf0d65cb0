"""What a training run shows and records while it goes on."""

import os
import pathlib
import sys
import time
from collections.abc import Callable

import tqdm
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from speedpaper_jax.papers.expected_accuracies import Expectation
from speedpaper_jax.storage.run_directory import RunDirectory

_SHOWN_DATA_WAIT = 0.1  # of the time of a step


class Progress:
  """A progress bar on a terminal, plain lines elsewhere; metrics go to the run's files."""

  def __init__(
    self,
    directory: RunDirectory | None,
    first_step: int,
    total_steps: int,
    epoch: Callable[[int], float],
    expected: Expectation | None = None,
  ) -> None:
    """Opens the bar and the files.

    Args:
      directory: of the run; None where another process of the run records.
      first_step: steps taken before.
      total_steps: steps of the whole run.
      epoch: how many epochs have passed after a step.
      expected: of the held-out images; None where nothing is known.

    Raises:
      UserError: the directory cannot be written; so do `train` and `evaluation`.
    """
    self._directory = directory
    self._total = total_steps
    self._epoch = epoch
    self._expected = expected
    self._events: EventWriter | None = None
    if directory is not None:
      with directory.writing():
        self._events = EventWriter(directory.tensorboard, first_step)
    self._bar = None
    # On a terminal that does not know its size tqdm shows nothing at all.
    if sys.stdout.isatty() and 0 not in os.get_terminal_size(sys.stdout.fileno()):
      self._bar = tqdm.tqdm(
        total=total_steps,
        initial=first_step,
        unit="step",
        file=sys.stdout,
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}",
      )
    if expected is not None:
      first, last = expected.curve.positions[[0, -1]]
      self.print(f"expected, from epoch {first:.0f} to {last:.0f}: {expected.source}")

  def advance(self) -> None:
    """One step is done."""
    if self._bar is not None:
      self._bar.update()

  def train(self, step: int, metrics: dict[str, float], eta_seconds: float) -> None:
    """Shows and records the training metrics of the steps since the last call.

    Args:
      step: the last of them.
      metrics: `loss`, `top1` (fraction), `images_per_second` (evaluations and checkpoints not
        counted), `mfu` (fraction) where it is known, `step_seconds` and `data_wait_seconds`,
        `left_out` (rows without an image), and others that are only recorded.
      eta_seconds: until the end of training, evaluations included.
    """
    self._record(step, "train", metrics)
    shown = (
      f"loss {metrics['loss']:.4f}  top1 {metrics['top1']:.1%}  {_speed(metrics)}  "
      f"ETA {format_seconds(eta_seconds)}"
    )
    if self._bar is not None:
      self._bar.set_postfix_str(shown)
    else:
      width = len(str(self._total))
      place = f"step {step:{width}d}/{self._total}  epoch {self._epoch(step):.1f}"
      print(f"{place}  {shown}", flush=True)

  def evaluation(self, step: int, metrics: dict[str, float]) -> None:
    """Shows and records an evaluation, and shows what is expected of it."""
    self._record(step, "eval", metrics)
    line = f"step {step}  evaluation: {format_evaluation(metrics)}"
    self.print(line + self._beside_the_expected(step, metrics["top1"]))

  def print(self, line: str) -> None:
    """Prints a line, above the bar where there is one."""
    if self._bar is not None:
      self._bar.write(line, file=sys.stdout)
    else:
      print(line, flush=True)

  def close(self) -> None:
    """Ends the bar and the files."""
    if self._bar is not None:
      self._bar.close()
    if self._events is not None:
      self._events.close()

  def _beside_the_expected(self, step: int, top1: float) -> str:
    """`  expected at epoch 30.0: 70.60%, this is 0.48% below`; nothing where none is known."""
    epoch = self._epoch(step)
    expected = None if self._expected is None else self._expected.curve.at(epoch)
    if expected is None:
      return ""
    far = f"{abs(top1 - expected):.2%} {'above' if top1 >= expected else 'below'}"
    return f"  expected at epoch {epoch:.1f}: {expected:.2%}, this is {far}"

  def _record(self, step: int, split: str, metrics: dict[str, float]) -> None:
    if self._directory is not None and self._events is not None:
      self._directory.append_metrics({"step": step, "split": split, **metrics})
      with self._directory.writing():
        self._events.write(step, {f"{split}/{name}": value for name, value in metrics.items()})


class EventWriter:
  """Scalars as TensorBoard events, without importing TensorFlow.

  TensorBoard's own `EventFileWriter` imports TensorFlow where it is installed, and tensorboardX
  imports PyTorch; TensorBoard's record format and messages need neither.
  """

  def __init__(self, directory: pathlib.Path, first_step: int) -> None:
    """Opens a new event file, which takes the place of older ones from `first_step` on."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
    self._file = path.open("wb")
    self._writer = RecordWriter(self._file)
    self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(event_pb2.Event(wall_time=time.time(), step=first_step + 1, session_log=start))

  def write(self, step: int, scalars: dict[str, float]) -> None:
    """Writes one event with a value for each name."""
    values = [
      summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()
    ]
    summary = summary_pb2.Summary(value=values)
    self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

  def close(self) -> None:
    """Closes the file."""
    self._writer.close()

  def _write(self, event: event_pb2.Event) -> None:
    self._writer.write(event.SerializeToString())
    self._writer.flush()


def _speed(metrics: dict[str, float]) -> str:
  """`123 images/s  MFU 31%  41% waiting for data  3 images left out`; the last two if need be."""
  parts = [f"{metrics['images_per_second']:.0f} images/s"]
  if "mfu" in metrics:
    parts.append(f"MFU {metrics['mfu']:.0%}")
  waiting = metrics["data_wait_seconds"] / metrics["step_seconds"]
  if waiting >= _SHOWN_DATA_WAIT:
    parts.append(f"{waiting:.0%} waiting for data")
  if metrics["left_out"]:
    parts.append(f"{metrics['left_out']:,} images left out")
  return "  ".join(parts)


def format_evaluation(metrics: dict[str, float]) -> str:
  """`top1 98.3 %  top5 100.0 %  loss 0.0712  (360 images)`; there may be no loss."""
  loss = f"loss {metrics['loss']:.4f}  " if "loss" in metrics else ""
  return (
    f"top1 {metrics['top1']:.2%}  top5 {metrics['top5']:.2%}  {loss}({metrics['count']} images)"
  )


def format_seconds(seconds: float) -> str:
  """`1:23:45` or `3:07`."""
  return tqdm.tqdm.format_interval(seconds)
