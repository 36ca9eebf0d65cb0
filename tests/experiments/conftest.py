"""What tests of comparisons share."""

import fake_training
import pytest

from speedpaper_jax.training import train


@pytest.fixture
def trained_configs(monkeypatch):
  """The configs of the runs that were done, by their names."""
  configs = {}

  def run(config, directory):
    configs[directory.path.name] = config.copy_and_resolve_references()
    return fake_training.run(config, directory)

  monkeypatch.setattr(train, "run", run)
  return configs
