"""Directories of training runs that have ended, without any training."""

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.storage.run_directory import RunDirectory

PROVENANCE = {
  "command": "python -m speedpaper_jax.main --config=configs/bn_inception.py",
  "finished": "2026-11-21T18:19:47+00:00",
  "machine": {"devices": "1 × cpu", "processor": "a processor", "cores": "2"},
  "versions": {"python": "3.11.7", "jax": "0.10.2"},
}
STEPS = (2, 4, 6)


def write(path, *, experiment="train", top1=0.9, class_names=("nought", "one"), **changes):
  """Writes a run of six steps with three evaluations, the last of which gives `top1`.

  In `changes` of the config, `__` stands for a dot.
  """
  config = train_config()
  config.experiment = experiment
  config.update_from_flattened_dict({key.replace("__", "."): changes[key] for key in changes})
  directory = RunDirectory(path)
  directory.start(config)
  description = {
    "name": config.model.name,
    "dialect": "paper",
    "num_classes": len(class_names),
    "class_names": list(class_names),
  }
  directory.write("model.json", description)
  for step in STEPS:
    metrics = {"loss": 2 / step, "top1": top1 * step / 6, "top5": 1.0}
    speed = {"images_per_second": 100.0 + step, "seconds": 10.0 * step}
    directory.append_metrics({"step": step, "split": "train", **metrics, **speed})
    directory.append_metrics({"step": step, "split": "eval", **metrics, "count": 1797})
  evaluation = {"top1": top1, "top5": 1.0, "loss": 1 / 3, "count": 1797}
  summary = {"experiment": experiment, "steps": 6, "seconds": 162.0, "eval": evaluation}
  directory.write("summary.json", {**summary, **PROVENANCE})
  return directory


def make_old(directory):
  """Takes away what earlier versions did not write."""
  summary = directory.read("summary.json")
  directory.write("summary.json", {key: summary[key] for key in summary.keys() - PROVENANCE.keys()})


def let_diverge(directory):
  """Makes it a run of a sweep whose loss was not finite at step 5."""
  summary = directory.read("summary.json")
  del summary["eval"]
  directory.write("summary.json", {**summary, "steps": 5, "diverged_at": 5})


def interrupt(directory):
  """Takes away what only the end of a run writes."""
  (directory.path / "summary.json").unlink()
