"""A report as one HTML file, with its pictures inside."""

import base64
import dataclasses
import importlib.resources
import json
import pathlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import markupsafe

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import DARK, DOTS_PER_INCH, LIGHT
from speedpaper_jax.reports.page import Figure, Page, Table
from speedpaper_jax.storage import provenance, sessions
from speedpaper_jax.storage.run_directory import RunDirectory

_NUMBER = r"([-−+±≈<>≤≥×]\s*)?\d[\d.,:]*(e[-+]?\d+)?"
# A number, with a unit or without, or with a range.
_NUMERIC = re.compile(rf"{_NUMBER}(\s?[^\s\d]+|\s\({_NUMBER}(–|\sto\s){_NUMBER}\))?", re.IGNORECASE)
# What stands in the place of a number: nothing, a dash or a word.
_NO_NUMBER = re.compile(r"[-–—]?|[a-z]+")

_LONGEST_LINE = 68
_PAGE_PIXELS_PER_INCH = 108

_RECORD: rules.Rules = {
  "command": rules.IfPresent(rules.TEXT),
  "finished": rules.IfPresent(rules.TEXT),
  "machine": rules.IfPresent(rules.Each(rules.TEXT)),
  "versions": rules.IfPresent(rules.Each(rules.TEXT)),
}


@dataclasses.dataclass(frozen=True)
class Record:
  """How a run was made; a run of an older version may lack all but the config.

  Attributes:
    commands: that do the run again, one after the other.
    finished: when the run ended, for people to read.
    machine: see `provenance.machine`.
    versions: see `provenance.versions`.
    config: values by dotted names.
  """

  commands: Sequence[str]
  finished: str
  machine: Mapping[str, str]
  versions: Mapping[str, str]
  config: Mapping[str, Any]

  @classmethod
  def of(cls, directory: RunDirectory) -> "Record":
    """Reads a run; of one that has not ended machine and versions are not known.

    Raises:
      UserError: config.json is missing or damaged, or summary.json or sessions.json is damaged.
    """
    ended = directory.has_result()
    summary = contents.read(directory, "summary.json", _RECORD) if ended else {}
    counted = sessions.that_count(sessions.read(directory))
    return cls(
      commands=sessions.commands(counted, summary.get("command", "")),
      finished=summary.get("finished", "").replace("T", " ").replace("+00:00", " UTC"),
      machine=summary.get("machine", {}),
      versions=summary.get("versions", {}),
      config=dict(flatten(directory.read("config.json"))),
    )


def render(page: Page, plots: pathlib.Path, record: Record | None = None) -> str:
  """The page as HTML that refers to nothing outside of itself.

  Args:
    page: what it shows.
    plots: directory of its figures.
    record: how the run was made, shown at the end.

  Raises:
    UserError: a figure cannot be read.
  """
  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters["prose"] = _prose
  environment.tests["code"] = lambda text: re.fullmatch(r"`[^`]+`", text) is not None
  environment.tests["figure"] = lambda part: isinstance(part, Figure)
  template = importlib.resources.files(__package__).joinpath("page.html")
  return environment.from_string(template.read_text(encoding="utf-8")).render(
    page=page,
    record=record,
    grounds=(LIGHT, DARK),
    picture=lambda figure, ground: _Picture.read(plots / f"{figure.name}{ground.suffix}.png"),
    lines=_lines,
    numeric_columns=_numeric_columns,
    show=show,
  )


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yields the dotted name and the value of every field that is no section."""
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      yield from flatten(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def show(value: Any) -> str:
  """A value of a config; text stands without quotation marks, unless it is empty."""
  return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


@dataclasses.dataclass(frozen=True)
class _Picture:
  """A PNG file as a data URI; width and height are in pixels of the page."""

  uri: str
  width: int
  height: int

  @classmethod
  def read(cls, path: pathlib.Path) -> "_Picture":
    try:
      content = path.read_bytes()
    except OSError as error:
      raise UserError(f"The figure {path} cannot be read: {error.strerror}.") from error
    # The beginning of every PNG file: signature, length and name of the first chunk, size.
    width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))
    uri = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    return cls(uri, _page_pixels(width), _page_pixels(height))


def _page_pixels(pixels: int) -> int:
  """Text of 12 points is then a little larger than the page's."""
  return round(pixels * _PAGE_PIXELS_PER_INCH / DOTS_PER_INCH)


def _prose(text: str) -> markupsafe.Markup:
  """Escaped, with `code` between backticks, and with no end of a line between number and %."""
  escaped = str(markupsafe.escape(re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text)))
  return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))


def _lines(command: str) -> str:
  """A long command with each argument on a line of its own, as a shell takes it too."""
  if len(command) <= _LONGEST_LINE or not command.startswith("python -m "):
    return command
  python, module, name, *arguments = shlex.split(command)
  return " \\\n  ".join([f"{python} {module} {name}", *map(provenance.quote, arguments)])


def _numeric_columns(table: Table) -> list[bool]:
  """Which columns hold numbers, or what stands in the place of some, and nothing else."""

  def is_numeric(cells: Sequence[str]) -> bool:
    others = [cell for cell in cells if not _NUMERIC.fullmatch(cell)]
    return len(others) < len(cells) and all(map(_NO_NUMBER.fullmatch, others))

  columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
  return list(map(is_numeric, columns))
