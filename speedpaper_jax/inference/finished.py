"""Results of evaluations that are done, so that a command need not do them again.

Each is a JSON file in a directory of the user's, named by a digest of all that the result depends
on; one of other data, weights or another version stands beside it.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.files import json_files, output_files, rules

_METRICS: rules.Rules = {
  "count": rules.whole(1, 2**31 - 1),
  "top1": rules.between(0, 1),
  "top5": rules.between(0, 1),
}


class Finished:
  """The results in a directory."""

  def __init__(self, directory: pathlib.Path) -> None:
    """Makes the directory where it is not there yet.

    Raises:
      UserError: it cannot be made, or nothing can be written there.
    """
    self._directory = directory
    try:
      directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(f"'{directory}' cannot be made: {error.strerror}.") from error
    if not os.access(directory, os.W_OK):
      raise UserError(f"You may not write in '{directory}'; name another directory.")

  def path(self, name: str, depends_on: Mapping[str, Any]) -> pathlib.Path:
    """Of a result's file.

    Args:
      name: of what was evaluated; the file's name begins with it.
      depends_on: all that the result depends on, as JSON has it.
    """
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:12]
    return self._directory / f"{name.replace('/', '-').replace(' ', '-')}-{digest}.json"

  def read(self, name: str, depends_on: Mapping[str, Any]) -> dict[str, float] | None:
    """The metrics, if they are there: `top1` and `top5` as fractions, and `count`.

    A damaged file is warned of and counts as none. Arguments are those of `path`.
    """
    path = self.path(name, depends_on)
    try:
      content = json_files.read(path)
      if content["depends_on"] != depends_on:
        raise ValueError("it is of another evaluation")
      rules.check(content["metrics"], _METRICS, "metrics")
      return dict(content["metrics"])
    except FileNotFoundError:
      return None
    except (OSError, ValueError, UserError) as error:
      warn(f"{path} is damaged ({error}); that evaluation is done again.")
      return None

  def write(self, name: str, depends_on: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Keeps a result.

    Args:
      name: as of `path`.
      depends_on: as of `path`.
      metrics: as `read` gives them.

    Raises:
      UserError: the file cannot be written.
    """
    content = {"depends_on": dict(depends_on), "metrics": dict(metrics)}
    output_files.write_json(self.path(name, depends_on), content)
