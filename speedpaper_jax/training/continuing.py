"""The start of a training run that may be resumed: what it prints, and the files it writes."""

import math
from collections.abc import Sequence
from typing import Any

import ml_collections

from speedpaper_jax.compilation import determinism
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.inference.model_directory import ModelDescription
from speedpaper_jax.steps import build
from speedpaper_jax.steps.assembly import Assembly
from speedpaper_jax.storage import provenance, resuming, sessions, undecodable
from speedpaper_jax.storage.resuming import Changes
from speedpaper_jax.storage.run_data import RunData
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.sessions import Recorder, Session

# Of its value, a learning rate differs by less where the same is computed in another way.
_SAME_RATE = 1e-5


def decay_batch_size(config: ml_collections.ConfigDict, directory: RunDirectory) -> int:
  """That of the config; but 0 of a run that began with it, as all of earlier versions did.

  A recipe's would change the decays of such a run in its midst, if it has another batch.

  Args:
    config: of the run.
    directory: of the run, which may not be there yet.
  """
  here: int = config.decay_batch_size
  if not (directory.path / "config.json").exists():
    return here
  if directory.read_config().get("decay_batch_size") != 0:
    return here
  if here not in (0, config.batch_size):
    print(
      f"config.decay_batch_size stays 0 in place of {here}: the run began with decays that do not "
      f"follow the batch",
      flush=True,
    )
  return 0


def gradient_sum_dtype(config: ml_collections.ConfigDict, directory: RunDirectory) -> str:
  """That of the config; but bfloat16 of a run that began with it, as earlier versions' under `jit`.

  Args:
    config: of the run.
    directory: of the run, which may not be there yet.
  """
  here: str = config.gradient_sum_dtype
  if config.model.dtype != "bfloat16" or not (directory.path / "config.json").exists():
    return here
  if directory.read_config().get("gradient_sum_dtype") != "bfloat16":
    return here
  if here != "bfloat16":
    print(
      f"config.gradient_sum_dtype stays bfloat16 in place of {here}: the run began with it",
      flush=True,
    )
  return "bfloat16"


def session_of(parts: Assembly, changes: Changes, command: str) -> Session:
  """What is known of a session at its start.

  Args:
    parts: of the run, with what was trained before.
    changes: of the config, against the session before.
    command: that began it.
  """
  durations = parts.durations
  return Session(
    command=command,
    devices=provenance.machine()["devices"],
    deterministic=determinism.is_on(),
    duration=parts.config.duration,
    batch_size=durations.batch_size,
    epoch_size=durations.epoch_size,
    first_step=durations.first_step,
    first_examples=durations.first_examples,
    last_step=durations.first_step,
    changes=changes,
    learning_rates=jump(parts.config, changes, durations) or (),
  )


def jump(
  config: ml_collections.ConfigDict, changes: Changes, durations: Durations
) -> tuple[float, float] | None:
  """The learning rates of the next step before and after the changes; None where they are equal.

  Args:
    config: of the run.
    changes: of it, against the session before.
    durations: with what was trained before.
  """
  before = config.copy_and_resolve_references()
  try:
    before.update_from_flattened_dict(
      {field: value for field, (value, _) in changes.items() if value is not None}
    )
    durations_before = Durations(
      before.batch_size, durations.epoch_size, durations.first_step, durations.first_examples
    )
    rates = [
      float(build.build_schedule(*each)(durations.first_step))
      for each in ((before, durations_before), (config, durations))
    ]
  except (TypeError, ValueError, UserError):  # of an earlier version's config
    return None
  old, new = rates
  if not (math.isfinite(old) and math.isfinite(new)):
    return None
  return None if abs(new - old) <= _SAME_RATE * max(old, new) else (old, new)


def begin(
  parts: Assembly,
  directory: RunDirectory,
  description: ModelDescription,
  data: RunData,
  session: Session,
  recorder: Recorder,
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
  """Prints what is resumed, and writes the directory's files; no step has been taken yet.

  Args:
    parts: of the run.
    directory: of the run.
    description: of the network.
    data: that it is trained on.
    session: that begins.
    recorder: of the session.

  Returns:
    The evaluation after the last step that was taken, and the best one, where there are such.

  Raises:
    UserError: the directory cannot be written.
  """
  config, total_steps = parts.config, parts.plan.total_steps
  first_step = session.first_step
  are_steps_left = first_step < total_steps
  if first_step:
    print(f"resuming after step {first_step}", flush=True)
    _warn(config, session, total_steps)
    if are_steps_left and parallel.platform(parts.mesh) == "gpu":
      _warn_of_determinism(sessions.that_count(sessions.read(directory)), session)
  elif steps := max((entry["step"] for entry in directory.metrics()), default=0):
    print(f"starting again: {steps} steps were taken, but no checkpoint was written", flush=True)
  if are_steps_left:
    recorder.begin()
    directory.save_config(config)
    directory.write("model.json", description.to_json())
    data.save(directory, first_step)
    # A result of fewer steps is none of the run that goes on.
    directory.remove("summary.json")
  else:
    _keep_config(config, directory, session.changes)
  directory.forget_metrics_after(first_step)
  undecodable.forget_after(directory, first_step)
  best = directory.best_evaluation() if config.keep_best else None
  return directory.evaluation(first_step), best


def _keep_config(
  config: ml_collections.ConfigDict, directory: RunDirectory, changes: Changes
) -> None:
  """Where nothing is trained any more, config.json still says what was trained."""
  kept = ml_collections.ConfigDict(directory.read_config())
  kept.update_from_flattened_dict(
    {field: changes[field][1] for field in resuming.in_effect(changes, are_steps_left=False)}
  )
  directory.save_config(kept)


def _warn_of_determinism(before: Sequence[Session], session: Session) -> None:
  """On a GPU, where the steps of a run are not all of one kind."""
  was = before[-1].deterministic if before else None
  if was is None or was == session.deterministic:
    return
  if was:
    warn(
      f"the run had --deterministic and goes on without it: on GPUs the steps after step "
      f"{session.first_step} may come out in other bits each time; give it again to prevent that."
    )
  else:
    warn(
      f"the run had no --deterministic and goes on with it: on GPUs the steps after step "
      f"{session.first_step} alone come out in the same bits each time; for all of them begin anew "
      f"in another --workdir."
    )


def _warn(config: ml_collections.ConfigDict, session: Session, total_steps: int) -> None:
  changes = session.changes
  if session.first_step >= total_steps:
    if without_effect := changes.keys() - resuming.in_effect(changes, are_steps_left=False):
      warn(
        f"the run has taken {session.first_step} steps, and config.duration='{config.duration}' "
        f"ends after {total_steps}: nothing is trained, and "
        f"{', '.join(f'config.{field}' for field in sorted(without_effect))} had no effect."
      )
    return
  for sentence in resuming.warnings(changes):
    warn(sentence)
  if session.learning_rates:
    old, new = session.learning_rates
    sentence = f"the learning rate goes from {old:.3g} to {new:.3g} after step {session.first_step}"
    if "duration" in changes and config.optimizer.schedule.name == "cosine":
      sentence += (
        "; for a steady one set config.optimizer.schedule.name='constant' and "
        "config.optimizer.learning_rate, or begin a new run in another --workdir, with "
        "config.init_from"
      )
    warn(f"{sentence}.")
