"""Saved configs, laid over today's defaults."""

import json

import pytest

from speedpaper_jax.config import saved, train_config
from speedpaper_jax.errors import UserError


@pytest.fixture
def content():
  """Of a config.json."""
  config = train_config()
  config.batch_size = 64
  config.optimizer.learning_rate = 0.5
  return json.loads(config.to_json())


def test_what_is_there_stays(content):
  assert saved.complete(content) == content


def test_what_is_missing_has_todays_default(content):
  without = json.loads(json.dumps(content))
  del without["seed"], without["data"]["augmentation"], without["optimizer"]["schedule"]["name"]
  assert saved.complete(without) == content


def test_of_the_runs_of_a_comparison_too(content):
  comparison = {"experiment": "bn_variants", "base": content, "arms": {"a": {"x": 1}}, "seeds": [0]}
  without = json.loads(json.dumps(comparison))
  del without["base"]["data"]["image_size"]
  assert saved.complete(without) == comparison
  content["data"]["later"] = "x"
  with pytest.raises(UserError, match=r"^config\.base\.data\.later is 'x', which version"):
    saved.complete(comparison)


def test_of_the_network_that_they_start_from(content):
  comparison = {"experiment": "transfer", "base": content, "source": content, "seeds": [0]}
  without = {**comparison, "source": {**content, "data": {"name": "digits"}}}
  assert saved.complete(without) == comparison
  content["later"] = "x"
  without = {**comparison, "base": saved.complete({**content, "later": ""})}
  with pytest.raises(UserError, match=r"^config\.source\.later is 'x', which version"):
    saved.complete(without)


def test_experiments_whose_defaults_are_in_their_files_are_as_they_were():
  small = {"experiment": "bn_fc", "epochs": 3, "anything": {"else": 1}}
  assert saved.complete(small) == small


@pytest.mark.parametrize(
  ("name", "own"),
  [
    ("sgd", {"momentum": 0.5}),
    ("rmsprop", {"momentum": 0.5, "decay": 0.8, "eps": 0.1}),
    ("adam", {}),
  ],
)
def test_options_of_an_optimizer_go_to_its_section(content, name, own):
  """Version 0.1.0 had them beside its name."""
  before = json.loads(json.dumps(content))
  for section in ("sgd", "rmsprop", "adam", "adagrad"):
    del before["optimizer"][section]
  options = {"momentum": 0.5, "rmsprop_decay": 0.8, "rmsprop_epsilon": 0.1}
  before["optimizer"] |= {"name": name, **options}
  content["optimizer"]["name"] = name
  content["optimizer"][name] |= own
  assert saved.complete(before) == content


def test_an_optimizer_may_have_options_of_its_own(content):
  content["optimizer"] |= {"name": "lamb", "lamb": {"weight_decay": 0.1}}
  assert saved.complete(content) == content


@pytest.mark.parametrize(
  ("dtype", "mode", "sums"),
  [
    ("bfloat16", "jit", "bfloat16"),
    ("bfloat16", None, "bfloat16"),
    ("bfloat16", "pmap", "float32"),
    ("float32", "jit", "float32"),
    (None, None, "float32"),
  ],
)
def test_gradients_were_summed_as_the_compiler_found_them(content, dtype, mode, sums):
  """Before there was a choice; a field that is None was not there either."""
  del content["gradient_sum_dtype"], content["parallel"], content["model"]["dtype"]
  if mode is not None:
    content["parallel"] = mode
  if dtype is not None:
    content["model"]["dtype"] = dtype
  assert saved.complete(content)["gradient_sum_dtype"] == sums
  content["gradient_sum_dtype"] = "float32"
  assert saved.complete(content)["gradient_sum_dtype"] == "float32"
