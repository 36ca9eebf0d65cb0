"""The files of a run, and when a run may be continued."""

import concurrent.futures
import json
import math
import re

import numpy as np
import pytest

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.errors import UserError
from speedpaper_jax.storage.run_directory import RunDirectory, fresh


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / "run")


@pytest.fixture
def config():
  return train_config()


class TestStart:
  def test_makes_the_directory_and_saves_the_config(self, directory, config):
    assert directory.start(config) == {}
    assert directory.read("config.json") == json.loads(config.to_json())

  def test_the_same_config_again(self, directory, config):
    directory.start(config)
    assert directory.start(config) == {}

  def test_harmless_changes_are_named(self, directory, config):
    directory.start(config)
    config.duration = "99 epochs"
    config.data.augmentation.area_range = (0.5, 1.0)
    assert directory.start(config) == {
      "data.augmentation.area_range": ([0.08, 1.0], [0.5, 1.0]),
      "duration": ("15 epochs", "99 epochs"),
    }

  @pytest.mark.parametrize(
    ("key", "value"),
    [
      ("experiment", "sweep"),
      ("init_from", "runs/another"),
      ("model.name", "googlenet"),
      ("model.activation", "sigmoid"),
      ("batch_norm.enabled", False),
      ("data.name", "mnist"),
      ("optimizer.name", "adam"),
    ],
  )
  def test_changes_that_do_not_fit_are_refused(self, directory, config, key, value):
    directory.start(config)
    saved = directory.read("config.json")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=f"holds a run with another config.{key};"):
      directory.start(config)
    assert directory.read("config.json") == saved

  def test_a_file_in_its_place(self, directory, config):
    directory.path.write_text("a file")
    with pytest.raises(UserError, match=r"The workdir '.*run' cannot be written: File exists"):
      directory.start(config)
    assert directory.path.read_text() == "a file"

  def test_below_a_file(self, tmp_path, config):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
      RunDirectory(tmp_path / "file" / "run").start(config)

  @pytest.mark.parametrize("names", [["cat.jpg"], ["a.txt", "train"], ["checkpoints"]])
  def test_a_directory_of_something_else(self, directory, config, names):
    directory.path.mkdir()
    for name in names:
      (directory.path / name).touch()
    with pytest.raises(UserError, match=f"is not the directory of a run .* holds '{names[0]}'"):
      directory.start(config)
    assert sorted(path.name for path in directory.path.iterdir()) == names

  def test_what_a_start_left_that_was_killed(self, directory, config):
    directory.path.mkdir()
    (directory.path / ".config.json.tmp").write_text("{")
    assert not directory.start(config)

  def test_a_result_is_replaced_by_that_of_the_same_config_alone(self, directory, config):
    directory.start_anew(config)
    directory.write("summary.json", {"steps": 1})
    directory.start_anew(config)
    config.seed = 1
    with pytest.raises(UserError, match=r"holds a run with another config\.seed; choose another"):
      directory.start_anew(config)
    directory.remove("summary.json")
    directory.start_anew(config)

  def test_damaged_config(self, directory, config):
    directory.start(config)
    (directory.path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json cannot be read"):
      directory.start(config)


class TestFiles:
  @pytest.fixture(autouse=True)
  def started(self, directory, config):
    directory.start(config)

  def test_read_what_was_written(self, directory):
    directory.write("summary.json", {"steps": 3})
    assert directory.read("summary.json") == {"steps": 3}
    assert sorted(path.name for path in directory.path.iterdir()) == ["config.json", "summary.json"]

  def test_a_failed_write_leaves_the_old_content(self, directory):
    directory.write("summary.json", {"steps": 3})
    with pytest.raises(TypeError):
      directory.write("summary.json", {"steps": object()})
    assert directory.read("summary.json") == {"steps": 3}

  def test_text_that_is_not_valid(self, directory):
    directory.write_text("report.html", "μ \udcff")
    assert (directory.path / "report.html").read_bytes() == "μ ?".encode()

  def test_numbers_that_are_not_finite_are_null(self, directory):
    directory.write("summary.json", {"eval": {"loss": math.nan}, "all": [math.inf, 1.0]})
    assert directory.read("summary.json") == {"eval": {"loss": None}, "all": [None, 1.0]}

  @pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1, "a": 2}', b'{"\xff": 1}'])
  def test_a_damaged_file(self, directory, content):
    (directory.path / "summary.json").write_bytes(content)
    with pytest.raises(UserError, match=r"summary\.json cannot be read \(.*\); put a copy of it"):
      directory.read("summary.json")

  def test_a_missing_key(self, directory):
    directory.write("summary.json", {"eval": {"top1": 0.5}})
    with pytest.raises(UserError, match=r"summary\.json is damaged, .*: it has no 'eval\.loss'"):
      directory.read("summary.json")["eval"]["loss"]

  @pytest.mark.parametrize("key", ["a.b", "__class__"])
  def test_a_config_with_a_key_that_none_can_have(self, directory, key, config):
    directory.write("config.json", {key: 1, "model": {"name": "googlenet"}})
    with pytest.raises(UserError, match=r"config\.json is damaged, or of another version"):
      directory.start(config)

  def test_missing_file(self, directory):
    with pytest.raises(UserError, match=r"is not the directory of a run: it has no summary.json"):
      directory.read("summary.json")


