"""XLA's flag for the same bits at every start."""

import jax
import pytest
from commands import finish, start

from speedpaper_jax.compilation import determinism
from speedpaper_jax.errors import UserError

NAME = "--xla_gpu_deterministic_ops"
OTHERS = "--xla_dump_to=/tmp/x --xla_gpu_autotune_level=4"


@pytest.mark.parametrize(
  ("flags", "expected"),
  [
    ("", f"{NAME}=true"),
    (OTHERS, f"{OTHERS} {NAME}=true"),
    (f"{OTHERS} {NAME}_of_another", f"{OTHERS} {NAME}_of_another {NAME}=true"),
    *((each, each) for each in (NAME, f"{NAME}=true {OTHERS}", f"{NAME}=1", f"{NAME}=True")),
    (f"{NAME}=false {NAME}=true", f"{NAME}=false {NAME}=true"),  # the last one holds
  ],
)
def test_is_added_to_the_others(flags, expected):
  assert determinism.with_flag(flags) == expected


@pytest.mark.parametrize("value", ["false", "False", "0"])
def test_the_contrary_is_refused(value):
  with pytest.raises(UserError, match=rf"is the contrary of {NAME}={value.lower()} in XLA_FLAGS;"):
    determinism.with_flag(f"{OTHERS} {NAME}={value}")


def test_a_file_of_flags_is_left_alone():
  with pytest.raises(UserError, match=r"cannot add to XLA_FLAGS=flags\.txt, which names a file;"):
    determinism.with_flag("flags.txt")


@pytest.mark.parametrize(
  ("flags", "expected"),
  [("", False), (OTHERS, False), (f"{NAME}=false", False), (f"{OTHERS} {NAME}=1", True)],
)
def test_whether_it_is_on_is_what_the_environment_says(monkeypatch, flags, expected):
  monkeypatch.setenv("XLA_FLAGS", flags)
  assert determinism.is_on() == expected


def test_where_jax_has_its_devices_it_is_too_late(monkeypatch):
  jax.devices()
  monkeypatch.setenv("XLA_FLAGS", OTHERS)
  with pytest.raises(UserError, match=r"comes too late, .*; set XLA_FLAGS=--xla_gpu_deterministic"):
    determinism.turn_on()
  assert not determinism.is_on()


def test_what_is_on_already_is_never_too_late(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", NAME)
  determinism.turn_on()


@pytest.mark.parametrize("imports", ["", "import jax"])
def test_before_that_jax_takes_it(scratch, imports):
  """XLA would end the process if it did not know the flag."""
  program = (
    f"{imports}\n"
    "from speedpaper_jax.compilation import determinism\n"
    "determinism.turn_on()\n"
    "import jax\n"
    "print(jax.device_count(), determinism.is_on())"
  )
  status, output, errors = finish(start(scratch, "-c", program))
  assert (status, output) == (0, "1 True\n"), errors
