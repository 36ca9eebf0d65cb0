"""In place of `training.train.run`: learning curves without learning.

A network with batch normalization learns four times as fast, everything learns in proportion to its
rate, and without it a rate of 0.02 and more diverges. Sigmoids need batch normalization. From other
weights it learns twice as fast as from scratch, and so it does with residual connections.
"""

from speedpaper_jax import experiments
from speedpaper_jax.experiments.arms import Arm
from speedpaper_jax.reports import present
from speedpaper_jax.storage.learning_curves import LearningCurve
from speedpaper_jax.training import loop

STEPS = (10, 20, 30, 40)
DIVERGES_FROM = 0.02


def run(config, directory):
  """Leaves what a run leaves, without checkpoints and plots."""
  rate, has_batch_norm = config.optimizer.learning_rate, config.batch_norm.enabled
  directory.start(config)
  directory.write("model.json", {"num_classes": 10})
  learns = has_batch_norm or config.model.activation != "sigmoid"
  speed = (80 if has_batch_norm else 20) * rate * learns * (1 + config.seed / 10)
  speed *= 2 if config.init_from else 1
  speed *= 2 if "resnet" in config.model.name else 1
  for step in STEPS:
    if step > 20 and not has_batch_norm and rate >= DIVERGES_FROM:
      raise loop.DivergenceError(f"The loss is nan at step {step}.", step)
    top1 = min(0.1 + speed * step / 10, 0.95 if has_batch_norm else 0.9)
    metrics = {"loss": 2 * (1 - top1), "top1": top1, "top5": 1.0}
    directory.append_metrics({"step": step, "split": "train", **metrics, "top1": top1 + 0.02})
    directory.append_metrics({"step": step, "split": "eval", **metrics, "count": 100})
  summary = {"steps": STEPS[-1], "seconds": 1.0, "eval": {**metrics, "count": 100}}
  if config.evaluate_training_images:
    summary["train"] = {**metrics, "top1": top1 + 0.02, "count": 900}
  return summary


def report(config, directory):
  """Does all runs of a comparison, and returns what its report shows."""
  summary = experiments.get(config.experiment)(config, directory)
  directory.write("summary.json", {"experiment": config.experiment, **summary})
  return present(directory)


def curve(*top1, diverged_at=None):
  """Evaluations every ten steps."""
  steps = [10 * number for number in range(1, len(top1) + 1)]
  return LearningCurve(steps, top1, [1.0] * len(top1), train_top1=None, diverged_at=diverged_at)


def arm(*by_seed, rate_factor=1.0):
  return Arm(rate_factor, {rate_factor: by_seed[0]}, by_seed)
