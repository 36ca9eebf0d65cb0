"""What a network says of each held-out image, kept with its run for the report."""

import numpy as np

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.sources import Split
from speedpaper_jax.inference import worst_images
from speedpaper_jax.inference.evaluation import Answers
from speedpaper_jax.inference.right_classes import RightClasses
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
  predicted = answers.predicted
  probability = answers.probability_of(predicted)
  class_probability = answers.probability_of(answers.labels)
  right = RightClasses.one_each(answers.labels)
  worst = worst_images.find(answers.log_probabilities, right, MOST_MISTAKES).tolist()
  # A file may have gone since the evaluation, which is no reason to lose a run's result.
  found = worst_images.pixels(split, answers.numbers[worst], crop)
  seen = [place for place in worst if int(answers.numbers[place]) in found]
  shown = {place: row for row, place in enumerate(seen)}
  images = [
    {
      "name": split.records.short_name(int(number)),
      "class": int(answers.labels[place]),
      "predicted": int(predicted[place]),
      "probability": float(probability[place]),
      "class_probability": float(class_probability[place]),
      **({"shown": shown[place]} if place in shown else {}),
    }
    for place, number in enumerate(answers.numbers)
  ]
  nothing = np.zeros((0, *crop.shape), np.uint8)
  directory.write_arrays({"mistake_pixels": np.stack(list(found.values())) if found else nothing})
  directory.write(PREDICTIONS, {"step": step, "images": images})
