"""The runs of a sweep: their names, and what can be read off their curves of held-out accuracy."""

import dataclasses
from collections.abc import Sequence

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules
from speedpaper_jax.storage.run_directory import RunDirectory

_SUMMARY: rules.Rules = {
  "train": rules.IfPresent({"top1": rules.FRACTION}),
  "diverged_at": rules.IfPresent(rules.STEP),
}


@dataclasses.dataclass(frozen=True)
class LearningCurve:
  """Evaluations of one run on held-out images.

  Attributes:
    steps: of training before each evaluation, rising.
    top1: accuracy in each, as a fraction.
    loss: cross-entropy in each, in nats.
    train_top1: accuracy on the training images after the last step, as a fraction; None where it
      was not asked for, or the run diverged.
    diverged_at: the step at which the loss, the gradient or the parameters were found not to be
      finite; None if they stayed finite.
  """

  steps: Sequence[int]
  top1: Sequence[float]
  loss: Sequence[float]
  train_top1: float | None
  diverged_at: int | None

  @property
  def best_top1(self) -> float:
    """The highest accuracy, Figure 3's "max accuracy"; zero where there was no evaluation."""
    return max(self.top1, default=0.0)

  @property
  def final_top1(self) -> float:
    """Accuracy at the end of training; zero for a run that diverged."""
    return self.top1[-1] if self.top1 and self.diverged_at is None else 0.0

  def steps_to(self, target: float) -> float | None:
    """Steps until the accuracy is `target` for the first time, or None if it never is.

    Between two evaluations the curve is a straight line; it begins at zero.
    """
    step_before, top1_before = 0, 0.0
    for step, top1 in zip(self.steps, self.top1, strict=True):
      if top1 >= target:
        if top1 == top1_before:
          return float(step_before)
        fraction = (target - top1_before) / (top1 - top1_before)
        return step_before + fraction * (step - step_before)
      step_before, top1_before = step, top1
    return None


def arm_name(network: str, value: float) -> str:
  """Of a network at one value of a factor; a config's keys have no dots."""
  return f"{network}-{value:g}".replace(".", "_")


def switched_arm(network: str, switch: str) -> str:
  """Of a network "with" something, or "without" it."""
  return f"{network}-{switch}"


def run_name(arm: str, rate_factor: float, seed: int) -> str:
  """Of the run of an arm with one learning rate and one seed."""
  return f"{arm}-rate_x{rate_factor:.3g}-seed_{seed}"


def seed_name(arm: str, seed: int) -> str:
  """Of the run of an arm that has one learning rate."""
  return f"{arm}-seed_{seed}"


def run_directory(directory: RunDirectory, name: str) -> RunDirectory:
  """Where one run of a sweep is."""
  return RunDirectory(directory.path / "runs" / name)


def read(directory: RunDirectory, name: str) -> LearningCurve:
  """The curve of a run of a sweep that has its summary.

  Raises:
    UserError: the summary is missing or damaged.
  """
  run = run_directory(directory, name)
  summary = run.read("summary.json")
  try:
    rules.check(summary, _SUMMARY)
  except UserError as error:
    raise UserError(f"{run.path / 'summary.json'} is damaged: {error}") from error
  evaluations = [
    entry
    for entry in run.metrics()
    if entry["split"] == "eval" and {"top1", "loss"} <= entry.keys()
  ]
  return LearningCurve(
    steps=[entry["step"] for entry in evaluations],
    top1=[entry["top1"] for entry in evaluations],
    loss=[entry["loss"] for entry in evaluations],
    train_top1=summary.get("train", {}).get("top1"),
    diverged_at=summary.get("diverged_at"),
  )
