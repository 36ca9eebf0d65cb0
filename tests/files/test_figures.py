"""Figures that the user names for a command to draw."""

import pathlib

import matplotlib.figure
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import figures


def test_the_name_says_the_format(tmp_path):
  figures.write(tmp_path / "x.PNG", matplotlib.figure.Figure())
  assert (tmp_path / "x.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_name_without_a_format():
  with pytest.raises(UserError, match=r"'x.pgn' is no name of a figure; .*Did you mean 'png'\?"):
    figures.check_format(pathlib.Path("x.pgn"))
  figures.check_format(pathlib.Path("x.PDF"))
