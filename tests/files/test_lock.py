"""One process writes a directory at a time."""

import contextlib
import errno
import fcntl
import os
import subprocess
import sys

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import lock

HOLD = """
import pathlib, sys
from speedpaper_jax.files import lock
with lock.held(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(directory):
  """Holds the lock until it is killed."""
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  )
  with process:
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()


def test_it_is_taken_again_after_its_end(tmp_path):
  for _ in range(2):
    with lock.held(tmp_path):
      assert [path.name for path in tmp_path.iterdir()] == [lock.NAME]
    assert not list(tmp_path.iterdir())


def test_it_ends_with_an_error_too(tmp_path):
  with pytest.raises(KeyError), lock.held(tmp_path):
    raise KeyError
  assert not list(tmp_path.iterdir())


def test_another_holder_is_told_of_and_nothing_changes(tmp_path):
  with lock.held(tmp_path):
    content = (tmp_path / lock.NAME).read_text()
    assert content.startswith(f"process {os.getpid()} on ")
    with pytest.raises(UserError) as refusal, lock.held(tmp_path):
      pass
    assert (tmp_path / lock.NAME).read_text() == content
  assert str(refusal.value) == (
    f"Another process writes '{tmp_path}' ({content}); wait for its end, or choose another "
    "--workdir."
  )


def test_a_process_that_is_killed_lets_go(tmp_path):
  with another_process(tmp_path) as process:
    with pytest.raises(UserError, match=f"process {process.pid} on "), lock.held(tmp_path):
      pass
    process.kill()
    process.wait()
    assert (tmp_path / lock.NAME).exists()
    with lock.held(tmp_path):
      pass


def test_on_another_machine_the_way_out_is_told(tmp_path, monkeypatch):
  with lock.held(tmp_path):
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "elsewhere")
    (tmp_path / lock.NAME).write_text("process 7 on node3")
    with pytest.raises(UserError, match=r"if node3 is lost, remove .*\.lock"), lock.held(tmp_path):
      pass


def test_a_holder_that_could_not_write_its_name(tmp_path):
  with lock.held(tmp_path):
    (tmp_path / lock.NAME).write_text("")
    with pytest.raises(UserError, match="does not say which"), lock.held(tmp_path):
      pass


def test_a_file_that_was_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
  """The holder before removes it between opening and locking."""
  flock, removed = fcntl.flock, []

  def remove_once_and_lock(descriptor, operation):
    if not removed:
      removed.append((tmp_path / lock.NAME).unlink())
    flock(descriptor, operation)

  monkeypatch.setattr(lock.fcntl, "flock", remove_once_and_lock)
  with lock.held(tmp_path):
    assert (tmp_path / lock.NAME).exists()
    with pytest.raises(UserError, match="Another process writes"), lock.held(tmp_path):
      pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys, number):
  def refuse(descriptor, operation):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(lock.fcntl, "flock", refuse)
  with lock.held(tmp_path):
    pass
  assert f"the file system of '{tmp_path}' has no locks" in capsys.readouterr().err


def test_other_errors_are_told(tmp_path, monkeypatch):
  def refuse(descriptor, operation):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  monkeypatch.setattr(lock.fcntl, "flock", refuse)
  with pytest.raises(OSError, match="Input/output"), lock.held(tmp_path):
    pass
