"""What is no network is refused by its name, or by its directory's files."""

import pytest

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import network_paths
from speedpaper_jax.storage.run_directory import RunDirectory


def test_directories_and_names_are_taken(tmp_path):
  RunDirectory(tmp_path).start(train_config())
  network_paths.check([tmp_path, "timm/inception_v4", str(tmp_path)])


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("nowhere", r"^'nowhere' is not the directory of a run: it has no config\.json\."),
    ("timm/inception_v5", r"^There are no published weights 'timm/inception_v5'\. Did you mean"),
  ],
)
def test_others_are_refused_wherever_they_stand(tmp_path, name, message):
  RunDirectory(tmp_path).start(train_config())
  with pytest.raises(UserError, match=message):
    network_paths.check([tmp_path, name])


def test_a_damaged_config_is_refused(tmp_path):
  (tmp_path / "config.json").write_text("{", encoding="utf-8")
  with pytest.raises(UserError, match=r"config\.json cannot be read"):
    network_paths.check([tmp_path])