class TestArrays:
  @pytest.fixture(autouse=True)
  def written(self, directory, config):
    directory.start(config)
    arrays = {"steps": np.arange(3), "loss": np.float32([0.5, np.nan]), "names": np.array(["a"])}
    directory.write_arrays(arrays)
    return arrays

  def test_come_back(self, directory, written):
    arrays = directory.read_arrays()
    assert arrays.keys() == written.keys()
    for name, array in arrays.items():
      np.testing.assert_array_equal(array, written[name], strict=True)
    assert {path.name for path in directory.path.iterdir()} == {"arrays.npz", "config.json"}

  def test_a_failed_write_leaves_the_old_content(self, directory):
    with pytest.raises(ValueError, match="allow_pickle"):
      directory.write_arrays({"steps": np.array([object()])})
    assert directory.read_arrays()["steps"].size == 3

  def test_missing(self, tmp_path):
    with pytest.raises(UserError, match=r"has no arrays\.npz; run its experiment again"):
      RunDirectory(tmp_path).read_arrays()

  @pytest.mark.parametrize("kept", [0, 0.02, 0.5, 0.95])
  def test_cut_off(self, directory, kept):
    path = directory.path / "arrays.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"arrays\.npz cannot be read"):
      directory.read_arrays()

  def test_wherever_bits_flip_the_numbers_are_right_or_refused(self, directory, written):
    path = directory.path / "arrays.npz"
    content = path.read_bytes()
    refused = 0
    # All bits of some bytes; and the lowest of each, which can make a file seem encrypted.
    flips = [(place, 0xFF) for place in range(0, len(content), 7)]
    flips += [(place, 0x01) for place in range(len(content))]
    for place, bits in flips:
      path.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
      try:
        arrays = directory.read_arrays()
      except UserError:
        refused += 1
      else:
        for array, expected in zip(arrays.values(), written.values(), strict=False):
          np.testing.assert_array_equal(array, expected)
    assert refused > 20


