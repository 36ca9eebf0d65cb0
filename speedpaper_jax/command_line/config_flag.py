"""The flags `--config=FILE` and `--config.KEY=VALUE`, of the commands that read a config."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError

if TYPE_CHECKING:
  import ml_collections

_OVERRIDES = ("--config.", "--noconfig.")


def add_to(parser: argparse.ArgumentParser, default: str | None = None) -> None:
  """Adds `--config`, as the option `config_file`.

  Args:
    parser: of a command; its description explains `--config.KEY=VALUE`.
    default: the config file where none is named.
  """
  parser.add_argument(
    "--config",
    dest="config_file",
    default=default,
    metavar="FILE",
    help="config file, as FILE:key=value,… with its arguments"
    + ("" if default is None else f" (default: {default})"),
  )


def parse(parser: entry_point.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
  """Reads a command line.

  Args:
    parser: with the flag that `add_to` adds, and without arguments that are no flags.
    arguments: those after the name of the program.

  Returns:
    The options; `config` is the config, with what overrides its fields, or None where no file is
    named.

  Raises:
    UserError: a flag, a config file, its arguments, or a key or value of its fields are not valid.
  """
  options, left = parser.parse_known(arguments, _OVERRIDES)
  options.config = None
  if options.config_file is not None:
    from speedpaper_jax.config import files as config_files

    options.config = config_files.load(options.config_file)
    left = _override(options.config, left)
  if left and not left[0].startswith(_OVERRIDES):
    raise UserError(f"'{left[0]}' is no flag; flags begin with --, as in --config={left[0]}.")
  return options


def _override(config: "ml_collections.ConfigDict", arguments: Sequence[str]) -> list[str]:
  """Sets the fields that arguments name; returns the arguments that are no flags."""
  from ml_collections import config_flags

  from speedpaper_jax.config import files as config_files

  config_files.check_overrides(config, arguments)
  argv = ["", *arguments]  # as absl has it, with the name of a program
  values = flags.FlagValues()
  try:
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    return values(argv)[1:]
  except flags.UnrecognizedFlagError as error:  # `check_overrides` knows the key
    name = error.flagname.removeprefix("noconfig.")
    raise UserError(
      f"--{error.flagname} is of fields that are true or false; give --config.{name}=VALUE."
    ) from error
  except flags.Error as error:
    raise UserError(str(error)) from error
