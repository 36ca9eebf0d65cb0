"""Mistakes that the user can mend, told in one sentence and without a traceback."""

import contextlib
import difflib
import sys
from collections.abc import Iterable

from speedpaper_jax.printable import printable

_LONGEST_LIST = 20


class UserError(Exception):
  """Something in the input is wrong; the message says what, and what to do about it.

  Entry points print the message after `error:` and exit with status 1.
  """


_speaker = ""
_is_main = True
_told: set[str] = set()


def speak_as(process: int) -> None:
  """What is told from now on names the process, one of several; number 0 is the main one."""
  global _speaker, _is_main
  _speaker = f"process {process}: "
  _is_main = process == 0


def tell(sentence: str) -> None:
  """Prints to standard error, if that can be written; control characters are escaped."""
  with contextlib.suppress(OSError):
    print(f"{_speaker}{printable(sentence)}", file=sys.stderr, flush=True)


def tell_once(sentence: str) -> None:
  """Tells what all processes find, and find again: the main one prints it, the first time."""
  if _is_main and sentence not in _told:
    _told.add(sentence)
    tell(sentence)


def warn(sentence: str) -> None:
  """Tells of something that is wrong but does not stop the work."""
  tell(f"warning: {sentence}")


def warn_once(sentence: str) -> None:
  """As `tell_once`, of something that is wrong but does not stop the work."""
  tell_once(f"warning: {sentence}")


def did_you_mean(name: str, valid: Iterable[str]) -> str:
  """Returns ` Did you mean 'x'? Valid: 'x', 'y'.`, to end the message about an unknown `name`.

  Capital letters do not count. A long list of valid names is left out.
  """
  names = list(valid)
  spelt = {valid_name.casefold(): valid_name for valid_name in names}
  nearest = difflib.get_close_matches(name.casefold(), spelt, n=1, cutoff=0.5)
  question = f" Did you mean '{spelt[nearest[0]]}'?" if nearest else ""
  listed = ", ".join(f"'{valid_name}'" for valid_name in names)
  return f"{question} Valid: {listed}." if len(names) <= _LONGEST_LIST else question
