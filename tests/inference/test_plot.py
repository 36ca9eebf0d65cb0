"""The figure of images and their classes."""

import numpy as np
import pytest
from PIL import Image

from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import plot
from speedpaper_jax.inference.prediction import Candidate

CANDIDATES = [Candidate(3, "a price of 5$ or 6$", 0.75), Candidate(1, "b", 0.25)]


@pytest.fixture
def answers(tmp_path):
  """A tall image and a large one, in another mode."""
  Image.fromarray(np.full((60, 20, 3), 90, np.uint8)).save(tmp_path / "$tall$.png")
  Image.fromarray(np.full((900, 1200), 90, np.uint8)).save(tmp_path / "large.jpg")
  return [(tmp_path / name, CANDIDATES) for name in ("$tall$.png", "large.jpg")]


@pytest.mark.parametrize("rows", [1, 2])
def test_one_row_an_image(answers, tmp_path, rows):
  plot.write(tmp_path / "figure.png", answers[:rows])
  with Image.open(tmp_path / "figure.png") as figure:
    assert figure.size == (960, 288 * rows)
    assert len(np.unique(np.asarray(figure.convert("L")))) > 10


def test_names_in_other_scripts_and_for_terminals(answers, tmp_path):
  """Whether a font has the characters or not, nothing is drawn as a box, of which warnings tell."""
  names = ("猫", "кошка", "\x1b[31mred")
  candidates = [Candidate(label, name, 0.3) for label, name in enumerate(names)]
  image = answers[0][0].rename(tmp_path / "玫瑰.png")
  plot.write(tmp_path / "figure.png", [(image, candidates)])
  assert (tmp_path / "figure.png").exists()


def test_a_directory_that_is_not_there(answers, tmp_path):
  with pytest.raises(UserError, match=r"x.png cannot be written: No such file or directory\."):
    plot.write(tmp_path / "missing" / "x.png", answers)
