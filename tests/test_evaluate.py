"""`python -m speedpaper_jax.evaluate DIR`, of a run of the tiny network."""

import csv
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import tiny
from commands import EVALUATE, finish, start
from PIL import Image

from speedpaper_jax import evaluate
from speedpaper_jax import evaluate as command
from speedpaper_jax.config.files import load
from speedpaper_jax.data import imagenet_classes, sources
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.imagenet_classes import class_names
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import evaluation, model_directory
from speedpaper_jax.models import registry
from speedpaper_jax.steps import build
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train


@pytest.fixture(scope="module")
def trained(scratch, tmp_path_factory):
  """A run's directory and the evaluation in its summary."""
  directory = RunDirectory(tmp_path_factory.mktemp("trained") / "run")
  config = load("configs/bn_inception.py")
  config.update_from_flattened_dict({**tiny.SETTINGS, "data.dir": str(scratch / "data")})
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", tiny.create)
    return directory.path, train.run(config, directory)["eval"]


@pytest.fixture
def run_evaluate(monkeypatch, tmp_path):
  """Runs the command in this process; returns what `--json` has."""
  monkeypatch.setattr(registry, "create", tiny.create)
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # leaves JAX's settings as they are

  def run_evaluate(path, *arguments):
    result = tmp_path / "result.json"
    evaluate.main(evaluate.parse(["evaluate", str(path), f"--json={result}", *arguments]))
    return json.loads(result.read_text())

  return run_evaluate


def assert_same(result, expected):
  """Counts are equal; the loss differs by the order of its sum."""
  assert result["loss"] == pytest.approx(expected["loss"], rel=1e-6)
  assert {**result, **expected, "loss": 0} == {**result, "loss": 0}


def answer_always(monkeypatch, value):
  """All log-probabilities are of this value."""

  def pieces(self, variables, *arguments):
    yield 2, evaluation.Answers(np.arange(2), np.zeros(2, int), np.full((2, 10), value))

  monkeypatch.setattr(evaluation.Evaluator, "pieces", pieces)


def test_reproduces_the_summary(trained, run_evaluate, capsys, monkeypatch):
  path, expected = trained
  result = run_evaluate(path)
  description = json.loads((path / "model.json").read_text())
  assert result == {
    "name": str(path),
    "step": 12,
    "preprocessing": description["preprocessing"],
    "data": "digits",
    "split": "test",
    "crops": 1,
    "weights": "averaged",
    **expected,
    # Training evaluates with its batch normalizations as they are, and does not fold them.
    "loss": pytest.approx(expected["loss"], rel=1e-6),
  }
  assert capsys.readouterr().out.startswith(
    f"digits test:\n{path} step 12, 16 pixels, squash, bilinear, central 1: top1 "
  )
  # Left unfolded, it is training's to the last bits.
  monkeypatch.setattr(build, "fold_batch_norm", lambda network, variables, _: (network, variables))
  assert run_evaluate(path)["loss"] == pytest.approx(expected["loss"], rel=1e-14)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_answers_that_are_no_numbers_are_no_result(
  trained, run_evaluate, monkeypatch, tmp_path, value
):
  path, _ = trained
  answer_always(monkeypatch, value)
  with pytest.raises(UserError, match=f"The answers of '{path}' to some images are no finite"):
    run_evaluate(path)
  assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("batch_size", [7, 100, 1000])
def test_any_batch_size(trained, run_evaluate, batch_size):
  path, expected = trained
  assert_same(run_evaluate(path, f"--batch_size={batch_size}"), expected)


def test_any_number_of_devices(trained, run_evaluate, monkeypatch):
  """Trained on eight; on three a batch of 122 is padded."""
  path, expected = trained
  three = jax.make_mesh(
    (3,), (parallel.AXIS,), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:3]
  )
  monkeypatch.setattr(parallel, "make_mesh", lambda devices=None: three)
  assert_same(run_evaluate(path, "--batch_size=122"), expected)


def test_another_split(trained, run_evaluate):
  result = run_evaluate(trained[0], "--split=train[:50]")
  assert (result["split"], result["count"]) == ("train[:50]", 50)


