"""What a run that goes on keeps of how it began."""

import pytest

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import continuing


class TestDecayBatchSize:
  """Decays that are of any batch, as all were in earlier versions, stay so."""

  @pytest.fixture
  def directory(self, tmp_path):
    return RunDirectory(tmp_path / "run")

  def begin(self, directory, size):
    config = train_config()
    config.decay_batch_size = size
    directory.start(config)

  def config(self, size, batch_size=64):
    config = train_config()
    config.update(decay_batch_size=size, batch_size=batch_size)
    return config

  def test_of_a_new_run_is_the_configs(self, directory):
    assert continuing.decay_batch_size(self.config(32), directory) == 32

  def test_of_a_run_of_an_earlier_version_stays_0(self, directory, capsys):
    self.begin(directory, 0)
    config = directory.read("config.json")
    del config["decay_batch_size"]
    directory.write("config.json", config)
    assert continuing.decay_batch_size(self.config(32), directory) == 0
    assert capsys.readouterr().out.startswith("config.decay_batch_size stays 0 in place of 32: the")

  @pytest.mark.parametrize(("size", "batch_size"), [(0, 64), (32, 32)])
  def test_where_it_makes_no_difference_nothing_is_said(self, directory, capsys, size, batch_size):
    self.begin(directory, 0)
    assert continuing.decay_batch_size(self.config(size, batch_size), directory) == 0
    assert capsys.readouterr().out == ""

  @pytest.mark.parametrize("now", [0, 32, 256])
  def test_another_one_may_be_changed(self, directory, now):
    self.begin(directory, 32)
    assert continuing.decay_batch_size(self.config(now), directory) == now
