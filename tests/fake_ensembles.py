"""In place of the evaluation of an ensemble's members: answers that are made up.

Each is wrong of some images; a part of the mistakes is a member's own, a part is that of all.
"""

import numpy as np
import past_runs

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.experiments import ensemble
from speedpaper_jax.inference import ensembles, members
from speedpaper_jax.inference.right_classes import RightClasses
from speedpaper_jax.storage.run_directory import RunDirectory

IMAGES, CLASSES = 200, 10


def evaluate(found, mesh, images, on_member):
  """In place of `members.evaluate`; takes the paths that `read` gives."""
  labels = np.arange(IMAGES) % CLASSES
  right = RightClasses.one_each(labels)
  shared = np.random.default_rng(100).normal(0, 0.7, (IMAGES, CLASSES))
  results, log_probabilities = [], []
  for seed, path in enumerate(found):
    logits = shared + np.random.default_rng(seed).normal(0, 0.7, (IMAGES, CLASSES))
    logits[np.arange(IMAGES), labels] += 2.2
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    log_probabilities.append(log_p.astype(np.float32))
    size = RunDirectory(path).read("config.json")["data"]["image_size"]
    preprocessing = Preprocessing(EvaluationCrop(size), DEFAULT)
    metrics = ensembles.evaluate(log_probabilities[-1], right)
    results.append(members.Result(path.name, 40, preprocessing, metrics))
    on_member(results[-1])
  names, numbers = [str(digit) for digit in range(CLASSES)], np.arange(IMAGES)
  return members.Ensemble(results, names, numbers, right, log_probabilities)


def install(patch):
  """Makes it the experiment's, until `patch` is undone."""
  patch.setattr(members, "read", lambda name, path: path)
  patch.setattr(members, "evaluate", evaluate)
  patch.setattr(ensemble, "_check_network", lambda name, config, data: None)


def write(path, config):
  """A directory of an ensemble that has ended; training is fake, too."""
  directory = RunDirectory(path)
  summary = ensemble.run(config, directory)
  directory.write("summary.json", {"experiment": "ensemble", **summary, **past_runs.PROVENANCE})
  return directory
