"""Real images to compare networks on."""

import numpy as np
import pytest
from PIL import Image

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import images


@pytest.fixture
def folder(tmp_path):
  """Ten images, of two kinds, in sub-folders; image i has the colour (i, 0, 0)."""
  for i in range(10):
    path = tmp_path / f"class_{i % 2}" / f"image_{i}.{'png' if i % 3 else 'PNG'}"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), (i, 0, 0)).save(path)
  (tmp_path / "notes.txt").write_text("no image")
  return tmp_path


class TestFolder:
  def test_images_are_spread_over_their_names(self, folder):
    pictures = images.of_folder(folder, 5, 16)
    assert (pictures.shape, pictures.dtype) == ((5, 16, 16, 3), np.uint8)
    assert pictures[:, 0, 0, 0].tolist() == [0, 4, 8, 3, 7]

  def test_too_few(self, folder):
    with pytest.raises(UserError, match="has 10 images; the comparison takes 11"):
      images.of_folder(folder, 11, 16)

  def test_no_folder(self, folder):
    with pytest.raises(UserError, match=r"There is no folder '.*/none'; name one with images"):
      images.of_folder(folder / "none", 1, 16)

  def test_a_damaged_one(self, folder):
    (folder / "class_0" / "image_0.PNG").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"^The image '.*' is damaged"):
      images.of_folder(folder, 10, 16)


class TestPhotograph:
  def test_always_the_same(self):
    pictures = images.of_photograph(4, 32)
    assert (pictures.shape, pictures.dtype) == ((4, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(pictures, images.of_photograph(4, 32))

  def test_in_colour_and_none_like_another(self):
    pictures = images.of_photograph(4, 32).astype(float)
    assert np.mean(np.abs(pictures[..., 0] - pictures[..., 2])) > 5
    for i in range(4):
      for j in range(i):
        assert np.mean(np.abs(pictures[i] - pictures[j])) > 10
