"""Compiled programs are kept where there is a place, and kept anew where they are damaged."""

import os
import warnings

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from speedpaper_jax.compilation import cache


@pytest.fixture
def settings():
  """Leaves JAX's settings as they were."""
  names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
  before = {name: getattr(jax.config, name) for name in names}
  jax_cache.reset_cache()
  with warnings.catch_warnings():
    warnings.simplefilter("always")
    yield
  for name, value in before.items():
    jax.config.update(name, value)
  jax_cache.reset_cache()


@pytest.fixture
def directory(settings, monkeypatch, tmp_path):
  """A cache of its own."""
  monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  cache.set_up()
  return tmp_path


def compile_anew():
  """Compiles a program that JAX has in its files alone."""

  def some_step(x):
    return 3 * x + 1

  assert jax.jit(some_step)(2.0) == 7


def files(directory):
  return {path.name: path.read_bytes() for path in directory.glob("jit_some_step-*-cache")}


@pytest.mark.parametrize(
  "damage",
  [
    pytest.param(lambda content: content[:100], id="truncated"),
    pytest.param(lambda content: b"", id="empty"),
    pytest.param(lambda content: b"\0" * len(content), id="zeros"),
    pytest.param(lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], id="flip"),
  ],
)
def test_a_damaged_program_is_told_once_and_kept_anew(directory, capsys, damage):
  compile_anew()
  ((name, content),) = files(directory).items()
  (directory / name).write_bytes(damage(content))
  (directory / "jit_another-1-cache").write_bytes(b"damaged")

  compile_anew()
  assert capsys.readouterr().err == (
    "warning: the kept program jit_some_step is damaged; it is compiled and kept anew.\n"
  )
  assert len(files(directory)[name]) > 100
  assert (directory / "jit_another-1-cache").exists()

  compile_anew()
  assert capsys.readouterr().err == ""


def test_whole_programs_of_the_same_name_stay(directory, capsys):
  compile_anew()
  ((name, content),) = files(directory).items()
  (directory / "jit_some_step-2-cache").write_bytes(content)
  (directory / name).write_bytes(content[:-1])
  compile_anew()
  assert "kept anew" in capsys.readouterr().err
  assert files(directory)["jit_some_step-2-cache"] == content


@pytest.mark.usefixtures("settings")
class TestWithoutAPlace:
  def test_of_the_variable(self, monkeypatch, capsys):
    monkeypatch.setenv(cache.VARIABLE, "/proc/cache")
    jax.config.update("jax_compilation_cache_dir", "/proc/cache")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    cache.set_up()
    compile_anew()
    message = capsys.readouterr().err
    assert message.startswith("warning: compiled programs are not kept (")
    assert "'/proc/cache'); name a place with JAX_COMPILATION_CACHE_DIR.\n" in message
    assert message.count("\n") == 1

  @pytest.mark.parametrize("place", ["/proc", "/dev/null", "/proc/missing"])
  def test_of_the_users_cache(self, monkeypatch, capsys, place):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    before = jax.config.jax_compilation_cache_dir
    cache.set_up()
    assert jax.config.jax_compilation_cache_dir == before
    message = capsys.readouterr().err
    assert f": '{place}" in message
    assert message.endswith("; name a place with JAX_COMPILATION_CACHE_DIR.\n")

  def test_without_a_home(self, monkeypatch, capsys):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as of an unknown user
    cache.set_up()
    assert "are not kept (Could not determine home directory)" in capsys.readouterr().err


@pytest.mark.usefixtures("settings")
def test_other_warnings_are_shown_as_ever(monkeypatch):
  shown = []
  monkeypatch.setattr(warnings, "showwarning", lambda message, *more: shown.append(str(message)))
  cache.set_up()
  cache.set_up()
  warnings.warn("Something else.", stacklevel=1)
  assert shown == ["Something else."]