class TestStep:
  @pytest.fixture
  def path(self, trained, tmp_path):
    """A copy whose metrics call step 8 the best."""
    path = tmp_path / "run"
    shutil.copytree(trained[0], path)
    entries = [
      {"step": step, "split": "eval", "top1": top1} for step, top1 in ((8, 0.9), (12, 0.8))
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path

  @pytest.mark.parametrize(
    ("arguments", "step"),
    [((), 12), (("--step=newest",), 12), (("--step=best",), 8), (("--step=8",), 8)],
  )
  def test_chooses_the_checkpoint(self, path, run_evaluate, arguments, step):
    assert run_evaluate(path, *arguments)["step"] == step

  @pytest.mark.parametrize(
    ("step", "message"),
    [
      ("7", r"has no checkpoint of step 7; it has: 8, 12\."),
      ("bset", "--step=bset is none of newest, best and the number of a step"),
      ("-1", "--step=-1 is none of newest, best and the number of a step"),
      ("²", "--step=² is none of newest, best and the number of a step"),
      ("9" * 20, "has no checkpoint of step 99999999999999999999; it has: 8, 12"),
    ],
  )
  def test_mistakes(self, path, run_evaluate, step, message):
    with pytest.raises(UserError, match=message):
      run_evaluate(path, f"--step={step}")

  def test_no_evaluation(self, path, run_evaluate):
    (path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"has no evaluation in its metrics\.jsonl"):
      run_evaluate(path, "--step=best")


def test_changes_nothing(trained, run_evaluate):
  path, _ = trained
  before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
  run_evaluate(path)
  assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


# Orbax leaves a coroutine behind that was never awaited when a file cannot be read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint(trained, run_evaluate, tmp_path, capsys):
  path = tmp_path / "run"
  shutil.copytree(trained[0], path)
  (path / "checkpoints" / "12" / "record" / "metadata").write_text("{}")
  before = sorted(path.rglob("*"))
  assert run_evaluate(path)["step"] == 8
  assert "warning: checkpoint 12 is damaged and left out" in capsys.readouterr().err
  assert sorted(path.rglob("*")) == before


def test_the_preprocessing_is_that_of_the_model(trained, run_evaluate, tmp_path):
  path = tmp_path / "run"
  shutil.copytree(trained[0], path)
  content = json.loads((path / "model.json").read_text())
  content["preprocessing"]["central_fraction"] = 0.5
  (path / "model.json").write_text(json.dumps(content))
  assert run_evaluate(path)["loss"] != pytest.approx(trained[1]["loss"], rel=1e-3)


def test_training_data_is_not_needed(trained, run_evaluate, monkeypatch):
  path, expected = trained
  opened = []
  open_split = sources.open_split
  monkeypatch.setattr(
    sources, "open_split", lambda *names: opened.append(names[1]) or open_split(*names)
  )
  assert_same(run_evaluate(path), expected)
  assert opened == ["test"]


def test_weights_that_were_written_without_a_run(scratch, run_evaluate, tmp_path):
  path = tmp_path / "converted"
  names = [str(digit) for digit in range(10)]
  tiny.write_model_directory(path, names, Preprocessing(EvaluationCrop(16), DEFAULT))
  result = run_evaluate(path, f"--data_dir={scratch / 'data'}")
  assert (result["step"], result["count"]) == (0, 355)


class TestTenCrops:
  def evaluate(self, run_evaluate, tmp_path, crop, *arguments):
    path = tmp_path / "converted"
    names = [str(digit) for digit in range(10)]
    if not path.exists():
      tiny.write_model_directory(path, names, Preprocessing(crop, DEFAULT))
    return run_evaluate(path, *arguments)

  def test_are_averaged(self, scratch, run_evaluate, tmp_path, capsys):
    crop = EvaluationCrop(16, 0.8, "short_side")
    data = f"--data_dir={scratch / 'data'}"
    one = self.evaluate(run_evaluate, tmp_path, crop, data)
    ten = self.evaluate(run_evaluate, tmp_path, crop, data, "--crops=10")
    assert "digits test, 10 crops:\n" in capsys.readouterr().out
    assert (one["crops"], ten["crops"]) == (1, 10)
    assert ten["count"] == one["count"] == 355
    assert ten["loss"] != one["loss"]

  def test_are_refused_where_they_are_one(self, scratch, run_evaluate, tmp_path):
    with pytest.raises(UserError, match="Ten crops of an image that is squashed"):
      self.evaluate(
        run_evaluate,
        tmp_path,
        EvaluationCrop(16),
        f"--data_dir={scratch / 'data'}",
        "--crops=10",
      )


COLOURS = {"blue": (30, 30, 220), "green": (30, 200, 30), "red": (220, 30, 30)}


class TestFolder:
  """One's own images, of classes that have their own order there."""

  PREPROCESSING = Preprocessing(EvaluationCrop(16), DEFAULT)

  def write(self, folder, **names):
    """So many images of each colour as its name has letters, in a folder of the name given."""
    for colour, name in names.items():
      for split in ("train", "test"):
        (folder / split / name).mkdir(parents=True)
        for index in range(len(colour)):
          image = Image.new("RGB", (16, 16), COLOURS[colour])
          image.putpixel((index, 0), (0, 0, 0))
          image.save(folder / split / name / f"{index}.png")

  @pytest.fixture
  def evaluate(self, run_evaluate, tmp_path):
    """Evaluates random weights for classes of these names."""

    def evaluate(class_names, *arguments):
      path = tmp_path / "network"
      tiny.write_model_directory(path, class_names, self.PREPROCESSING)
      return run_evaluate(path, "--data=folder", *arguments)

    return evaluate

  def test_a_network_trained_elsewhere_is_evaluated_on_ones_own_images(
    self, evaluate, tmp_path, capsys
  ):
    self.write(tmp_path / "own", blue="blue", green="green", red="red")
    result = evaluate(["blue", "green", "red"], f"--data_dir={tmp_path / 'own'}")
    assert (result["data"], result["split"], result["count"]) == ("folder", "test", 12)
    assert "Note" not in capsys.readouterr().err

  def test_the_order_of_the_classes_makes_no_difference(self, evaluate, tmp_path, capsys):
    """The folder sorts the same three things in another way than the network has them."""
    self.write(tmp_path / "own", blue="lan", green="lv", red="hong")
    arguments = (f"--data_dir={tmp_path / 'own'}",)
    folders_order = evaluate(["hong", "lan", "lv"], *arguments)
    capsys.readouterr()
    shutil.rmtree(tmp_path / "network")
    assert_same(self.in_networks_order(evaluate, tmp_path, arguments), folders_order)
    note = "Note: the data have the network's 3 classes in another order; labels go by their names."
    assert note in capsys.readouterr().err

  def in_networks_order(self, evaluate, tmp_path, arguments):
    """The same weights for classes in another order."""
    write, order = model_directory.write, [1, 2, 0]

    def write_in_another_order(path, config, description, variables):
      logits = variables["params"]["logits"]
      logits.update({name: values[..., np.array(order)] for name, values in logits.items()})
      write(path, config, description, variables)

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(model_directory, "write", write_in_another_order)
      return evaluate([["hong", "lan", "lv"][number] for number in order], *arguments)

  def test_some_of_the_networks_classes(self, evaluate, tmp_path, capsys):
    self.write(tmp_path / "own", blue="blue", red="red")
    names = ["red", "green", "blue", "background"]
    assert evaluate(names, f"--data_dir={tmp_path / 'own'}")["count"] == 7
    assert "the data have 2 of the network's 4 classes in another" in capsys.readouterr().err

  def test_other_names_are_refused(self, evaluate, tmp_path):
    self.write(tmp_path / "own", blue="lan", green="lv", red="hong")
    with pytest.raises(UserError, match="the network does not know: 'hong', 'lan', 'lv'"):
      evaluate(["blue", "green", "red"], f"--data_dir={tmp_path / 'own'}")

  def test_no_folder_is_named(self, evaluate):
    with pytest.raises(UserError, match="evaluate takes it as --data_dir=FOLDER"):
      evaluate(["blue", "green", "red"])

  def test_a_folder_in_the_place_of_prepared_data_is_noticed(self, trained, run_evaluate, tmp_path):
    self.write(tmp_path / "own", blue="blue", red="red")
    for data in ("imagenet2012", "flowers"):
      with pytest.raises(UserError, match=r"not prepared in .*folders of images.*--data=folder"):
        run_evaluate(trained[0], f"--data={data}", f"--data_dir={tmp_path / 'own' / 'train'}")


class TestSplitSeed:
  """Of a folder that is divided here: the run's own, so that no training image is evaluated."""

  @pytest.fixture
  def path(self, run_evaluate, tmp_path):  # which makes the network the tiny one
    """A network of two classes that was trained on a folder with the seed 3."""
    for name in ("ant", "bee"):
      for folder in ("own", "moved"):
        (tmp_path / folder / name).mkdir(parents=True)
        for index in range(10):
          Image.new("L", (16, 16), index).save(tmp_path / folder / name / f"{index}.png")
    path = tmp_path / "network"
    preprocessing = Preprocessing(EvaluationCrop(16), DEFAULT)
    tiny.write_model_directory(path, ["ant", "bee"], preprocessing)
    self.change(path, data={"name": "folder", "dir": str(tmp_path / "own"), "split_seed": 3})
    return path

  def change(self, path, **sections):
    config = json.loads((path / "config.json").read_text())
    for section, changes in sections.items():
      config[section].update(changes)
    (path / "config.json").write_text(json.dumps(config))

  @pytest.fixture
  def opened(self, monkeypatch):
    opened, open_split = [], sources.open_split
    monkeypatch.setattr(
      sources, "open_split", lambda *names: opened.append(names) or open_split(*names)
    )
    return opened

  @pytest.mark.parametrize("flags", [(), ("--data_dir={}/moved",)])
  def test_is_the_runs(self, path, run_evaluate, opened, tmp_path, flags):
    result = run_evaluate(path, *(flag.format(tmp_path) for flag in flags))
    assert result["count"] == 2
    folder = str(tmp_path / ("moved" if flags else "own"))
    assert opened == [("folder", "test", folder, 3)]

  def test_is_that_of_the_population_statistics_too(self, path, run_evaluate, opened, tmp_path):
    self.change(path, batch_norm={"inference": "population", "population_batches": 1})
    run_evaluate(path)
    own = str(tmp_path / "own")
    assert opened == [("folder", "test", own, 3), ("folder", "train", own, 3)]

  def test_is_none_of_another_data_set(self, path, run_evaluate, opened, scratch):
    with pytest.raises(UserError, match="the network does not know: '0', '1', '2' and 7 more"):
      run_evaluate(path, "--data=digits", f"--data_dir={scratch / 'data'}")
    assert opened == [("digits", "test", str(scratch / "data"), 0)]


def test_another_data_set_is_evaluated_on_its_own_split(trained, run_evaluate, scratch):
  """By its name, or by the default of data sets; the directory is not the run's."""
  name = "digits:1.0.0"
  result = run_evaluate(trained[0], f"--data={name}", f"--data_dir={scratch / 'data'}")
  assert (result["data"], result["split"]) == (name, "test")
  with pytest.raises(UserError, match="'imagenet2012' is not prepared"):
    run_evaluate(trained[0], "--data=imagenet2012", f"--data_dir={scratch}")


DIGITS = tuple(str(digit) for digit in range(10))


class TestSeveral:
  """Random weights; those of a second network are of another seed and another image size."""

  CROPS = (EvaluationCrop(16, 0.8), EvaluationCrop(24, 0.9, "short_side", "bicubic"))

  @pytest.fixture
  def write(self, run_evaluate, tmp_path):  # which makes the network the tiny one
    def write(name, crop, class_names=DIGITS, seed=0, order=None):
      """Logits that differ much; in another order of the classes for `order`."""
      write_as_it_is = model_directory.write

      def write_perturbed(path, config, description, variables):
        generator = np.random.default_rng(seed)
        logits = variables["params"]["logits"]
        for key, values in logits.items():
          values = np.asarray(values + generator.normal(0, 0.1, values.shape), np.float32)
          logits[key] = values if order is None else values[..., list(order)]
        write_as_it_is(path, config, description, variables)

      with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_directory, "write", write_perturbed)
        path = tmp_path / name
        tiny.write_model_directory(path, class_names, Preprocessing(crop, DEFAULT))
      return path

    return write

  @pytest.fixture
  def two(self, write):
    return [
      write(name, crop, seed=seed)
      for seed, (name, crop) in enumerate(zip("ab", self.CROPS, strict=True))
    ]

  @pytest.fixture
  def data(self, scratch):
    return f"--data_dir={scratch / 'data'}"

  def saved(self, tmp_path):
    with np.load(tmp_path / "saved.npz") as file:
      return dict(file)

  @pytest.mark.parametrize("crops", [1, 10])
  def test_the_ensemble_is_the_mean_of_what_is_saved(
    self, two, run_evaluate, data, tmp_path, capsys, crops
  ):
    flags = (data, f"--crops={crops}", f"--probabilities={tmp_path / 'saved.npz'}")
    result = run_evaluate(two[0], str(two[1]), *flags)
    output = capsys.readouterr().out
    saved = self.saved(tmp_path)
    assert saved["members"].tolist() == [str(path) for path in two]
    assert saved["probabilities"].dtype == np.float32
    assert saved["probabilities"].shape == (2, 355, 10)
    mean, labels = saved["probabilities"].astype(np.float64).mean(0), saved["labels"]
    errors = np.mean(saved["probabilities"].argmax(-1) != labels, -1)
    together = np.mean(mean.argmax(-1) != labels)
    what = {"data", "split", "crops", "weights"}
    assert result.keys() == {*what, "members", "ensemble", "by_count"}
    assert (result["data"], result["split"], result["crops"]) == ("digits", "test", crops)
    assert result["ensemble"] == {
      "top1": pytest.approx(1 - together),
      "top5": np.mean(
        [label in row.argsort()[-5:] for row, label in zip(mean, labels, strict=True)]
      ),
      "loss": pytest.approx(-np.log(mean[np.arange(355), labels]).mean()),
      "count": 355,
    }
    assert [row["count"] for row in result["by_count"]] == [1, 2]
    one, both = result["by_count"]
    assert [one["lowest"], one["mean"], one["highest"]] == pytest.approx(
      [errors.min(), errors.mean(), errors.max()]
    )
    assert both["mean"] == pytest.approx(together)
    assert errors.min() < errors.max()

    lines = output.splitlines()
    assert lines[0] == f"digits test{', 10 crops' if crops == 10 else ''}, 2 members:"
    assert lines[1].startswith(f"{two[0]} step 0, 16 pixels, squash, bilinear, central 0.8: top1 ")
    assert lines[2].startswith(f"{two[1]} step 0, 24 pixels, short_side, bicubic, central 0.9: ")
    assert lines[3].startswith(f"ensemble: top1 {1 - together:.2%}  top5 ")
    assert lines[-1].split() == ["2", "1", *[f"{together:.2%}"] * 3]

  def test_a_member_gives_what_it_gives_alone(self, two, run_evaluate, data, tmp_path):
    together = run_evaluate(*map(str, two), data)
    for path, member in zip(two, together["members"], strict=True):
      alone = run_evaluate(path, data, f"--probabilities={tmp_path / 'saved.npz'}")
      assert_same(
        {name: member[name] for name in ("top1", "top5", "loss", "count")},
        {name: alone[name] for name in ("top1", "top5", "loss", "count")},
      )
      assert (member["name"], member["step"]) == (str(path), alone["step"])
      saved = self.saved(tmp_path)
      assert saved["members"].tolist() == [str(path)]
      assert np.mean(saved["probabilities"][0].argmax(-1) == saved["labels"]) == alone["top1"]

  def test_any_number_of_devices_and_any_batch_size(self, two, run_evaluate, data, monkeypatch):
    eight = run_evaluate(*map(str, two), data)
    one = jax.make_mesh(
      (1,), (parallel.AXIS,), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]
    )
    monkeypatch.setattr(parallel, "make_mesh", lambda devices=None: one)
    alone = run_evaluate(*map(str, two), data, "--batch_size=122")
    assert_same(alone["ensemble"], eight["ensemble"])
    assert alone["by_count"] == eight["by_count"]

  def test_the_order_of_a_members_classes_makes_no_difference(self, two, write, run_evaluate, data):
    expected = run_evaluate(*map(str, two), data)
    order = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
    names = [DIGITS[number] for number in order]
    other = write("other", self.CROPS[1], names, seed=1, order=order)
    found = run_evaluate(two[0], str(other), data)
    assert_same(found["ensemble"], expected["ensemble"])
    assert found["by_count"] == expected["by_count"]

  def test_names_that_are_not_known_are_taken_for_the_others(
    self, two, write, run_evaluate, data, capsys
  ):
    expected = run_evaluate(*map(str, two), data)
    content = json.loads((two[0] / "model.json").read_text())
    (two[0] / "model.json").write_text(json.dumps({**content, "class_names": []}))
    assert run_evaluate(*map(str, two), data)["ensemble"] == expected["ensemble"]
    note = (
      f"names of the classes of '{two[0]}' are not known; they are taken for those of '{two[1]}"
    )
    assert note in capsys.readouterr().err

  @pytest.mark.parametrize(
    ("names", "message"),
    [
      (("ten", *DIGITS[1:]), "it lacks '0'. Leave it out, or choose networks of the same classes"),
      (DIGITS[:9], "9, not 10. Leave it out"),
    ],
  )
  def test_other_classes_are_refused(self, two, write, run_evaluate, data, names, message):
    other = write("other", self.CROPS[0], names)
    with pytest.raises(UserError, match=f"'{other}' has other classes than '{two[0]}': {message}"):
      run_evaluate(*map(str, [*two, other]), data)

  def test_other_images_are_refused(self, two, run_evaluate, data):
    content = json.loads((two[1] / "config.json").read_text())
    content["data"]["eval_split"] = "test[:50]"
    (two[1] / "config.json").write_text(json.dumps(content))
    with pytest.raises(
      UserError, match=r"a' is evaluated on digits, split test, and '.*/b' on oth"
    ):
      run_evaluate(*map(str, two), data)
    assert run_evaluate(*map(str, two), data, "--split=test[:40]")["ensemble"]["count"] == 40

  def test_an_image_that_cannot_be_decoded_is_left_out_for_all_and_told_once(
    self, write, run_evaluate, tmp_path, capsys
  ):
    names = ("ant", "bee")
    for name in names:
      for split in ("train", "test"):
        (tmp_path / "own" / split / name).mkdir(parents=True)
        for index in range(4):
          path = tmp_path / "own" / split / name / f"{index}.png"
          Image.new("L", (16, 16), 50 * index).save(path)
    path.write_bytes(b"no image")
    paths = [write(name, crop, names) for name, crop in zip("ab", self.CROPS, strict=True)]
    found = run_evaluate(*map(str, paths), "--data=folder", f"--data_dir={tmp_path / 'own'}")
    assert {each["count"] for each in (found["ensemble"], *found["members"])} == {7}
    errors = capsys.readouterr().err
    assert errors.count("cannot be decoded and is left out") == 1
    assert errors.count("1 of the 8 images cannot be decoded") == 1

  def test_answers_that_are_no_numbers_are_refused(self, two, run_evaluate, data, monkeypatch):
    answer_always(monkeypatch, np.nan)
    with pytest.raises(UserError, match=f"The answers of '{two[0]}' to some images are no finite"):
      run_evaluate(*map(str, two), data)

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      (lambda path: shutil.rmtree(path / "checkpoints"), "There is no checkpoint in .*b/checkpoin"),
      (
        lambda path: (path / "model.json").unlink(),
        "b' is not the directory of a run: it has no m",
      ),
    ],
  )
  def test_mistakes_are_found_before_a_network_is_evaluated(
    self, two, run_evaluate, data, monkeypatch, change, message
  ):
    change(two[1])
    monkeypatch.setattr(model_directory, "load", None)
    with pytest.raises(UserError, match=message):
      run_evaluate(*map(str, two), data)

  def test_the_image_size_is_that_of_all_members(self, write, run_evaluate, data):
    """Of networks that take any; the tiny one takes its own alone."""
    paths = [write(name, EvaluationCrop(16), seed=seed) for seed, name in enumerate("ab")]
    found = run_evaluate(*map(str, paths), data, "--image_size=16")
    assert [each["preprocessing"]["image_size"] for each in found["members"]] == [16, 16]

  def test_with_weights_for_each_activation_of_one_size(self, two, run_evaluate, data):
    content = json.loads((two[1] / "config.json").read_text())
    content["batch_norm"]["per_activation"] = "conv"
    (two[1] / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"'{two[1]}': The network takes images of 24 pixels alone"):
      run_evaluate(*map(str, two), data, "--image_size=16")


