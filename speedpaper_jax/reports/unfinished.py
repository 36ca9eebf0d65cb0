"""A training run that has not ended, in its report: how far it has come."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from speedpaper_jax.errors import UserError
from speedpaper_jax.reports import evaluations
from speedpaper_jax.reports.quantities import percent
from speedpaper_jax.storage import sessions
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.sessions import Session


def so_far(directory: RunDirectory, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What summary.json would have.

  Raises:
    UserError: no step has been recorded.
  """
  if not entries:
    raise UserError(
      f"The run in '{directory.path}' has recorded no step yet; its first line is that of "
      f"config.log_every."
    )
  summary: dict[str, Any] = {
    "steps": max(entry["step"] for entry in entries),
    "seconds": max((entry.get("seconds", 0.0) for entry in entries), default=0.0),
  }
  known = [entry for entry in evaluations.whole(entries) if "count" in entry]
  if known:
    summary["eval"] = known[-1]
  return summary


def counted_sessions(directory: RunDirectory, steps: int) -> list[Session]:
  """The sessions of a run that count.

  The one that goes on may have come farther than when its last checkpoint was written.

  Args:
    directory: of the run.
    steps: that it has come to.
  """
  known = sessions.read(directory)
  if known and not known[-1].end:
    known[-1] = dataclasses.replace(known[-1], last_step=max(known[-1].last_step, steps))
  return sessions.that_count(known)


def result(
  config: Mapping[str, Any], summary: Mapping[str, Any], counted: Sequence[Session]
) -> str:
  """How far it has come, in a sentence or two."""
  steps = summary["steps"]
  epoch = f", epoch {counted[-1].epochs(steps):.2f}" if counted else ""
  beginning = (
    f"This run has not ended: it is to train for {config['duration']}, and has come to step "
    f"{steps:,}{epoch}."
  )
  metrics = summary.get("eval")
  if metrics is None:
    return f"{beginning} There is no evaluation yet."
  return (
    f"{beginning} Top-1 accuracy on {metrics['count']:,} held-out images was "
    f"{percent(metrics['top1'])}, top-5 {percent(metrics['top5'])}, after step "
    f"{metrics['step']:,}."
  )


def last_end(counted: Sequence[Session]) -> list[str]:
  """How its last session ended, where that is known."""
  if counted and counted[-1].end:
    return [f"Its last session ended: {counted[-1].end}"]
  return []
