"""Runs an experiment: `python -m speedpaper_jax.main --config=configs/bn_inception.py`.

`--config=FILE:key=value,…` passes arguments to the config, `--config.KEY=VALUE` overrides one of
its fields, and `--list` prints the experiments. The same command with the same `--workdir`
continues an interrupted run. On several hosts it is started on each; launch/README.md says how.
"""

import contextlib
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from speedpaper_jax.command_line import entry_point, host_flags, standard_output
from speedpaper_jax.config import files as config_files
from speedpaper_jax.errors import UserError

if TYPE_CHECKING:
  from speedpaper_jax.storage.run_directory import RunDirectory

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file, with its arguments.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory of the run; a fresh runs/<config>-<time> by default."
)
_PROFILE = flags.DEFINE_string(
  "profile", None, "FROM,TO: steps to trace, into profile/ of the run's directory."
)
_LIST = flags.DEFINE_bool("list", False, "Print the experiments and exit.")


flags.adopt_module_key_flags(host_flags)


def main(argv: list[str]) -> None:
  """Runs the experiment that the flags name."""
  if _LIST.value:
    _print_list(config_files.list_configs())
    return
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is no flag; flags begin with --, as in --config={argv[1]}.")
  if _CONFIG.value is None:
    raise UserError("Name an experiment with --config=FILE; --list prints them.")

  entry_point.set_up_jax()
  entry_point.join_hosts()
  # Imported once the flags are known to be good, so that mistakes are told without delay.
  from speedpaper_jax import experiments
  from speedpaper_jax.distributed import hosts
  from speedpaper_jax.storage import run_directory

  experiment = str(_CONFIG.value.get("experiment"))
  run = experiments.get(experiment)
  if hosts.are_several() and experiment not in experiments.ON_SEVERAL_HOSTS:
    raise UserError(
      f"The experiment '{experiment}' is the work of one process; start it alone, without a "
      f"launcher. Several processes take: {', '.join(experiments.ON_SEVERAL_HOSTS)}."
    )
  options = _options(experiment)
  hosts.check_same("config", _CONFIG.value.to_json())
  with contextlib.ExitStack() as until_end:
    path = hosts.from_main(lambda: str(until_end.enter_context(_locked_path())))
    directory = run_directory.RunDirectory(pathlib.Path(path))
    print(f"workdir {path}", flush=True)
    standard_output.go_on()
    summary = {"experiment": experiment, **run(_CONFIG.value, directory, **options)}
    if hosts.is_main():
      _finish(directory, summary)
  hosts.leave()


@contextlib.contextmanager
def _locked_path() -> Iterator[pathlib.Path]:
  """Of the run's directory, which no other process writes meanwhile."""
  from speedpaper_jax.storage import run_directory

  if _WORKDIR.value:
    directory = run_directory.RunDirectory(pathlib.Path(_WORKDIR.value))
  else:
    config_path = config_flags.get_config_filename(flags.FLAGS["config"])
    directory = run_directory.fresh(config_path)
  with directory.locked():
    yield directory.path


def _options(experiment: str) -> dict[str, Any]:
  """What an experiment takes besides its config and directory."""
  options: dict[str, Any] = {"command": _command()} if experiment == "train" else {}
  if _PROFILE.value is None:
    return options
  if experiment != "train":
    raise UserError(f"--profile is of the experiment 'train'; '{experiment}' is done without it.")
  from speedpaper_jax.training.profiling import Steps

  return options | {"profile": Steps.parse(_PROFILE.value)}


def _command() -> str:
  from speedpaper_jax.storage import provenance

  return provenance.command(sys.argv, without=host_flags.NAMES)


def _finish(directory: "RunDirectory", summary: dict[str, Any]) -> None:
  """Writes the result and its report."""
  from speedpaper_jax import reports
  from speedpaper_jax.storage import provenance

  summary["command"] = _command()
  summary["finished"] = provenance.now()
  summary["machine"] = provenance.machine()
  summary["versions"] = provenance.versions()
  directory.write("summary.json", summary)
  page = reports.write(directory)
  print(f"{page.result}\nreport {directory.path / reports.NAME}", flush=True)
  print(f"workdir {directory.path}", flush=True)


def _print_list(configs: Sequence[config_files.Listed]) -> None:
  width = max((len(str(config.path)) for config in configs), default=0)
  for config in configs:
    minutes = "" if config.minutes is None else f"{config.minutes:.1f}"
    print(f"{config.path!s:{width}}  {minutes:>4} min  {config.line}")
  print("The minutes are those of the default command, --config=FILE, on two CPU cores.")


if __name__ == "__main__":
  entry_point.run(main, entry_point.parse_config_flags)
