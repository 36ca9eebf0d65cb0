"""Signals that come to a run in the middle."""

import os
import signal

from speedpaper_jax.training.progress import Progress


def interrupt_at(monkeypatch, step):
  """A signal comes while the line of a step is shown."""
  show = Progress.train

  def show_and_interrupt(self, shown_step, *arguments, **named):
    show(self, shown_step, *arguments, **named)
    if shown_step == step:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Progress, "train", show_and_interrupt)
