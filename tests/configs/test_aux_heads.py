"""configs/aux_heads.py: two networks, each without heads and with them."""

import functools

import pytest
from config_checks import CLASSES, check_shapes, check_values

from speedpaper_jax.config.durations import Durations
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import measured_runs

NETWORKS = ("googlenet", "inception_v3")
ARMS = {f"{network}-{heads}" for network in NETWORKS for heads in ("without", "with")}
SMALL_DATA = sorted(CLASSES.keys() - {"imagenet2012"})


@functools.cache
def config_of(data="digits"):
  return load(f"configs/aux_heads.py:data={data}")


def run_config(arm, data="digits"):
  return measured_runs.run_config(config_of(data), arm, 0)


def test_digits_are_the_default():
  assert load("configs/aux_heads.py") == config_of("digits")
  assert set(config_of().arms) == ARMS


def test_other_data_are_refused():
  with pytest.raises(UserError, match=r"has no data 'imagenet2012'"):
    config_of("imagenet2012")


@pytest.mark.parametrize("data", SMALL_DATA)
def test_every_run_builds(data):
  for arm in ARMS:
    check_values(run_config(arm, data), data)


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_take_the_images_and_have_the_same_trunk(network):
  with_heads, without = (
    check_shapes(run_config(f"{network}-{heads}"), "digits").params for heads in ("with", "without")
  )
  assert with_heads.keys() - without.keys() == (
    {"aux"} if network == "inception_v3" else {"aux1", "aux2"}
  )
  assert {name: with_heads[name] for name in without} == without


@pytest.mark.parametrize(("network", "weight"), [("googlenet", 0.3), ("inception_v3", 0.4)])
def test_two_arms_of_a_network_differ_in_the_heads_alone(network, weight):
  with_heads, without = (run_config(f"{network}-{heads}") for heads in ("with", "without"))
  assert (with_heads.aux_weight, without.aux_weight) == (weight, 0)
  with_heads.aux_weight, with_heads.model.aux_heads = 0.0, False
  assert with_heads == without


@pytest.mark.parametrize("data", SMALL_DATA)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_recipe_is_that_of_the_network_s_own_config(network, data):
  """But for length, width, intervals, evaluation and the average."""
  ours, other = run_config(f"{network}-with", data), load(f"configs/{network}.py:data={data}")
  other.model.width = ours.model.width
  assert (ours.model, ours.batch_norm.enabled) == (other.model, other.batch_norm.enabled)
  assert (ours.aux_weight, ours.label_smoothing) == (other.aux_weight, other.label_smoothing)
  assert ours.batch_size == other.batch_size
  other.optimizer.schedule.interval = ours.optimizer.schedule.interval
  assert ours.optimizer == other.optimizer


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_there_is_a_checkpoint_after_each_quarter_and_all_are_kept(arm):
  run = run_config(arm)
  durations = Durations(run.batch_size, 1_442)
  interval = durations.whole_steps(run.checkpoint_every, "")
  length = durations.whole_steps(run.duration, "")
  assert length / interval == pytest.approx(4, rel=0.02)
  assert run.checkpoints_to_keep > length // interval
  assert run.average_decay == 0
