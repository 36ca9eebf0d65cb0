"""Image files → probabilities, whatever the batch size and the number of devices."""

import dataclasses
import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import model_directory
from speedpaper_jax.inference.prediction import predict
from speedpaper_jax.models import registry

NAMES = ("one", "n02119789", "three", "four", "five", "six", "seven")
PREPROCESSING = Preprocessing(
  EvaluationCrop(8, 0.8, "short_side", "bicubic"),
  Normalization("BGR", (104.0, 117.0, 123.0), (60.0, 50.0, 40.0)),
)
COUNT = 19


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", tiny.create)
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.write_model_directory(path, NAMES, PREPROCESSING)
    return model_directory.load(path, parallel.make_mesh())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """Files of many sizes."""
  directory = tmp_path_factory.mktemp("images")
  generator = np.random.default_rng(0)
  paths = []
  for index in range(COUNT):
    height, width = generator.integers(1, 30, 2)
    pixels = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
    paths.append(directory / f"{index}.png")
    Image.fromarray(pixels).save(paths[-1])
  return paths


@pytest.fixture(scope="module")
def expected(model, images):
  """Probabilities [COUNT, 7], one image at a time and without what the package has for it."""
  rows = []
  for path in images:
    pixels = PREPROCESSING.crop(path.read_bytes())
    normalised = (pixels[..., ::-1] - np.array([104, 117, 123.0])) / np.array([60, 50, 40.0])
    logits = model.network.apply(model.variables, jnp.float32(normalised[None]), train=False)[0]
    rows.append(np.exp(logits - np.logaddexp.reduce(logits)))
  return np.stack(rows)


def probabilities(answers):
  """By label."""
  table = np.full((len(answers), len(NAMES)), np.nan)
  for row, answer in zip(table, answers, strict=True):
    for each in answer.candidates:
      row[each.label] = each.probability
  return table


@pytest.mark.parametrize("batch_size", [1, 8, 16, 100])
def test_any_batch_size(model, images, expected, batch_size):
  answers = list(predict(model, parallel.make_mesh(), images, batch_size=batch_size, top=7))
  assert [answer.path for answer in answers] == images
  np.testing.assert_allclose(probabilities(answers), expected, rtol=1e-4)


def test_the_time_is_that_of_an_image_of_its_batch(model, images):
  answers = list(predict(model, parallel.make_mesh(), images, batch_size=8, top=1))
  assert all(0 < answer.milliseconds < 10_000 for answer in answers)
  batches = [answers[start : start + 8] for start in range(0, len(answers), 8)]
  assert all(len({answer.milliseconds for answer in batch}) == 1 for batch in batches)


def test_images_are_told_apart(expected):
  assert np.ptp(expected, axis=0).max() > 0.05


def test_the_most_probable_classes_come_first(model, images, expected):
  answers = predict(model, parallel.make_mesh(), images, batch_size=8, top=3)
  for answer, row in zip(answers, expected, strict=True):
    assert [each.label for each in answer.candidates] == list(np.argsort(-row)[:3])


def test_more_classes_than_there_are(model, images):
  (answer,) = predict(model, parallel.make_mesh(), images[:1], batch_size=8, top=99)
  assert {each.name for each in answer.candidates} == {*NAMES, "kit fox"} - {"n02119789"}


def test_classes_without_names(model, images):
  description = dataclasses.replace(model.description, class_names=())
  model = dataclasses.replace(model, description=description)
  (answer,) = predict(model, parallel.make_mesh(), images[:1], batch_size=8, top=1)
  assert answer.candidates[0].name == f"class {answer.candidates[0].label}"


def test_files_that_cannot_be_read_are_told_and_left_out(model, images, expected, tmp_path, capsys):
  text, cut = tmp_path / "text.jpg", tmp_path / "cut.png"
  text.write_text("no image")
  cut.write_bytes(images[0].read_bytes()[:60])
  paths = [images[0], tmp_path / "missing.png", text, images[1], cut]
  answers = list(predict(model, parallel.make_mesh(), paths, batch_size=8, top=7))
  assert [answer.candidates is None for answer in answers] == [False, True, True, False, True]
  whole = [answer for answer in answers if answer.candidates is not None]
  np.testing.assert_allclose(probabilities(whole), expected[:2], rtol=1e-4)
  warnings = sorted(capsys.readouterr().err.splitlines())
  assert len(warnings) == 3
  assert warnings[0].startswith(f"warning: '{cut}' cannot be decoded and is left out: ")
  assert warnings[1:] == [
    f"warning: '{tmp_path}/missing.png' cannot be read and is left out: No such file or directory.",
    f"warning: '{text}' cannot be decoded and is left out: it is no JPEG, PNG, WEBP, GIF, BMP "
    "file.",
  ]


def test_what_is_no_file_is_told_and_left_out(model, images, tmp_path, capsys):
  """A pipe would be waited for without end."""
  os.mkfifo(tmp_path / "pipe.jpg")
  too_long = tmp_path / ("x" * 300 + ".jpg")
  paths = [tmp_path / "pipe.jpg", images[0], pathlib.Path("/dev/zero"), too_long]
  answers = list(predict(model, parallel.make_mesh(), paths, batch_size=8, top=7))
  assert [answer.candidates is None for answer in answers] == [True, False, True, True]
  assert sorted(capsys.readouterr().err.splitlines()) == sorted(
    f"warning: '{path}' cannot be read and is left out: {reason}."
    for path, reason in (
      (paths[0], "it is no regular file"),
      (paths[2], "it is no regular file"),
      (too_long, "File name too long"),
    )
  )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_told_and_left_out(model, images, value, capsys):
  """Where the weights of a class are damaged, so are the probabilities of all."""
  bias = model.variables["params"]["logits"]["bias"].at[2].set(value)
  params = {**model.variables["params"]}
  params["logits"] = {**params["logits"], "bias": bias}
  damaged = dataclasses.replace(model, variables={**model.variables, "params": params})
  answers = list(predict(damaged, parallel.make_mesh(), images[:2], batch_size=8, top=7))
  if value == -np.inf:  # a class that is impossible is an answer
    assert [answer.candidates[-1].probability for answer in answers] == [0, 0]
    return
  assert [(answer.path, answer.candidates) for answer in answers] == [
    (path, None) for path in images[:2]
  ]
  assert capsys.readouterr().err.splitlines() == [
    f"warning: '{path}' is left out: the network's answer for it is no finite number; its weights "
    "may be damaged."
    for path in images[:2]
  ]


def test_other_images_are_answered_beside_one_without_a_finite_answer(model, images, tmp_path):
  """A black image, on which this network's first filters overflow."""
  Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
  paths = [images[0], tmp_path / "black.png", images[1]]

  class Overflowing(tiny.TinyNetwork):
    def __call__(self, images, *, train):
      logits = super().__call__(images, train=train)
      return jnp.where(jnp.ptp(images[..., 0], (1, 2)) == 0, jnp.nan, 0.0)[:, None] + logits

  network = Overflowing(model.network.num_classes, model.network.settings)
  overflowing = dataclasses.replace(model, network=network)
  answers = list(predict(overflowing, parallel.make_mesh(), paths, batch_size=8, top=7))
  assert [answer.candidates is None for answer in answers] == [False, True, False]


def test_a_network_without_classes(model, images):
  description = dataclasses.replace(model.description, num_classes=0, class_names=())
  without = dataclasses.replace(model, description=description)
  with pytest.raises(UserError, match="bn_inception was saved without classes to predict"):
    list(predict(without, parallel.make_mesh(), images, batch_size=8, top=5))
