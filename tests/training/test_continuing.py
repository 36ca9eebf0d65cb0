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


class TestGradientSumDtype:
  """Sums in bfloat16, as all were under `jit` of networks that compute in it, stay so."""

  @pytest.fixture
  def directory(self, tmp_path):
    return RunDirectory(tmp_path / "run")

  def config(self, sums="float32", dtype="bfloat16", mode="jit"):
    config = train_config()
    config.update(gradient_sum_dtype=sums, parallel=mode)
    config.model.dtype = dtype
    return config

  def make_old(self, directory):
    """As if an earlier version had begun the run."""
    config = directory.read("config.json")
    del config["gradient_sum_dtype"]
    directory.write("config.json", config)

  @pytest.mark.parametrize("sums", ["float32", "bfloat16"])
  def test_of_a_new_run_is_the_configs(self, directory, sums):
    assert continuing.gradient_sum_dtype(self.config(sums), directory) == sums

  def test_of_a_run_of_an_earlier_version_stays_bfloat16(self, directory, capsys):
    directory.start(self.config())
    self.make_old(directory)
    for _ in range(2):
      config = self.config()
      config.gradient_sum_dtype = continuing.gradient_sum_dtype(config, directory)
      assert config.gradient_sum_dtype == "bfloat16"
      assert capsys.readouterr().out == (
        "config.gradient_sum_dtype stays bfloat16 in place of float32: the run began with it\n"
      )
      assert directory.start(config) == {}
      directory.save_config(config)

  @pytest.mark.parametrize("mode", ["jit", "pmap"])
  def test_of_one_that_summed_in_float32_stays_so(self, directory, capsys, mode):
    config = self.config(dtype="float32" if mode == "jit" else "bfloat16", mode=mode)
    directory.start(config)
    self.make_old(directory)
    assert continuing.gradient_sum_dtype(config, directory) == "float32"
    assert directory.start(config) == {}
    assert capsys.readouterr().out == ""

  def test_goes_with_a_network_that_no_longer_computes_in_bfloat16(self, directory):
    directory.start(self.config("bfloat16"))
    assert continuing.gradient_sum_dtype(self.config(dtype="float32"), directory) == "float32"

  def test_float32_may_be_changed(self, directory):
    directory.start(self.config())
    assert continuing.gradient_sum_dtype(self.config("bfloat16"), directory) == "bfloat16"
