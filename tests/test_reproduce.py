"""`python -m speedpaper_jax.reproduce`: published numbers, measured again."""

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest
import samples
import tiny
from packages import require
from PIL import Image
from random_weights import (
  file_of,
  names_of,
  own_transform,
  publishing,
  sure_keras_network,
  sure_network,
)

from speedpaper_jax import reproduce
from speedpaper_jax.data import sources
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.imagenet_classes import class_names
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.sources import Split
from speedpaper_jax.distributed import hosts
from speedpaper_jax.distributed.interrupts import Interrupted
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import members, unfinished
from speedpaper_jax.interop import published, references
from speedpaper_jax.models import registry
from speedpaper_jax.published_weights import reproductions, table

IMAGES = 9
CROP = EvaluationCrop(16)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*arguments):
  reproduce.main(reproduce.parse(["reproduce", *map(str, arguments)]))


class Records(list):
  """Of the validation images, which are distinguished by `files`."""

  files = "these"

  def name(self, index):
    return f"record {index}"

  short_name = name

  def file_name(self, index):
    return f"ILSVRC2012_val_{index + 1:08d}.JPEG"

  def labels(self):
    return [record["label"] for record in self]

  def digest(self):
    return self.files


class TestRows:
  """One row, of a tiny network with random weights, on a few images."""

  NAME = "timm/inception_v4.tf_in1k"

  @pytest.fixture
  def records(self, monkeypatch):
    generator = np.random.default_rng(0)
    records = Records(
      {"image": generator.integers(0, 256, (16, 16, 3)).astype(np.uint8), "label": label}
      for label in range(IMAGES)
    )

    def open_split(name, split, data_dir):
      if name != "imagenet2012":
        raise UserError(f"The data set '{name}' is not prepared.")
      return Split(records, 1000, tuple(class_names()))

    monkeypatch.setattr(sources, "open_split", open_split)
    return records

  @pytest.fixture(autouse=True)
  def network(self, monkeypatch, tmp_path, records):
    """Its answers are the labels of the first six images, and wrong ones of the others."""
    monkeypatch.setattr(registry, "create", tiny.create)
    path = tmp_path / "network"
    tiny.write_model_directory(path, class_names(), Preprocessing(CROP, DEFAULT))
    monkeypatch.setattr(published, "of_row", lambda row: path)
    pieces = members.Evaluator.pieces
    evaluated = []

    def partly_right(self, variables, crops, start, on_batch):
      for done, piece in pieces(self, variables, crops, start, on_batch):
        evaluated.append(len(piece.numbers))
        piece.log_probabilities[:] = -10
        right = piece.numbers < 6
        rows = np.arange(len(right))
        piece.log_probabilities[rows, np.where(right, piece.labels, 999)] = -0.1
        yield done, piece

    monkeypatch.setattr(members.Evaluator, "pieces", partly_right)
    return evaluated

  @pytest.fixture
  def row(self, monkeypatch):
    """As if the published accuracy were of so many images."""
    validation = reproductions.validation

    def row(top1="66.67", top5="66.67", images=IMAGES):
      def changed():
        (row,) = (each for each in validation() if each.name == self.NAME)
        return [dataclasses.replace(row, top1=top1, top5=top5, images=images)]

      monkeypatch.setitem(reproductions.TABLES, "validation", changed)

    return row

  def test_a_number_that_is_found_again_passes(self, row, tmp_path, capsys):
    row()
    run(f"--json={tmp_path / 'x.json'}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
      f"{self.NAME}:  top-1 66.667 (66.67 published, -0.003 of ±0.055)  "
      "top-5 66.667 (66.67 published, -0.003 of ±0.055)  pass"
    )
    (content,) = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert (content["verdict"], content["images"]) == ("pass", IMAGES)
    assert content["top1"]["here"] == pytest.approx(200 / 3)

  def test_one_that_is_not_fails_and_so_does_the_command(self, row, tmp_path):
    row(top5="67.67")
    with pytest.raises(UserError, match=f"1 of 1 rows: {self.NAME} is outside its tolerance"):
      run(f"--json={tmp_path / 'x.json'}")
    (content,) = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert content["verdict"] == "fail"

  def test_other_images_than_published_are_not_judged(self, row, capsys):
    row("12.34", "56.78", images=50_000)
    run()
    assert "not judged: 9 of 50,000 images" in capsys.readouterr().out

  def test_the_first_images_alone(self, row, capsys):
    row("12.34", "56.78", images=50_000)
    run("--images=4")
    output = capsys.readouterr().out
    assert "not judged: 4 of 50,000 images" in output
    assert "top-1 100.000" in output

  def test_a_row_that_is_done_is_not_evaluated_again(self, row, network, tmp_path, capsys):
    row()
    run(f"--workdir={tmp_path / 'results'}")
    assert sum(network) == IMAGES
    run(f"--workdir={tmp_path / 'results'}")
    assert sum(network) == IMAGES
    first, again = (line for line in capsys.readouterr().out.splitlines() if ":  top-1" in line)
    assert again == f"{first} (done before)"

  @pytest.mark.parametrize("change", ["images", "version", "preprocessing"])
  def test_but_is_if_something_has_changed(
    self, row, records, network, monkeypatch, tmp_path, change
  ):
    row()
    run(f"--workdir={tmp_path / 'results'}")
    if change == "images":
      records.files = "others"
    elif change == "version":
      monkeypatch.setattr("speedpaper_jax.__version__", "100.0")
    else:
      content = json.loads((tmp_path / "network" / "model.json").read_text())
      content["preprocessing"]["interpolation"] = "bicubic"
      (tmp_path / "network" / "model.json").write_text(json.dumps(content))
    run(f"--workdir={tmp_path / 'results'}")
    assert sum(network) == 2 * IMAGES

  def test_a_row_that_was_interrupted_goes_on_there(
    self, row, network, monkeypatch, tmp_path, capsys
  ):
    row()
    run(f"--workdir={tmp_path / 'whole'}")
    stop_requests = hosts.stop_requests

    class AfterTheFirstBatch:
      def requested(self, place, continues):
        return None if place.startswith("0 ") else Interrupted("SIGTERM", place, 75, continues)

    monkeypatch.setattr(unfinished, "_SECONDS", 0)
    monkeypatch.setattr(
      hosts, "stop_requests", lambda: contextlib.nullcontext(AfterTheFirstBatch())
    )
    with pytest.raises(Interrupted, match="after 8 of 9 images"):
      run(f"--workdir={tmp_path / 'results'}", "--batch_size=8")
    assert not any((tmp_path / "results").iterdir())
    network.clear()
    monkeypatch.setattr(hosts, "stop_requests", stop_requests)
    run(f"--workdir={tmp_path / 'results'}", "--batch_size=8")
    assert network == [1]  # the last image alone
    whole, continued = (line for line in capsys.readouterr().out.splitlines() if ":  top-1" in line)
    assert continued == whole

  def test_a_label_that_is_not_among_the_classes_of_its_set(self, records, monkeypatch, capsys):
    monkeypatch.setattr(
      sources, "open_split", lambda *names: Split(records, 1000, tuple(class_names()))
    )
    with pytest.raises(UserError, match="rows: "):
      run(self.NAME, "--table=other_sets")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "on imagenet-a:" in line)
    assert line.endswith(
      "cannot be run: The class 'tench' of record 0 is none of the 200 that these images are known "
      "to be of; prepare the data set again."
    )

  def test_a_damaged_result_is_done_again(self, row, network, tmp_path, capsys):
    row()
    run(f"--workdir={tmp_path / 'results'}")
    (path,) = (tmp_path / "results").iterdir()
    path.write_text(path.read_text()[:40])
    run(f"--workdir={tmp_path / 'results'}")
    assert sum(network) == 2 * IMAGES
    assert f"{path} is damaged" in capsys.readouterr().err

  def test_a_row_that_cannot_be_run_leaves_the_others(self, tmp_path, capsys):
    with pytest.raises(UserError, match=r"5 of 5 rows: timm/inception_v4\.tf_in1k on imagenet-rea"):
      run(self.NAME, "--table=other_sets")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(
      "imagenet-real:  cannot be run: It is of reassessed labels; name them with "
      "--labels=real.json."
    )
    assert lines[2].endswith(":  cannot be run: The data set 'imagenet_a' is not prepared.")

  def test_reassessed_labels(self, tmp_path, capsys):
    right = [[label] if label % 2 else [] for label in range(IMAGES)]
    path = tmp_path / "real.json"
    path.write_text(json.dumps(right + [[]] * (50_000 - IMAGES)))
    with pytest.raises(UserError, match="4 of 5 rows"):
      run(self.NAME, "--table=other_sets", f"--labels={path}")
    first = capsys.readouterr().out.splitlines()[0]
    assert "top-1 100.000 (86.15 published" in first  # of the images 1, 3, 5 and 7
    assert first.endswith("not judged: 4 of 46,837 images")

  def test_several_crops_are_not_judged(self, monkeypatch, network, capsys):
    run(self.NAME, "--table=crops", "--batch_size=24")
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert "by 12 crops beside 1602.07261, Table 3:  top-1 66.667 (81.3 published" in first
    assert "by 144 crops beside 1602.07261, Table 4:" in second
    assert "not judged: 9 of 50,000 images" in first