class TestImageNet:
  """A network of ImageNet's classes on a folder of images that are called as ImageNet's are."""

  CLASSES = ("n01440764", "n01443537", "n01498041")  # the labels 0, 1 and 6
  LABELS = (0, 1, 6)
  IMAGES = 12

  @pytest.fixture
  def network(self, run_evaluate, tmp_path):
    write = model_directory.write

    def write_uneven(path, config, description, variables):
      generator = np.random.default_rng(0)
      kernel = variables["params"]["logits"]["kernel"]
      variables["params"]["logits"]["kernel"] = kernel + generator.normal(0, 1, kernel.shape)
      write(path, config, description, jax.tree.map(np.float32, variables))

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(model_directory, "write", write_uneven)
      tiny.write_model_directory(
        tmp_path / "network", class_names(), Preprocessing(EvaluationCrop(16), DEFAULT)
      )
    return tmp_path / "network"

  @pytest.fixture
  def evaluate(self, run_evaluate, network, tmp_path):
    """Evaluates on the folder, and reads the probabilities of the images, in its order."""
    generator = np.random.default_rng(1)
    for number in range(self.IMAGES):
      folder = tmp_path / "own" / "validation" / self.CLASSES[number % 3]
      folder.mkdir(parents=True, exist_ok=True)
      pixels = generator.integers(0, 256, (16, 16, 3)).astype(np.uint8)
      Image.fromarray(pixels).save(folder / f"ILSVRC2012_val_{number + 1:08d}.png")
      (tmp_path / "own" / "train" / folder.name).mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels).save(tmp_path / "own" / "train" / folder.name / "one.png")

    def evaluate(*arguments):
      saved = tmp_path / "saved.npz"
      flags = ("--data=folder", f"--data_dir={tmp_path / 'own'}", "--split=validation")
      result = run_evaluate(network, *flags, f"--probabilities={saved}", *arguments)
      with np.load(saved) as file:
        return result, file["probabilities"][0], file["labels"]

    return evaluate

  def numbers(self, tmp_path):
    """Of the images, from 0, in the order of the split."""
    split = sources.open_split("folder", "validation", str(tmp_path / "own"))
    return [int(split.records.file_name(row)[-12:-4]) - 1 for row in range(self.IMAGES)]

  def test_reassessed_labels(self, evaluate, tmp_path, capsys):
    _, p, _ = evaluate()
    generator = np.random.default_rng(3)
    right = [
      generator.choice(1000, generator.integers(0, 400), replace=False).tolist()
      if number != 7
      else []
      for number in range(self.IMAGES)
    ]
    (tmp_path / "real.json").write_text(json.dumps(right + [[]] * (50_000 - self.IMAGES)))
    result, _, _ = evaluate(f"--labels={tmp_path / 'real.json'}")
    hits, among_five, count = 0, 0, 0
    for row, number in zip(p, self.numbers(tmp_path), strict=True):
      if right[number]:
        order = np.argsort(-row, kind="stable")
        hits += order[0] in right[number]
        among_five += any(label in right[number] for label in order[:5])
        count += 1
    assert count <= self.IMAGES - 1
    assert 0 < hits < among_five <= count
    assert (result["top1"], result["top5"], result["count"]) == (
      hits / count,
      among_five / count,
      count,
    )
    assert "loss" not in result
    told = f"Note: {self.IMAGES - count} images without a right class are left out."
    assert told in capsys.readouterr().err

  def test_images_that_are_left_out(self, evaluate, tmp_path, capsys):
    _, p, labels = evaluate()
    (tmp_path / "list.txt").write_text("3\nILSVRC2012_val_00000011.JPEG\n40000\n")
    result, found, kept = evaluate(f"--exclude={tmp_path / 'list.txt'}")
    mask = np.array([number + 1 not in (3, 11) for number in self.numbers(tmp_path)])
    np.testing.assert_array_equal(kept, labels[mask])
    np.testing.assert_allclose(found, p[mask], rtol=1e-6)
    assert result["count"] == self.IMAGES - 2
    errors = capsys.readouterr().err
    assert "Note: 2 of the 12 images are left out." in errors
    assert "Note: 1 of the 3 images to leave out are not in the split." in errors

  def test_both(self, evaluate, tmp_path):
    right = [[number] for number in range(self.IMAGES)] + [[]] * (50_000 - self.IMAGES)
    (tmp_path / "real.json").write_text(json.dumps(right))
    (tmp_path / "list.txt").write_text("1\n")
    flags = (f"--labels={tmp_path / 'real.json'}", f"--exclude={tmp_path / 'list.txt'}")
    result, p, labels = evaluate(*flags)
    assert sorted(labels) == list(range(1, self.IMAGES))
    assert result["loss"] == pytest.approx(
      -np.log(p[np.arange(len(labels)), labels].astype(float)).mean(), rel=1e-5
    )

  def test_a_set_of_200_classes(self, evaluate, monkeypatch, capsys):
    """As if this folder were such a set."""
    _, p, labels = evaluate()
    classes_of = imagenet_classes.classes_of
    monkeypatch.setattr(imagenet_classes, "classes_of", lambda name: self.possible())
    result, masked, _ = evaluate()
    assert "among 200 classes:" in capsys.readouterr().out
    assert classes_of("imagenet_a") != self.possible()
    mask = np.isin(list(imagenet_classes._names()), self.possible())
    expected = np.where(mask, p, 0) / p[:, mask].sum(-1, keepdims=True)
    np.testing.assert_allclose(masked, expected, rtol=1e-4, atol=1e-9)
    assert result["among"] == 200
    assert result["top1"] == np.mean(expected.argmax(-1) == labels)

  def test_a_class_that_such_a_set_has_not(self, evaluate, monkeypatch, tmp_path):
    monkeypatch.setattr(imagenet_classes, "classes_of", lambda name: self.possible()[1:])
    with pytest.raises(UserError, match=r"The class 'tench' of the image '.*n01440764/ILSV.*' is"):
      evaluate()
    assert not (tmp_path / "result.json").exists()

  def possible(self):
    return [*self.CLASSES, *list(imagenet_classes._names())[300:497]]

  def test_each_class_and_the_worst_images(self, evaluate, tmp_path):
    files = {name: tmp_path / name for name in ("x.csv", "worst.png", "crops.png")}
    flags = (f"--per_class={files['x.csv']}", f"--worst_images={files['worst.png']}")
    _, p, labels = evaluate(*flags, f"--show_crops={files['crops.png']}", "--crops=12")
    header, *rows = csv.reader(files["x.csv"].read_text().splitlines())
    assert header == ["class", "name", "images", "top1_error", "top5_error"]
    assert [(int(row[0]), int(row[2])) for row in rows] == [(label, 4) for label in self.LABELS]
    assert [row[1] for row in rows] == ["tench", "goldfish", "stingray"]
    for row, label in zip(rows, self.LABELS, strict=True):
      assert float(row[3]) == np.mean(p[labels == label].argmax(-1) != label)
    for name in ("worst.png", "crops.png"):
      with Image.open(files[name]) as figure:
        figure.verify()

  def test_the_papers_errors_stand_beside(self, evaluate, monkeypatch, capsys):
    monkeypatch.setattr(command, "_base_name", lambda name: "imagenet2012")
    evaluate("--crops=144", "--scales=grown")
    output = capsys.readouterr().out
    assert ", 144 crops, scales 32, 64, 96, 128 (grown): top1 " in output
    lines = output.splitlines()
    place = lines.index("errors by 144 crops in percent   images   top-1   top-5")
    assert lines[place + 1].split()[:3] == ["this", "evaluation", "12"]
    assert lines[place + 2].split() == ["1502.03167,", "Figure", "4", "50,000", "21.99", "5.82"]


