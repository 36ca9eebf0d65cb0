"""144 crops of a prime number of images, however divided and however often interrupted."""

import functools
import json
import re
import signal

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from commands import ROOT, finish, kill, launch, start, wait_until

from speedpaper_jax.data import sources
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.square_crops import SquareCrops
from speedpaper_jax.distributed import parallel
from speedpaper_jax.inference import model_directory
from speedpaper_jax.models import registry

pytestmark = pytest.mark.slow

IMAGES = 353  # a prime number
CROP = EvaluationCrop(16, interpolation="bicubic")
PROGRAM = ROOT / "tests" / "tiny_evaluate.py"
# Of numbers near 1, from float32 networks on batches of other shapes.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def network(tmp_path_factory):
  path = tmp_path_factory.mktemp("network") / "network"
  names = [str(digit) for digit in range(10)]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", tiny.create)
    tiny.write_model_directory(path, names, Preprocessing(CROP, DEFAULT))
  return path


@pytest.fixture(scope="module")
def one_by_one(network, scratch):
  """Labels, and the mean probabilities of each image, which is shown to the network alone."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", tiny.create)
    model = model_directory.load(network, parallel.make_mesh())
  of_image = SquareCrops(CROP, 144)
  split = sources.open_split("digits", f"test[:{IMAGES}]", str(scratch / "data"))
  labels, means = [], []
  for record in (split.records[number] for number in range(IMAGES)):
    crops = of_image.windows.cut(of_image(record["image"]))
    logits = model.network.apply(model.variables, DEFAULT.apply(jnp.asarray(crops)), train=False)
    p = np.exp(np.asarray(logits, np.float64))
    means.append((p / p.sum(-1, keepdims=True)).mean(0))
    labels.append(record["label"])
  return np.array(labels), np.array(means)


@pytest.fixture
def command(network, scratch, tmp_path, monkeypatch):
  """Starts the command; its cache is the test's own."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.setenv("TFDS_DATA_DIR", str(scratch / "data"))
  arguments = (
    *(network, "--crops=144", f"--split=test[:{IMAGES}]", "--batch_size=200"),
    *(f"--json={tmp_path}/result.json", f"--probabilities={tmp_path}/answers.npz"),
  )

  def command(processes=1, devices=1, seconds=0):
    if processes == 1:
      return start(scratch, PROGRAM, *arguments, devices=devices, seconds_per_step=seconds)
    return launch(
      scratch,
      *(f"--workdir={tmp_path}", *arguments),
      program=PROGRAM,
      processes=processes,
      devices=devices // processes,
      seconds_per_step=seconds,
      grace=60,
    )

  return command


@pytest.fixture
def check(tmp_path, one_by_one):
  """Compares the files that a command has written with the loop over single images."""

  def check(process):
    status, output, errors = finish(process)
    assert status == 0, output + errors
    labels, means = one_by_one
    with np.load(tmp_path / "answers.npz") as file:
      saved = dict(file)
    np.testing.assert_array_equal(saved["labels"], labels)
    np.testing.assert_allclose(saved["probabilities"][0], means, rtol=0, atol=TOLERANCE)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["count"] == IMAGES
    assert result["top1"] * IMAGES == pytest.approx(np.sum(means.argmax(-1) == labels), abs=1e-9)
    of_labels = means[np.arange(IMAGES), labels]
    assert result["loss"] == pytest.approx(-np.log(of_labels).mean(), rel=1e-6)
    assert not (tmp_path / "cache" / "speedpaper_jax" / "evaluations").exists()
    return errors

  return check


@pytest.fixture
def pieces(tmp_path):
  """What an interrupted evaluation has left: the last image of each piece."""

  def pieces():
    found = (tmp_path / "cache" / "speedpaper_jax" / "evaluations").rglob("*.npz")
    return sorted(int(path.stem.partition("-")[2]) for path in found if path.name[0] != ".")

  return pieces


@pytest.mark.parametrize(("processes", "devices"), [(1, 1), (1, 8), (2, 8)])
def test_equals_a_loop_over_single_images(command, check, processes, devices):
  check(command(processes, devices))


@pytest.mark.parametrize("processes", [1, 2])
def test_goes_on_after_sigterm(command, check, pieces, processes):
  process = command(processes, devices=8, seconds=0.1)
  wait_until(process, lambda: len(pieces()) >= 2)
  process.send_signal(signal.SIGTERM)
  status, output, errors = finish(process)
  assert status != 0
  (done,) = set(re.findall(rf"Stopped by .* after (\d+) of {IMAGES} images", errors))
  assert "The same command continues" in errors
  assert not output.count("top1")
  assert pieces()[-1] == int(done)
  assert "Continuing '" in (found := check(command(processes, devices=8)))
  assert f"after {done} of {IMAGES} images" in found


def test_goes_on_after_sigkill_on_other_devices(command, check, pieces):
  for wanted in (2, 5):
    process = command(devices=1, seconds=0.05)
    wait_until(process, functools.partial(lambda wanted: len(pieces()) >= wanted, wanted))
    kill(process)
  done = pieces()[-1]
  assert 0 < done < IMAGES
  errors = check(command(devices=8))
  assert f"after {done} of {IMAGES} images" in errors
