"""The sessions of a training run: each start that went on to take steps, in sessions.json."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules
from speedpaper_jax.storage import provenance
from speedpaper_jax.storage.resuming import Changes
from speedpaper_jax.storage.run_directory import RunDirectory

_FILE = "sessions.json"
_LONGEST_END = 300


@dataclasses.dataclass(frozen=True)
class Session:
  """One of them.

  Attributes:
    command: that began it; empty where it was part of a sweep.
    devices: in words.
    deterministic: whether XLA was told to give the same bits at every start, see
      `compilation.determinism`; None of a session of an earlier version.
    began: time, as `provenance.now` gives it.
    ended: the same; empty while it goes on, and after a kill.
    end: how it ended, in words; empty likewise.
    duration: of the run, as the config had it.
    batch_size: of its steps.
    epoch_size: examples in an epoch.
    first_step: steps that had been taken before.
    first_examples: examples that had been seen before.
    last_step: steps that are known to have been taken when it had ended.
    saved_step: of the newest checkpoint that is known to have been written; 0 for none.
    changes: of the config, against the session before: values before and now by field.
    learning_rates: of the step before and of the first one, where these changes make it jump.
  """

  command: str = ""
  devices: str = ""
  deterministic: bool | None = None
  began: str = ""
  ended: str = ""
  end: str = ""
  duration: str = ""
  batch_size: int = 0
  epoch_size: int = 0
  first_step: int = 0
  first_examples: int = 0
  last_step: int = 0
  saved_step: int = 0
  changes: Changes = dataclasses.field(default_factory=dict)
  learning_rates: Sequence[float] = ()

  def epochs(self, step: int) -> float:
    """Epochs of examples that had been seen after one of its steps."""
    return (self.first_examples + (step - self.first_step) * self.batch_size) / self.epoch_size


_OF_A_SESSION: Mapping[str, Any] = {
  **dict.fromkeys(("command", "devices", "began", "ended", "end", "duration"), rules.TEXT),
  "deterministic": rules.IfPresent(rules.or_nothing(rules.SWITCH)),
  "batch_size": rules.ROWS,
  "epoch_size": rules.whole(1, 2**53),
  **dict.fromkeys(("first_step", "last_step", "saved_step"), rules.STEP),
  "first_examples": rules.COUNT,
  "changes": rules.Each(
    rules.Rule("a value before and one now", lambda pair: isinstance(pair, list) and len(pair) == 2)
  ),
  "learning_rates": rules.several(rules.FINITE),
}
_RULES: rules.Rules = {"sessions": rules.ListOf(_OF_A_SESSION)}


def read(directory: RunDirectory) -> list[Session]:
  """All sessions, in order; none of a run of an earlier version.

  Raises:
    UserError: the file is damaged.
  """
  if not (directory.path / _FILE).exists():
    return []
  content = directory.read(_FILE)
  try:
    rules.check(content, _RULES)
  except UserError as error:
    raise UserError(
      f"{directory.path / _FILE} is damaged: {error} Put a copy of it back, or remove it."
    ) from error
  return [
    Session(**{name: each[name] for name in _OF_A_SESSION if name in each})
    for each in content["sessions"]
  ]


def that_count(sessions: Sequence[Session]) -> list[Session]:
  """Those whose steps are part of the run, with the last of them that is.

  A later session takes again what was not saved. What was changed for one of which nothing is left
  was changed for the next.
  """
  counted: list[Session] = []
  changes: Changes = {}
  learning_rates: Sequence[float] = ()
  for number, session in enumerate(sessions):
    changes = _one_after_the_other(changes, session.changes)
    learning_rates = session.learning_rates or learning_rates
    last = min((each.first_step for each in sessions[number + 1 :]), default=session.last_step)
    if last > session.first_step:
      counted.append(
        dataclasses.replace(session, last_step=last, changes=changes, learning_rates=learning_rates)
      )
      changes, learning_rates = {}, ()
  return counted


def _one_after_the_other(first: Changes, second: Changes) -> Changes:
  """Both as one, without what is as it was before."""
  both = dict(first)
  for field, (before, now) in second.items():
    both[field] = (first[field][0] if field in first else before, now)
  return {field: values for field, values in both.items() if values[0] != values[1]}


def commands(sessions: Sequence[Session], otherwise: str) -> list[str]:
  """That do the run again, one after the other; the same one twice continues by itself.

  Args:
    sessions: that count.
    otherwise: where their commands are not known; empty for none.
  """
  given: list[str] = []
  for session in sessions:
    if session.command and session.command not in given[-1:]:
      given.append(session.command)
  return given or [otherwise] * bool(otherwise)


def check_checkpoints(directory: RunDirectory) -> None:
  """Raises a UserError if a run has saved its state, and its checkpoints are gone.

  To start such a run anew would take away its metrics. One that was killed before its first
  checkpoint has nothing else to lose.
  """
  if directory.newest_checkpoint():
    return
  steps = max((entry["step"] for entry in directory.metrics()), default=0)
  if sessions := read(directory):
    steps = max(steps, *(session.saved_step for session in sessions))
    has_saved = any(session.saved_step for session in sessions)
  else:  # of an earlier version
    has_saved = directory.has_result() or (steps > 0 and not directory.checkpoints.is_dir())
  if has_saved:
    raise UserError(
      f"The run in '{directory.path}' has taken {steps:,} steps and saved its state, but its "
      f"checkpoints are gone; put them back into {directory.checkpoints}, or choose another "
      f"--workdir."
    )


class Recorder:
  """Keeps sessions.json up to date while a session goes on; until `begin` it writes nothing."""

  def __init__(self, directory: RunDirectory, session: Session) -> None:
    """Takes what is known of the session at its start."""
    self._directory = directory
    self._session = session
    self._before: list[Session] | None = None

  def begin(self) -> None:
    """Records the start, in the process that writes the run's directory.

    Raises:
      UserError: the directory cannot be written; so do `reached` and `ending`.
    """
    self._before = read(self._directory)
    self._write(began=provenance.now(), saved_step=self._session.first_step)

  def reached(self, step: int) -> None:
    """Records a step that has been taken, if there is a new checkpoint."""
    if self._before is None:
      return
    self._session = dataclasses.replace(self._session, last_step=step)
    newest = self._directory.newest_checkpoint() or 0
    if newest > self._session.saved_step:
      self._write(saved_step=newest)

  @contextlib.contextmanager
  def ending(self) -> Iterator[None]:
    """Records how what happens inside ends."""
    try:
      yield
    except Exception as error:
      with contextlib.suppress(UserError):  # one thing at a time
        self._end(str(error)[:_LONGEST_END])
      raise
    self._end("finished")

  def _end(self, how: str) -> None:
    if self._before is not None:
      newest = max(self._directory.newest_checkpoint() or 0, self._session.first_step)
      self._write(
        end=how,
        ended=provenance.now(),
        saved_step=newest,
        last_step=max(newest, self._session.last_step),
      )

  def _write(self, **changes: Any) -> None:
    assert self._before is not None
    self._session = dataclasses.replace(self._session, **changes)
    sessions = [dataclasses.asdict(session) for session in [*self._before, self._session]]
    self._directory.write(_FILE, {"sessions": sessions})