class TestMistakes:
  def test_a_network_of_features(self, trained, run_evaluate, monkeypatch):
    load = model_directory.load_description

    def load_features(path):
      return dataclasses.replace(load(path), num_classes=0, class_names=())

    monkeypatch.setattr(model_directory, "load_description", load_features)
    with pytest.raises(UserError, match="gives features, not classes"):
      run_evaluate(trained[0])

  def test_data_of_other_classes(self, scratch, run_evaluate, tmp_path):
    path = tmp_path / "converted"
    tiny.write_model_directory(path, ["a", "b"], Preprocessing(EvaluationCrop(16), DEFAULT))
    with pytest.raises(UserError, match="the network does not know: '0', '1', '2' and 7 more"):
      run_evaluate(path, f"--data_dir={scratch / 'data'}")

  def test_not_a_run(self, run_evaluate, tmp_path):
    with pytest.raises(UserError, match=r"is not the directory of a run: it has no config.json"):
      run_evaluate(tmp_path / "nothing")

  def test_no_directory(self):
    with pytest.raises(UserError, match="Name one directory or several: python -m "):
      evaluate.parse(["evaluate", "--step=best"])

  def test_a_directory_twice(self):
    with pytest.raises(UserError, match="'a' is named twice; name each member of an ensemble once"):
      evaluate.parse(["evaluate", "a", "b", "--step=best", "a/"])

  @pytest.mark.parametrize(
    ("flag", "message"),
    [
      ("--batchsize=1", r"There is no flag '--batchsize'\. Did you mean '--batch_size'\?"),
      ("--process_count=two", "argument --process_count: invalid int value: 'two'"),
      ("--patience=long", "argument --patience: invalid float value: 'long'"),
    ],
  )
  def test_bad_flags(self, flag, message):
    with pytest.raises(UserError, match=message):
      evaluate.parse(["evaluate", "run", flag])

  @pytest.mark.parametrize("remains", ["an empty directory", "nothing"])
  def test_no_checkpoint(self, trained, run_evaluate, tmp_path, remains):
    path = tmp_path / "run"
    shutil.copytree(trained[0], path, ignore=shutil.ignore_patterns("checkpoints"))
    if remains == "an empty directory":
      (path / "checkpoints").mkdir()
    before = sorted(path.rglob("*"))
    with pytest.raises(UserError, match=r"There is no checkpoint in .*; train for longer"):
      run_evaluate(path)
    assert sorted(path.rglob("*")) == before

  def test_no_such_split(self, trained, run_evaluate):
    with pytest.raises(UserError, match="'tset' is not a split of 'digits'"):
      run_evaluate(trained[0], "--split=tset")

  def test_result_cannot_be_written(self, trained, run_evaluate, tmp_path):
    with pytest.raises(UserError, match="cannot be written: there is no directory"):
      run_evaluate(trained[0], f"--json={tmp_path}/missing/result.json")

  @pytest.mark.slow
  def test_as_a_command(self, scratch, tmp_path):
    status, output, errors = finish(start(scratch, *EVALUATE, tmp_path))
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: '{tmp_path}' is not the directory of a run")
