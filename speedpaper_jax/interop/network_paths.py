"""What a command line names as networks: directories, or published weights by name."""

import pathlib
from collections.abc import Iterable

from speedpaper_jax.published_weights import table
from speedpaper_jax.storage.run_directory import RunDirectory


def check(names: Iterable[str | pathlib.Path]) -> None:
  """Refuses what is no network, before JAX is imported to load one.

  Args:
    names: paths, or what the table calls weights.

  Raises:
    UserError: there are no such weights, or a directory has no readable config.json.
  """
  for name in names:
    if table.find_unless_path(name) is None:
      RunDirectory(pathlib.Path(name)).read_config()
