"""What the tests of several launchers need."""

import sys

import pytest


def write(path, script, *arguments):
  """Makes an executable that calls a Python script with `arguments` and its own; gives its path."""
  words = " ".join(map(str, (sys.executable, "-I", "-S", script, *arguments)))
  path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
  path.chmod(0o755)
  return path


@pytest.fixture(scope="session")
def write_program():
  return write
