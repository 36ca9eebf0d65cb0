"""Figures that the user names for a command to draw; as `output_files` for all others."""

import io
import pathlib

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.files import fonts, output_files


def check_format(path: pathlib.Path) -> None:
  """Raises a UserError unless figures can be written in the format that the file's name has."""
  formats = sorted(FigureCanvasBase.get_supported_filetypes())
  suffix = path.suffix.lower().removeprefix(".")
  if suffix not in formats:
    raise UserError(
      f"'{path}' is no name of a figure; end it in .png.{did_you_mean(suffix, formats)}"
    )


def write(path: pathlib.Path, figure: Figure) -> None:
  """Writes a figure in the format that the file's name has, whole or not at all.

  Raises:
    UserError: it cannot be written.
  """
  fonts.make_legible(figure)
  drawn = io.BytesIO()
  figure.savefig(drawn, format=path.suffix.lower().removeprefix("."))
  output_files.write_bytes(path, drawn.getvalue())
