"""What is kept of the answers to held-out images."""

import numpy as np
import pytest

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.sources import Split
from speedpaper_jax.inference.evaluation import Answers
from speedpaper_jax.inference.recorded_answers import record
from speedpaper_jax.storage.run_directory import RunDirectory

SIZE, COUNT = 4, 40


class Records(list):
  def short_name(self, index):
    return f"photograph {index}"


@pytest.fixture
def split():
  """Each image has one value, its number."""
  images = [np.full((SIZE, SIZE, 3), number, np.uint8) for number in range(COUNT)]
  records = Records({"image": image, "label": 0} for image in images)
  return Split(records, num_classes=2, class_names=("a", "b"))


@pytest.fixture
def answers():
  """To all but the first image; every other one is wrong, and the later the surer."""
  numbers = np.arange(1, COUNT)
  predicted = numbers % 2
  surer, less = 0.5 + numbers / 100, 0.5 - numbers / 100
  p = np.where(predicted, [less, surer], [surer, less]).T
  return Answers(numbers, np.zeros_like(numbers), np.log(p).astype(np.float32))


def recorded(tmp_path, answers, split):
  directory = RunDirectory(tmp_path)
  record(directory, 7, answers, split, EvaluationCrop(SIZE))
  return directory.read("predictions.json"), directory.read_arrays()["mistake_pixels"]


def shown(content):
  rows = {image["shown"]: image["name"] for image in content["images"] if "shown" in image}
  return [rows[row] for row in range(len(rows))]


def test_each_answer_and_the_worst_mistakes(tmp_path, answers, split):
  content, pixels = recorded(tmp_path, answers, split)
  assert content["step"] == 7
  assert [image["name"] for image in content["images"]] == [
    f"photograph {number}" for number in range(1, COUNT)
  ]
  worst = [39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9]
  assert shown(content) == [f"photograph {number}" for number in worst]
  np.testing.assert_array_equal(pixels[:, 0, 0, 0], worst)


def test_an_image_that_has_gone_since_is_not_shown(tmp_path, answers, split):
  split.records[37]["image"] = b"no image"
  content, pixels = recorded(tmp_path, answers, split)
  worst = [39, 35, 33, 31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9]
  assert shown(content) == [f"photograph {number}" for number in worst]
  np.testing.assert_array_equal(pixels[:, 0, 0, 0], worst)
  assert len(content["images"]) == COUNT - 1


def test_no_mistake(tmp_path, answers, split):
  perfect = Answers(answers.numbers, answers.predicted, answers.log_probabilities)
  content, pixels = recorded(tmp_path, perfect, split)
  assert not shown(content)
  assert pixels.shape == (0, SIZE, SIZE, 3)