class TestMetrics:
  @pytest.fixture(autouse=True)
  def entries(self, directory, config):
    directory.start(config)
    entries = [
      {"step": 1, "split": "train", "loss": 0.1},
      {"step": 2, "split": "train", "loss": 0.2},
      {"step": 2, "split": "eval", "loss": 0.3, "top1": 0.5},
      {"step": 3, "split": "train", "loss": 0.4},
    ]
    for entry in entries:
      directory.append_metrics(entry)
    return entries

  def test_come_back(self, directory, entries):
    assert directory.metrics() == entries

  def test_none(self, tmp_path):
    assert RunDirectory(tmp_path).metrics() == []

  def test_a_line_that_a_crash_cut_off_is_left_out(self, directory, entries):
    with (directory.path / "metrics.jsonl").open("a") as file:
      file.write('{"step": 4, "split": "tr')
    assert directory.metrics() == entries
    directory.forget_metrics_after(3)
    directory.append_metrics({"step": 4, "split": "train"})
    assert directory.metrics() == [*entries, {"step": 4, "split": "train"}]

  @pytest.mark.parametrize("damage", [b'{"step": 4, "spl\n', b"\n", b"\xff\xfe\n"])
  def test_a_damaged_line_takes_no_other_with_it(self, directory, entries, damage):
    path = directory.path / "metrics.jsonl"
    path.write_bytes(damage + path.read_bytes())
    directory.forget_metrics_after(3)
    assert directory.metrics() == entries

  @pytest.mark.parametrize(
    ("line", "reason"),
    [
      ("[]", r"it is \[\]; it must be a section"),
      ("7", "it is 7; it must be a section"),
      ("null", "it is None; it must be a section"),
      ('{"split": "eval", "top1": 1.0}', "step is missing"),
      ('{"step": 4, "top1": 1.0}', "split is missing"),
      ('{"step": "4", "split": "eval"}', "step is '4'; it must be a whole number"),
      ('{"step": 4.5, "split": "eval"}', "step is 4.5; it must be a whole number"),
      ('{"step": true, "split": "eval"}', "step is True; it must be a whole number"),
      ('{"step": null, "split": "eval"}', "step is None; it must be a whole number"),
      ('{"step": -1, "split": "eval"}', "step is -1; it must be a whole number"),
      (f'{{"step": {10**30}, "split": "eval"}}', "step is 1000"),
      ('{"step": 4, "split": "evl"}', "split='evl' is unknown"),
      ('{"step": 4, "split": ["eval"]}', r"split is \['eval'\]; it must be a text"),
      ('{"step": 4, "split": "eval", "top1": "1.0"}', "top1 is '1.0'; it must be a number"),
      ('{"step": 4, "split": "eval", "top1": 1.5}', "top1 is 1.5; it must be a number from 0 to 1"),
      ('{"step": 4, "split": "eval", "loss": true}', "loss is True; it must be a number"),
      ('{"step": 4, "split": "eval", "loss": {"a": 1}}', "loss is a section; it must be a number"),
      (f'{{"step": 4, "split": "eval", "loss": {10**400}}}', "loss is 1000"),
      ('{"step": 4, "step": 5, "split": "eval"}', "'step' stands there twice"),
      ('{"step": 4, "split": ' + 10_000 * "[" + 10_000 * "]" + "}", "it is nested too deeply"),
    ],
  )
  def test_a_line_that_says_nothing_is_left_out_and_told(
    self, directory, entries, capsys, line, reason
  ):
    with (directory.path / "metrics.jsonl").open("a") as file:
      file.write(f"{line}\n")
    assert directory.metrics() == directory.metrics() == entries
    assert directory.best_evaluation() == entries[2]
    told = capsys.readouterr().err
    assert re.fullmatch(
      rf"warning: a damaged line of .*metrics\.jsonl left out \(line 5: {reason}.*\)\.\n", told
    )

  def test_lines_that_are_left_out_are_counted(self, directory, entries, capsys):
    path = directory.path / "metrics.jsonl"
    path.write_bytes(b"\n{}\n" + path.read_bytes() + b'{"step')
    assert directory.metrics() == entries
    assert "warning: 3 damaged lines of" in capsys.readouterr().err

  def test_numbers_that_are_not_finite(self, directory):
    entry = {"step": 5, "split": "eval", "loss": math.nan, "top1": 0.25}
    directory.append_metrics(entry)
    with (directory.path / "metrics.jsonl").open("a") as file:
      file.write('{"step": 6, "split": "eval", "loss": Infinity, "top1": 0.5}\n')  # as before
    assert b'"loss": null' in (directory.path / "metrics.jsonl").read_bytes()
    *_, written, older = directory.metrics()
    assert math.isnan(written["loss"])
    assert older["loss"] == math.inf
    assert directory.best_evaluation()["step"] == 2

  def test_a_directory_in_the_place_of_the_file(self, directory):
    (directory.path / "metrics.jsonl").unlink()
    (directory.path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be read \(it is no regular file\)"):
      directory.metrics()

  def test_forget(self, directory, entries):
    directory.forget_metrics_after(2)
    assert directory.metrics() == entries[:3]
    directory.forget_metrics_after(0)
    assert directory.metrics() == []

  def test_evaluation_of_a_step(self, directory):
    assert directory.evaluation(2) == {"loss": 0.3, "top1": 0.5}
    assert directory.evaluation(3) is None


class TestFresh:
  @pytest.fixture(autouse=True)
  def elsewhere(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

  def test_name(self):
    path = fresh("configs/bn_inception.py:data=mnist").path
    assert path.parent.name == "runs"
    assert path.name.startswith("bn_inception-2")

  def test_those_of_one_second_are_different(self, tmp_path):
    made = [fresh("configs/x.py").path for _ in range(3)]
    assert len(set(made)) == 3
    assert sorted((tmp_path / "runs").iterdir()) == sorted(path.absolute() for path in made)

  def test_those_of_processes_that_start_together_are_different(self):
    with concurrent.futures.ThreadPoolExecutor(16) as executor:
      made = [each.path for each in executor.map(fresh, ["configs/x.py"] * 200)]
    assert len(set(made)) == 200

  def test_a_file_where_runs_should_be(self, tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(UserError, match=r"The workdir 'runs/x-.*' cannot be written: Not a direc"):
      fresh("configs/x.py")

  def test_nothing_is_left_of_one_that_was_not_used(self, tmp_path):
    with pytest.raises(UserError), fresh("configs/x.py").locked():
      raise UserError("The config is wrong.")
    assert not list(tmp_path.iterdir())


class TestLocked:
  def test_makes_the_directory(self, directory, config):
    with directory.locked():
      directory.start(config)
    assert [path.name for path in directory.path.iterdir()] == ["config.json"]

  def test_another_is_refused_and_nothing_changes(self, directory, config):
    with directory.locked():
      directory.start(config)
      other = RunDirectory(directory.path)
      with pytest.raises(UserError, match="Another process writes"), other.locked():
        pass
      assert directory.read("config.json")
    with RunDirectory(directory.path).locked():
      pass

  def test_what_was_made_and_not_used_is_removed(self, tmp_path):
    with RunDirectory(tmp_path / "a" / "b" / "c").locked():
      assert (tmp_path / "a" / "b" / "c").is_dir()
    assert not list(tmp_path.iterdir())

  def test_an_empty_directory_that_was_there_stays(self, directory):
    directory.path.mkdir()
    with directory.locked():
      pass
    assert directory.path.is_dir()

  @pytest.mark.parametrize("name", ["file", "file/run", "n" * 300])
  def test_that_cannot_be_made(self, tmp_path, name):
    (tmp_path / "file").touch()
    directory = RunDirectory(tmp_path / name)
    with pytest.raises(UserError, match=r"The workdir '.*' cannot be written: "):
      directory.locked().__enter__()
