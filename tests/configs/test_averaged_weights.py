"""configs/averaged_weights.py: one network at two batch sizes, with two decays."""

import functools

import pytest
from config_checks import CLASSES, check_shapes, check_values

from speedpaper_jax.config.durations import Durations
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import measured_runs, sweep

ARMS = {
  "batch-32-decay-0_9": (32, 0.9),
  "batch-32-decay-0_99": (32, 0.99),
  "batch-256-decay-0_9": (256, 0.9),
  "batch-256-decay-0_99": (256, 0.99),
}
SMALL_DATA = sorted(CLASSES.keys() - {"imagenet2012"})


@functools.cache
def config_of(data="digits"):
  return load(f"configs/averaged_weights.py:data={data}")


def run_config(arm, data="digits"):
  return measured_runs.run_config(config_of(data), arm, 0)


def test_digits_are_the_default():
  assert load("configs/averaged_weights.py") == config_of("digits")


def test_other_data_are_refused():
  with pytest.raises(UserError, match=r"has no data 'imagenet2012'"):
    config_of("imagenet2012")


def test_the_arms():
  found = {arm: run_config(arm) for arm in config_of().arms}
  assert {arm: (run.batch_size, run.batch_norm.decay) for arm, run in found.items()} == ARMS


@pytest.mark.parametrize("data", SMALL_DATA)
def test_every_run_builds(data):
  for arm in ARMS:
    run = run_config(arm, data)
    run.eval_every = "1 epochs"  # which may be none; the checkpoints are evaluated
    check_values(run, data)


def test_the_network_takes_the_images():
  run = run_config("batch-256-decay-0_9")
  run.eval_every = "1 epochs"
  assert check_shapes(run, "digits").average


@pytest.mark.parametrize("data", SMALL_DATA)
def test_it_is_bn_x5_of_configs_bn_inception(data):
  other = load(f"configs/bn_inception.py:variant=bn_x5,data={data}")
  ours = run_config("batch-32-decay-0_9", data)
  other.model.width, other.optimizer.schedule.interval = 0.25, ours.optimizer.schedule.interval
  assert (ours.model, ours.optimizer, ours.batch_size) == (
    *(other.model, other.optimizer, other.batch_size),
  )
  other.batch_norm.update(decay=0.9, population_batches=8)
  assert ours.batch_norm == other.batch_norm


def test_the_rate_follows_the_batch():
  base = config_of().base.optimizer
  assert base.base_batch_size == 32
  for arm in ARMS:
    assert run_config(arm).optimizer == base


@pytest.mark.parametrize("arm", ARMS)
def test_there_are_ten_checkpoints_or_more_and_all_are_kept(arm):
  run = run_config(arm)
  durations = Durations(run.batch_size, 1_442)
  interval = durations.whole_steps(run.checkpoint_every, "")
  length = durations.whole_steps(run.duration, "")
  assert 10 <= length // interval < run.checkpoints_to_keep


def test_a_run_is_the_base_with_its_changes():
  config = config_of()
  for arm in ARMS:
    run = sweep.apply(config.base, config.arms[arm])
    assert sweep.changes(config.base, run).to_dict().keys() <= {"batch_size", "batch_norm"}