class TestMistakes:
  def test_weights_that_are_not_there(self):
    with pytest.raises(UserError, match="There are no published weights 'timm/inception_v5'"):
      run("timm/inception_v5")

  def test_weights_without_a_row(self):
    with pytest.raises(UserError, match="The table 'crops' has no row of 'torchvision/googlenet'"):
      run("torchvision/googlenet", "--table=crops")

  def test_labels_of_another_table(self):
    with pytest.raises(UserError, match="--labels is of the table other_sets"):
      run("--labels=real.json")

  def test_labels_are_read_before_any_row(self, tmp_path):
    with pytest.raises(UserError, match="There is no file"):
      run("--table=other_sets", f"--labels={tmp_path / 'real.json'}")

  def test_a_workdir_that_is_none(self, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
      run(f"--workdir={tmp_path / 'file' / 'results'}")


@pytest.mark.slow
class TestBesideThePackages:
  """Random weights on the sample's images, beside the package's own evaluation of the same."""

  @pytest.fixture
  def publish(self, monkeypatch):
    with publishing(monkeypatch) as publish:
      yield publish

  @pytest.mark.parametrize(
    ("name", "count"),
    [
      ("torchvision/googlenet", 32),
      ("pretrainedmodels/bninception", 32),
      ("pytorchcv/bninception", 32),
      ("timm/inception_v3.tv_in1k", 8),
    ],
  )
  def test_of_pytorchs(self, name, count, publish, tmp_path, monkeypatch, capsys):
    row = table.find(name)
    require(row.package)
    torch = references.import_package("torch")
    names = names_of(row)
    module = sure_network(row.model, names, classes=1000)
    labels, images = sample(count)
    transform = own_transform(row, module)

    def theirs():
      with torch.no_grad():
        outputs = [transform(Image.open(io.BytesIO(image)).convert("RGB")) for image in images]
      logits = [references.split_logits(names, output)[0] for output in outputs]
      return torch.softmax(torch.cat(logits), -1).numpy()

    last = module.get_submodule(names.layers["logits"])
    order = torch.tensor(right_about(theirs(), labels))
    with torch.no_grad():
      last.weight.copy_(last.weight[order])
      last.bias.copy_(last.bias[order])
    publish(name, file_of(row, module, tmp_path), 1000, table.IMAGENET_CLASSES)
    compare(theirs(), labels, name, monkeypatch, capsys)

  @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
  def test_of_keras(self, publish, tmp_path, monkeypatch, capsys):
    require("keras", "h5py")
    keras, network = sure_keras_network(classes=1000)
    labels, images = sample(8)
    pixels = [
      keras.utils.img_to_array(
        keras.utils.load_img(io.BytesIO(image), target_size=(299, 299), interpolation="bilinear")
      )
      for image in images
    ]
    inputs = keras.applications.inception_v3.preprocess_input(np.stack(pixels))
    last = network.get_layer("predictions")
    order = right_about(network.predict(inputs, verbose=0), labels)
    last.set_weights([np.asarray(each.value)[..., order] for each in last.weights])
    network.save(tmp_path / "it.h5")
    content = (tmp_path / "it.h5").read_bytes()
    publish("keras/inception_v3", content, 1000, table.IMAGENET_CLASSES)
    theirs = network.predict(inputs, verbose=0)
    compare(theirs, labels, "keras/inception_v3", monkeypatch, capsys)


def sample(count):
  """Labels and encoded images of the first ones to evaluate on."""
  source = samples.imagenet("validation")
  records = [source[number] for number in range(count)]
  return np.array([record["label"] for record in records]), [record["image"] for record in records]


def right_about(probabilities, labels):
  """An order of the classes in which about half of the answers are right, as none is by chance."""
  order = list(range(probabilities.shape[-1]))
  for predicted, label in zip(probabilities.argmax(-1)[::2], labels[::2], strict=True):
    place = order.index(predicted)
    order[label], order[place] = order[place], order[label]
  return order


def compare(theirs, labels, name, monkeypatch, capsys):
  """Our number of the row beside that of the package's probabilities."""
  found = []
  evaluate = members.evaluate
  monkeypatch.setattr(
    members,
    "evaluate",
    lambda *arguments, **named: found.append(evaluate(*arguments, **named)) or found[-1],
  )
  run(name, f"--data_dir={samples.DIRECTORY}", f"--images={len(labels)}")
  (ensemble,) = found
  np.testing.assert_allclose(np.exp(ensemble.average), theirs, rtol=0, atol=1e-4)
  ranks = np.argsort(-theirs, -1, kind="stable")
  top1 = np.sum(ranks[:, 0] == labels)
  top5 = np.sum(ranks[:, :5] == labels[:, None])
  assert 0 < top1 < len(labels)
  line = capsys.readouterr().out.splitlines()[0]
  assert f"top-1 {100 * top1 / len(labels):.3f} " in line
  assert f"top-5 {100 * top5 / len(labels):.3f}" in line
  assert line.endswith(f"not judged: {len(labels)} of 50,000 images")
