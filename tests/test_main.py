"""The command line: what is wrong is told in one sentence, and nothing is left behind."""

import json
import os
import re
import shlex
import subprocess
import sys

import jax
import pytest
from commands import CONFIG, MAIN, ROOT, TINY, finish, run, start, wait_for_step
from commands import flags as config_flags

from speedpaper_jax import main
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.distributed.interrupts import START_AGAIN, Interrupted
from speedpaper_jax.errors import UserError


def parse(*arguments):
  return main.parse(["main", *arguments])


class TestFlags:
  def test_overrides(self):
    config = parse(
      "--config=configs/bn_inception.py:data=mnist",
      "--config.batch_size=64",
      "--config.data.augmentation.area_range=(0.5, 1.0)",
      "--noconfig.data.augmentation.flip",
    ).config
    assert config.data.name == "mnist"
    assert config.batch_size == 64
    assert config.data.augmentation.area_range == (0.5, 1.0)
    assert not config.data.augmentation.flip

  def test_values_may_follow_a_blank(self):
    options = parse(
      *("--config", "configs/bn_inception.py:data=mnist", "--config.batch_size", "64"),
      *("--config.optimizer.learning_rate", "-1e-3", "--workdir", "my runs/1", "--patience", "9.5"),
    )
    assert options.config.data.name == "mnist"
    assert options.config.batch_size == 64
    assert options.config.optimizer.learning_rate == -1e-3
    assert (options.workdir, options.patience) == ("my runs/1", 9.5)

  def test_what_overrides_may_come_first(self):
    assert (
      parse("--config.batch_size=64", "--config=configs/bn_inception.py").config.batch_size == 64
    )

  def test_the_list_needs_no_config(self):
    assert parse("--list").list

  @pytest.mark.parametrize(
    ("arguments", "message"),
    [
      (["--config=configs/bn_incepton.py"], "Did you mean 'configs/bn_inception.py'?"),
      (["--config=configs"], "There is no config file 'configs'."),
      (["--config"], "argument --config: expected one argument; see --help."),
      (["--config="], "There is no config file ''."),
      (["--config=configs/bn_inception.py:variant=bn_x31"], "Did you mean 'bn_x30'?"),
      (["--config=configs/bn_inception.py:varant=bn_x30"], "Did you mean 'variant'?"),
      (["--config=configs/bn_inception.py:bn_x30"], "'bn_x30' is not of the form key=value."),
      (["--config=configs/bn_inception.py", "--config.batchsize=8"], "Did you mean 'batch_size'?"),
      (
        ["--config=configs/bn_inception.py", "--config.learning_rate=1"],
        "Did you mean 'optimizer.learning_rate'?",
      ),
      (["--config=configs/bn_inception.py", "--config.data=mnist"], "config.data is a section;"),
      (["--config=configs/bn_inception.py", "--config.batch_size=many"], "batch_size=many"),
      (["--config=configs/bn_inception.py", "--config.batch_size=1.5"], "batch_size=1.5"),
      (["--config=configs/bn_inception.py", "--config.batch_size"], "Missing value for flag"),
      (
        ["--config=configs/bn_inception.py", "--workdirr=x"],
        "There is no flag '--workdirr'. Did you mean '--workdir'?",
      ),
      (["--config=configs/bn_inception.py", "--work=x"], "There is no flag '--work'."),
      (["--config=configs/bn_inception.py", "--patience=x"], "argument --patience: invalid float"),
      (["--config=configs/bn_inception.py", "--workdir"], "argument --workdir: expected one"),
      (
        ["configs/bn_inception.py"],
        "'configs/bn_inception.py' is no flag; flags begin with --, as in "
        "--config=configs/bn_inception.py.",
      ),
      (["--config=configs/bn_inception.py", "--", "x"], "'x' is no flag; flags begin with --"),
      ([], "Name an experiment with --config=FILE; --list prints them."),
      (["--config.batch_size=8"], "Name an experiment with --config=FILE; --list prints them."),
    ],
  )
  def test_mistakes(self, arguments, message):
    with pytest.raises(UserError) as error:
      parse(*arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ("--xla_gpu_deterministic_ops=false", "--deterministic is the contrary of --xla_gpu_determin"),
    ("", "--deterministic comes too late, since JAX has its devices already"),
  ],
)
def test_deterministic_that_cannot_be_had_is_refused(flags, message, monkeypatch, tmp_path):
  """As where a program of one's own calls the command."""
  jax.devices()
  monkeypatch.setenv("XLA_FLAGS", flags)
  workdir = tmp_path / "run"
  options = parse(CONFIG, "--deterministic", f"--workdir={workdir}")
  with pytest.raises(UserError, match=message):
    main.main(options)
  assert not workdir.exists()


