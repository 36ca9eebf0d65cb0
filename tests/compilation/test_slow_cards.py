"""The warning of cards for which XLA compiles for minutes, with devices that are made up."""

import types

import jax
import pytest

from speedpaper_jax import errors
from speedpaper_jax.compilation import slow_cards

CARD = "NVIDIA RTX PRO 6000 Blackwell Server Edition"
CUDA_12 = "PJRT C API\ncuda 12090"


def device(kind=CARD, platform_version=CUDA_12):
  client = types.SimpleNamespace(platform_version=platform_version)
  return types.SimpleNamespace(device_kind=kind, client=client)


@pytest.fixture(autouse=True)
def versions(monkeypatch):
  monkeypatch.setattr(errors, "_printed_once", set())
  set_jaxlib(monkeypatch, 0, 10, 2)


def set_jaxlib(monkeypatch, *numbers):
  version = types.SimpleNamespace(__version__=".".join(map(str, numbers)), __version_info__=numbers)
  monkeypatch.setattr(slow_cards, "version", version)


def test_is_told_once_with_the_place_where_programs_are_kept(capsys):
  for _ in range(2):
    slow_cards.warn(device())
  assert capsys.readouterr().err == (
    f"warning: compiling may take minutes, as was reported of {CARD} with jaxlib 0.10.2 for CUDA "
    f"12; it is done once, since {jax.config.jax_compilation_cache_dir} keeps the programs for "
    f"later starts.\n"
  )


def test_where_none_are_kept_a_place_is_asked_for(capsys, monkeypatch):
  config = types.SimpleNamespace(jax_compilation_cache_dir=None)
  monkeypatch.setattr(slow_cards, "jax", types.SimpleNamespace(config=config))
  slow_cards.warn(device())
  assert "; name a directory with JAX_COMPILATION_CACHE_DIR, which " in capsys.readouterr().err


@pytest.mark.parametrize(
  "other",
  [
    device("NVIDIA H200"),
    device("NVIDIA RTX 6000 Ada Generation"),
    device(platform_version="PJRT C API\ncuda 13000"),
    device(platform_version="rocm 60300"),
    device("cpu", "cpu"),
  ],
  ids=["another card", "of another kind", "CUDA 13", "no CUDA", "a CPU"],
)
def test_of_others_nothing_is_told(other, capsys):
  slow_cards.warn(other)
  assert capsys.readouterr().err == ""


def test_of_a_later_jaxlib_nothing_is_told(capsys, monkeypatch):
  set_jaxlib(monkeypatch, 0, 11, 1)
  slow_cards.warn(device())
  assert capsys.readouterr().err == ""
