"""What a summary says of how a run was made."""

import datetime
import getpass
import shlex
import socket

import jax
import pytest

import speedpaper_jax
from speedpaper_jax.command_line import host_flags
from speedpaper_jax.storage import provenance


class TestCommand:
  @pytest.mark.parametrize(
    ("arguments", "expected"),
    [
      ([], "python -m speedpaper_jax.main"),
      (["--config=configs/bn_inception.py:data=mnist"], None),
      (
        ["--config.duration=4 epochs"],
        "python -m speedpaper_jax.main --config.duration='4 epochs'",
      ),
      (["--workdir", "my runs/1"], "python -m speedpaper_jax.main --workdir 'my runs/1'"),
      (["--config.model.residual_scales=(0.1, 0.2)"], None),
      (["--config.init_from=it's; rm -r $HOME"], None),
      (["--noconfig.data.augmentation.flip"], None),
    ],
  )
  def test_a_shell_reads_the_same_arguments(self, arguments, expected):
    command = provenance.command(["/home/somebody/speedpaper_jax/main.py", *arguments])
    assert shlex.split(command) == ["python", "-m", "speedpaper_jax.main", *arguments]
    assert expected is None or command == expected

  @pytest.mark.parametrize(
    "one_of_several",
    [
      ["--coordinator_address=10.0.0.2:8476", "--process_count=2", "--process_index=0"],
      ["-coordinator_address", "10.0.0.2:8476", "--process_count", "2", "--process_index", "0"],
      ["--patience=60"],
    ],
  )
  def test_what_says_which_process_it_is_does_not_belong_to_the_run(self, one_of_several):
    config, workdir = "--config=configs/bn_inception.py", "--workdir=runs/patience"
    command = provenance.command(["main.py", config, *one_of_several, workdir], host_flags.NAMES)
    assert command == f"python -m speedpaper_jax.main {config} {workdir}"


def test_versions():
  versions = provenance.versions()
  assert list(versions) == ["python", "jax", "jaxlib", "flax", "optax", "numpy", "speedpaper_jax"]
  assert versions["jax"] == jax.__version__
  assert versions["speedpaper_jax"] == speedpaper_jax.__version__


class TestMachine:
  def test_says_what_it_is_and_not_whose(self):
    machine = provenance.machine()
    assert machine["devices"] == "8 × cpu"
    assert int(machine["cores"]) > 0
    assert machine["memory"].endswith(" GiB")
    assert all(machine.values())
    for secret in (socket.gethostname(), getpass.getuser()):
      assert secret not in " ".join(machine.values())

  @pytest.mark.parametrize(
    ("content", "expected"),
    [
      ("processor : 0\nmodel name\t: Some CPU: 2 GHz\nmodel name\t: another\n", "Some CPU: 2 GHz"),
      ("processor : 0\n", "architecture"),
      (None, "architecture"),
    ],
  )
  def test_processor(self, tmp_path, monkeypatch, content, expected):
    monkeypatch.setattr(provenance, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(provenance.platform, "processor", lambda: "")
    monkeypatch.setattr(provenance.platform, "machine", lambda: "architecture")
    if content is not None:
      (tmp_path / "cpuinfo").write_text(content)
    assert provenance.machine()["processor"] == expected

  def test_system_that_is_not_linux(self, monkeypatch):
    def refuse():
      raise OSError

    monkeypatch.setattr(provenance.platform, "freedesktop_os_release", refuse)
    monkeypatch.setattr(provenance.platform, "system", lambda: "Darwin")
    assert provenance.machine()["system"].startswith("Darwin ")


def test_now_is_in_utc():
  now = datetime.datetime.fromisoformat(provenance.now())
  assert now.utcoffset() == datetime.timedelta(0)
  assert abs(datetime.datetime.now(datetime.UTC) - now) < datetime.timedelta(minutes=1)