class TestEntryPoint:
  @pytest.mark.parametrize(
    ("exception", "status", "message"),
    [
      (UserError("It is wrong."), 1, "error: It is wrong.\n"),
      (
        Interrupted("SIGTERM", "step 3", START_AGAIN),
        75,
        "Stopped by SIGTERM after step 3. The same command with the same --workdir continues.\n",
      ),
      (BrokenPipeError(), 141, ""),
      (
        PermissionError(13, "Permission denied", "/locked/run"),
        1,
        "error: '/locked/run' cannot be used: Permission denied.\n",
      ),
      (
        OSError(36, "File name too long", b"x"),
        1,
        "error: 'x' cannot be used: File name too long.\n",
      ),
      (OSError(28, "No space left"), 1, "error: The system refuses: No space left.\n"),
    ],
  )
  def test_status_and_message(self, monkeypatch, capsys, exception, status, message):
    def stop(*arguments, **named):
      raise exception

    monkeypatch.setattr(entry_point.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(entry_point.os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
      entry_point.run(stop, stop)
    assert ended.value.code == status
    assert capsys.readouterr().err == message


def refused(scratch, *arguments, **options):
  """Runs a command that must fail in the way of a user's mistake; returns the message."""
  status, output, errors = finish(start(scratch, *arguments, **options))
  assert status == 1, output + errors
  assert errors.startswith("error: ")
  assert errors.count("\n") == 1
  return errors


@pytest.mark.slow
class TestProcess:
  def test_list(self, scratch):
    listed = run(scratch, "-m", "speedpaper_jax.main", "--list")
    assert re.search(r"^configs/bn_inception\.py +1\.3 min  BN-Inception and", listed, re.MULTILINE)

  def test_a_reader_that_has_seen_enough(self, scratch, tmp_path):
    with start(scratch, *TINY, f"--workdir={tmp_path}", *config_flags()) as process:
      wait_for_step(process, 2)
      process.stdout.close()
      message = process.stderr.read()
    assert process.returncode == 141
    stopped = re.fullmatch(r"Stopped by SIGPIPE after step (\d+)\. The same command .*\n", message)
    assert (tmp_path / "checkpoints" / stopped[1]).is_dir()

  def test_unknown_key(self, scratch, tmp_path):
    workdir = tmp_path / "run"
    message = refused(scratch, *MAIN, f"--workdir={workdir}", "--config.optimizer.rate=1")
    assert "The config has no key 'optimizer.rate'." in message
    assert not workdir.exists()

  def test_help(self, scratch):
    described = run(scratch, "-m", "speedpaper_jax.main", "--help")
    assert described.startswith("usage: python -m speedpaper_jax.main [-h] [--config FILE]")

  def test_unknown_flag(self, scratch):
    message = refused(scratch, *MAIN, "--wrokdir=x")
    assert "There is no flag '--wrokdir'. Did you mean '--workdir'?" in message

  def test_no_config(self, scratch):
    assert "--list prints them" in refused(scratch, "-m", "speedpaper_jax.main")

  def test_no_such_data_set(self, scratch, tmp_path):
    workdir = tmp_path / "run"
    message = refused(
      scratch,
      *MAIN,
      f"--workdir={workdir}",
      "--config.data.name=mnist",
      f"--config.data.dir={tmp_path}",
    )
    assert "The data set 'mnist' is not prepared" in message
    assert "python -m speedpaper_jax.data.prepare mnist" in message
    assert not workdir.exists()

  def test_batch_does_not_divide(self, scratch, tmp_path):
    workdir = tmp_path / "run"
    message = refused(scratch, *MAIN, f"--workdir={workdir}", "--config.batch_size=12", devices=8)
    assert "A batch of 12 does not divide over 8 devices." in message
    assert not workdir.exists()

  def test_workdir_of_another_model(self, scratch, tmp_path):
    workdir = tmp_path / "a run"
    run(scratch, *TINY, f"--workdir={workdir}", *config_flags(duration="1 steps"))
    before = (workdir / "config.json").read_text()
    message = refused(
      scratch,
      *TINY,
      f"--workdir={workdir}",
      *config_flags(duration="1 steps", model__activation="sigmoid"),
    )
    assert "holds a run with another config.model.activation" in message
    assert (workdir / "config.json").read_text() == before

  def test_workdir_that_another_process_writes(self, scratch, tmp_path):
    command = (*TINY, f"--workdir={tmp_path}", *config_flags())
    with start(scratch, *command, seconds_per_step=60) as process:
      wait_for_step(process, 1)
      before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
      message = refused(scratch, *command)
      assert f"Another process writes '{tmp_path}' (process {process.pid} on " in message
      assert {path: path.read_bytes() for path in before} == before
      process.kill()

  @pytest.mark.parametrize("workdir", ["/dev/null", "/dev/null/run", "/proc/run"])
  def test_workdir_that_cannot_be_written(self, scratch, workdir):
    message = refused(scratch, *TINY, f"--workdir={workdir}", *config_flags(duration="1 steps"))
    assert f"The workdir '{workdir}' cannot be written" in message

  def test_without_workdir_a_fresh_one(self, scratch, tmp_path):
    """Its name is printed at the start and at the end, with the result."""
    process = start(scratch, *TINY, *config_flags(duration="1 steps"), cwd=tmp_path)
    status, output, errors = finish(process)
    assert status == 0, errors
    (workdir,) = (tmp_path / "runs").iterdir()
    assert workdir.name.startswith("bn_inception-")
    lines = output.splitlines()
    assert lines[0] == lines[-1] == f"workdir runs/{workdir.name}"
    assert lines[-2] == f"report runs/{workdir.name}/report.html"
    assert lines[-3].startswith("Top-1 accuracy on 355 held-out images is ")
    names = {path.name for path in workdir.iterdir()}
    assert names == {
      "checkpoints",
      "config.json",
      "data.json",
      "metrics.jsonl",
      "model.json",
      "plots",
      "report.html",
      "sessions.json",
      "summary.json",
      "tensorboard",
    }
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary.keys() == {
      "best",
      "command",
      "eval",
      "experiment",
      "finished",
      "machine",
      "seconds",
      "steps",
      "versions",
    }
    arguments = [CONFIG, *config_flags(duration="1 steps")]
    assert shlex.split(summary["command"]) == ["python", "-m", "speedpaper_jax.main", *arguments]


class TestDevices:
  """What JAX says where it finds no device, in each of its forms."""

  @pytest.mark.parametrize(
    ("platforms", "error", "message"),
    [
      ("cuda", AssertionError(), "cannot use what JAX_PLATFORMS=cuda names (there is none); leave"),
      (
        "nonsense",
        RuntimeError(
          "Unable to initialize backend 'nonsense': It is unknown. (set JAX_PLATFORMS='' to "
          "automatically choose an available backend)"
        ),
        "JAX_PLATFORMS=nonsense names (Unable to initialize backend 'nonsense': It is unknown);",
      ),
      (
        "",
        RuntimeError("Unable to initialize backend 'tpu': in use (you may need to …)"),
        "JAX cannot use its devices (Unable to initialize backend 'tpu': in use (you may need",
      ),
    ],
  )
  def test_is_told_in_a_sentence(self, monkeypatch, capsys, platforms, error, message):
    def fail(*arguments, **named):
      raise error

    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr("jax.devices", fail)
    monkeypatch.setattr(entry_point.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(entry_point.os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="1"):
      entry_point.run(fail, fail)
    told = capsys.readouterr().err
    assert told.startswith("error: JAX cannot use ")
    assert message in told

  def test_other_failures_stay_failures(self, monkeypatch):
    def fail(*arguments, **named):
      raise AssertionError("a fault of the program")

    monkeypatch.setattr(entry_point.signal, "signal", lambda number, handler: None)
    with pytest.raises(AssertionError, match="a fault of the program"):
      entry_point.run(fail, fail)

  @pytest.mark.slow
  def test_really(self, tmp_path):
    flags = ("--config=configs/bn_inception.py", f"--workdir={tmp_path / 'run'}")
    command = [sys.executable, "-m", "speedpaper_jax.main", *flags]
    environment = {**os.environ, "JAX_PLATFORMS": "nonsense"}
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: JAX cannot use what JAX_PLATFORMS=nonsense names (")
    assert ended.stderr.count(b"\n") == 1
