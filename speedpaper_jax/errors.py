"""Errors that the user can mend, one sentence each; and text as a terminal may show it."""

import contextlib
import difflib
import re
import sys
from collections.abc import Iterable

_LONGEST_LIST = 20

# What terminals obey instead of showing: control characters, marks that turn the direction of
# writing, ends of line and paragraph. The other invisible characters belong to scripts and emoji.
_CONTROL = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_LAYOUT = "\t\n\r"
_OF_A_LINE = re.compile(f"[{_CONTROL}]")
_OF_LINES = re.compile(f"(?![{_LAYOUT}])[{_CONTROL}]")


class UserError(Exception):
  """Something in the input is wrong; the message says what, and what to do about it.

  Entry points print the message after `error:` and exit with status 1.
  """


_speaker = ""
_is_main = True
_printed_once: set[str] = set()


def set_process(process: int) -> None:
  """Messages name the process, one of several, from now on; number 0 is the main one."""
  global _speaker, _is_main
  _speaker = f"process {process}: "
  _is_main = process == 0


def inform(sentence: str) -> None:
  """Prints to standard error, if that can be written; control characters are escaped."""
  with contextlib.suppress(OSError):
    print(f"{_speaker}{printable(sentence)}", file=sys.stderr, flush=True)


def inform_once(sentence: str) -> None:
  """For what all processes find, and find again: the main one prints it, the first time."""
  if _is_main and sentence not in _printed_once:
    _printed_once.add(sentence)
    inform(sentence)


def warn(sentence: str) -> None:
  """Prints a warning of something that is wrong but does not stop the work."""
  inform(f"warning: {sentence}")


def warn_once(sentence: str) -> None:
  """As `inform_once`, of something that is wrong but does not stop the work."""
  inform_once(f"warning: {sentence}")


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


def printable(text: object) -> str:
  r"""One line of text: control characters are escaped, as `\x1b`; what is no valid text is "?"."""
  return _OF_A_LINE.sub(_escaped, _valid(str(text)))


def printable_lines(text: str) -> str:
  """The same, but line breaks, returns and tabs stay."""
  return _OF_LINES.sub(_escaped, _valid(text))


def _valid(text: str) -> str:
  """Names of files need not be valid UTF-8; Python has surrogates in the place of such bytes."""
  return text.encode("utf-8", errors="replace").decode("utf-8")


def _escaped(found: re.Match[str]) -> str:
  return found[0].encode("unicode_escape").decode("ascii")
