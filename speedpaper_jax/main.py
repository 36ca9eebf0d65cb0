"""Runs an experiment: `python -m speedpaper_jax.main --config=configs/bn_inception.py`.

`--config=FILE:key=value,…` passes arguments to the config, `--config.KEY=VALUE` overrides one of
its fields, and `--list` prints the experiments. The same command with the same `--workdir`
continues an interrupted run. On several hosts it is started on each; launch/README.md says how.
"""

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from speedpaper_jax.command_line import (
  config_flag,
  determinism_flag,
  entry_point,
  host_flags,
  standard_output,
)
from speedpaper_jax.errors import UserError

if TYPE_CHECKING:
  from speedpaper_jax.config import files as config_files
  from speedpaper_jax.storage.run_directory import RunDirectory


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line; the result's `config` is the config, with what overrides its fields."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.main",
    description="Runs an experiment. --config.KEY=VALUE overrides a field of its config. The same "
    "command with the same --workdir continues an interrupted run. On several hosts it is started "
    "on each.",
  )
  config_flag.add_to(parser)
  parser.add_argument(
    "--workdir",
    metavar="DIR",
    help="directory of the run (default: a fresh runs/<config>-<time>)",
  )
  parser.add_argument(
    "--profile", metavar="FROM,TO", help="steps to trace, into profile/ of the run's directory"
  )
  determinism_flag.add_to(parser)
  parser.add_argument("--list", action="store_true", help="print the experiments and exit")
  host_flags.add_to(parser)
  options = config_flag.parse(parser, arguments[1:])
  if options.config is None and not options.list:
    raise UserError("Name an experiment with --config=FILE; --list prints them.")
  return options


def main(options: argparse.Namespace) -> None:
  """Runs the experiment that the flags name."""
  if options.list:
    from speedpaper_jax.config import files as config_files

    _print_list(config_files.list_configs())
    return

  config = options.config
  experiment = str(config.get("experiment"))
  settings = _settings(options, experiment)
  if experiment == "train":  # the others know themselves what is valid, and need JAX
    from speedpaper_jax.config import ranges

    ranges.check(config)
  determinism_flag.apply(options)
  entry_point.set_up_jax()
  entry_point.join_hosts(options)
  # Imported once the flags are known to be good, so that mistakes are reported without delay.
  from speedpaper_jax import experiments
  from speedpaper_jax.compilation import determinism
  from speedpaper_jax.config.experiments import EXPERIMENTS
  from speedpaper_jax.distributed import hosts
  from speedpaper_jax.storage import run_directory

  run = experiments.get(experiment)
  if hosts.are_several() and not EXPERIMENTS[experiment].on_several_hosts:
    several = [name for name, found in EXPERIMENTS.items() if found.on_several_hosts]
    raise UserError(
      f"The experiment '{experiment}' is the work of one process; start it alone, without a "
      f"launcher. Several processes take: {', '.join(several)}."
    )
  hosts.check_same("config", config.to_json())
  hosts.check_same("--deterministic", str(determinism.is_on()))
  with contextlib.ExitStack() as until_end:
    path = hosts.from_main(lambda: str(until_end.enter_context(_locked_path(options))))
    directory = run_directory.RunDirectory(pathlib.Path(path))
    print(f"workdir {path}", flush=True)
    standard_output.go_on()
    summary = {"experiment": experiment, **run(config, directory, **settings)}
    if hosts.is_main():
      _finish(directory, summary)
  hosts.leave()


@contextlib.contextmanager
def _locked_path(options: argparse.Namespace) -> Iterator[pathlib.Path]:
  """Of the run's directory, which no other process writes meanwhile."""
  from speedpaper_jax.storage import run_directory

  if options.workdir:
    directory = run_directory.RunDirectory(pathlib.Path(options.workdir))
  else:
    directory = run_directory.fresh(options.config_file)
  with directory.locked():
    yield directory.path


def _settings(options: argparse.Namespace, experiment: str) -> dict[str, Any]:
  """What an experiment takes besides its config and directory."""
  settings: dict[str, Any] = {"command": _command()} if experiment == "train" else {}
  if options.profile is None:
    return settings
  if experiment != "train":
    raise UserError(f"--profile is of the experiment 'train'; '{experiment}' is done without it.")
  from speedpaper_jax.training.traced_steps import Steps

  return settings | {"profile": Steps.parse(options.profile)}


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


def _print_list(configs: "Sequence[config_files.Listed]") -> None:
  width = max((len(str(config.path)) for config in configs), default=0)
  for config in configs:
    minutes = "" if config.minutes is None else f"{config.minutes:.1f}"
    print(f"{config.path!s:{width}}  {minutes:>4} min  {config.line}")
  print("The minutes are those of the default command, --config=FILE, on two CPU cores.")


if __name__ == "__main__":
  entry_point.run(main, parse)
