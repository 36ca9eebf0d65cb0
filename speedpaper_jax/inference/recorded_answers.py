"""What a network says of each held-out image, kept with its run for the report."""

import contextlib

import numpy as np

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.decode import DecodeError
from speedpaper_jax.data.sources import Split
from speedpaper_jax.inference.evaluation import Answers
from speedpaper_jax.storage.run_directory import MOST_MISTAKES, PREDICTIONS, RunDirectory


def record(
  directory: RunDirectory, step: int, answers: Answers, split: Split, crop: EvaluationCrop
) -> None:
  """Writes predictions.json, and the worst mistakes' pixels into arrays.npz.

  The worst mistakes are those where the network is surest of a wrong class.

  Args:
    directory: of the run.
    step: that the network has been trained for.
    answers: to the images of the split.
    split: held-out images.
    crop: what the network sees of them.

  Raises:
    UserError: the directory cannot be written.
  """
  wrong = np.flatnonzero(answers.predicted != answers.label)
  worst = wrong[np.argsort(-answers.probability[wrong], kind="stable")][:MOST_MISTAKES]
  shown: dict[int, int] = {}
  pixels = np.zeros((len(worst), *crop.shape), np.uint8)
  for place in worst.tolist():
    # A file may have gone since the evaluation, which is no reason to lose a run's result.
    with contextlib.suppress(DecodeError):
      image = crop(split.records[int(answers.numbers[place])]["image"])
      pixels[len(shown)] = np.clip(np.round(image), 0, 255)
      shown[place] = len(shown)
  images = [
    {
      "name": split.records.short_name(int(number)),
      "class": int(answers.label[place]),
      "predicted": int(answers.predicted[place]),
      "probability": float(answers.probability[place]),
      "class_probability": float(answers.class_probability[place]),
      **({"shown": shown[place]} if place in shown else {}),
    }
    for place, number in enumerate(answers.numbers)
  ]
  directory.write_arrays({"mistake_pixels": pixels[: len(shown)]})
  directory.write(PREDICTIONS, {"step": step, "images": images})
