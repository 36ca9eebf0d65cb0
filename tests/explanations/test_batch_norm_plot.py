"""The figure of one feature's way through Algorithm 1 and back."""

import numpy as np
import pytest
from PIL import Image

from speedpaper_jax.errors import UserError
from speedpaper_jax.explanations import batch_norm_plot, inputs


@pytest.mark.parametrize("examples", [2, 20])
def test_a_figure(tmp_path, examples):
  batch_norm_plot.write(tmp_path / "bn.png", inputs.draw(examples, seed=0, epsilon=0.0))
  with Image.open(tmp_path / "bn.png") as figure:
    assert figure.size == (1650, 1110)
    assert len(np.unique(np.asarray(figure.convert("L")))) > 10


def test_a_directory_that_is_not_there(tmp_path):
  with pytest.raises(UserError, match=r"bn.png cannot be written: No such file or directory\."):
    batch_norm_plot.write(tmp_path / "missing" / "bn.png", inputs.draw(2, seed=0, epsilon=0.0))
