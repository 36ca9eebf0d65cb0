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
  saved.check_known(comparison)
  content["data"]["later"] = "x"
  with pytest.raises(UserError, match=r"^config\.base\.data\.later is 'x', which version"):
    saved.check_known(comparison)


def test_experiments_whose_defaults_are_in_their_files_are_as_they_were():
  small = {"experiment": "bn_fc", "epochs": 3, "anything": {"else": 1}}
  assert saved.complete(small) == small
  saved.check_known(small)
