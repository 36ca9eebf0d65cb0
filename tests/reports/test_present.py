"""Which report belongs to a run."""

import past_runs
import pytest

from speedpaper_jax import reports
from speedpaper_jax.errors import UserError
from speedpaper_jax.storage.run_directory import RunDirectory


def test_by_the_experiment_that_the_summary_names(tmp_path):
  assert reports.present(past_runs.write(tmp_path)).title == "BN-Inception on digits"


def test_unknown_experiment(tmp_path):
  directory = past_runs.write(tmp_path, experiment="trian")
  with pytest.raises(UserError, match=r"unknown experiment, 'trian'\. Did you mean 'train'\?"):
    reports.present(directory)


def test_a_summary_without_experiment(tmp_path):
  directory = past_runs.write(tmp_path)
  directory.write("summary.json", {})
  with pytest.raises(UserError, match=r"unknown experiment, 'None'\."):
    reports.present(directory)


def test_no_summary(tmp_path):
  with pytest.raises(UserError, match=r"is not the directory of a run: it has no summary\.json"):
    reports.present(RunDirectory(tmp_path))
