"""A whole split as two arrays."""

import numpy as np
import pytest

from speedpaper_jax.data import in_memory
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.sources import Split, open_split
from speedpaper_jax.errors import UserError


def split_of(*images):
  records = [{"image": image, "label": 2 * index} for index, image in enumerate(images)]
  return Split(records, num_classes=10, class_names=tuple("0123456789"))


def random_image(seed, *shape):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_images_and_labels_in_the_split_s_order():
  first, second = random_image(0, 4, 6, 3), random_image(1, 4, 6, 3)
  images, labels = in_memory.load(split_of(first, second))
  assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
  np.testing.assert_array_equal(images, [first, second])
  np.testing.assert_array_equal(labels, [0, 2])


def test_grey_images_become_rgb():
  images, _ = in_memory.load(split_of(random_image(0, 4, 4, 1)))
  assert images.shape == (1, 4, 4, 3)
  assert (images == images[..., :1]).all()


def test_they_are_resized_as_for_evaluation():
  first, second = random_image(0, 4, 6, 3), random_image(1, 9, 5, 3)
  images, _ = in_memory.load(split_of(first, second), image_size=8)
  np.testing.assert_array_equal(images, [EvaluationCrop(8)(first), EvaluationCrop(8)(second)])


@pytest.mark.parametrize("image_size", [None, 8])
def test_a_damaged_image_is_told(image_size):
  split = split_of(random_image(0, 4, 4, 3), b"no image")
  with pytest.raises(UserError, match=r"^Record 1 cannot be decoded \(it is no .*\); prepare the"):
    in_memory.load(split, image_size)


def test_a_damaged_image_is_told_by_its_name(tmp_path):
  for name in ("ants/1.png", "ants/2.png", "bees/1.png"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"no image")
  split = open_split("folder", "train+test", str(tmp_path))
  with pytest.raises(UserError, match=rf"^The image '{tmp_path}/.*\.png' cannot be decoded \("):
    in_memory.load(split)


@pytest.mark.parametrize(("image_size", "side"), [(None, 8), (16, 16)])
def test_the_embedded_digits(scratch, image_size, side):
  split = open_split("digits", "test", str(scratch / "data"))
  images, labels = in_memory.load(split, image_size)
  assert images.shape == (len(split), side, side, 3)
  assert set(labels) == set(range(10))
