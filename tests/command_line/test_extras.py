"""What is told where a package is missing."""

import importlib.metadata
import re

import pytest

from speedpaper_jax.command_line import extras
from speedpaper_jax.errors import UserError


@pytest.fixture(params=["installed", "a clone"])
def place(request, monkeypatch):
  """Where the package is."""

  def find(name):
    if request.param == "a clone":
      raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "distribution", find)
  return request.param


@pytest.mark.parametrize(
  ("extra", "commands"),
  [
    (
      "train",
      {
        "installed": 'pip install "speedpaper_jax[train]"',
        "a clone": "pip install -r requirements.txt",
      },
    ),
    (
      "torch",
      {
        "installed": 'pip install "speedpaper_jax[torch]"',
        "a clone": "pip install torch==2.13.0 safetensors==0.8.0",
      },
    ),
  ],
)
def test_an_extra_is_installed_by_its_name_or_in_a_clone_by_the_lock(place, extra, commands):
  assert extras.install(extra) == commands[place]


@pytest.mark.parametrize(("module", "extra"), [("PIL", "train"), ("jinja2", "reports")])
def test_the_package_and_its_command_are_told(module, extra):
  message = f"The package {module} is not installed; `{extras.install(extra)}` brings it."
  with pytest.raises(UserError, match=re.escape(message)), extras.named():
    raise ModuleNotFoundError(f"No module named '{module}'", name=module)


@pytest.mark.parametrize("name", ["no_such_module", "orbax.no_such_module", None])
def test_other_modules_are_left_alone(name):
  with pytest.raises(ModuleNotFoundError), extras.named():
    raise ModuleNotFoundError("It is not there.", name=name)
