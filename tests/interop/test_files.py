"""Files of tensors, of either format, and those that are none."""

import argparse
import collections
import contextlib
import pathlib
import resource
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import files

torch = pytest.importorskip("torch")


@pytest.fixture
def state_dict():
  return {"conv.weight": np.arange(24, dtype="float32").reshape(2, 3, 2, 2), "n": np.asarray(3)}


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".safetensors"])
def test_what_is_written_is_read(ending, state_dict, tmp_path):
  if ending == ".safetensors":
    pytest.importorskip("safetensors")
  path = tmp_path / f"weights{ending}"
  files.write(path, state_dict)
  again = files.read(path)
  assert again.keys() == state_dict.keys()
  for name, values in state_dict.items():
    assert again[name].dtype == values.dtype
    np.testing.assert_array_equal(again[name], values)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_inside_a_checkpoint_is_found(key, tmp_path):
  path = tmp_path / "checkpoint.pth"
  torch.save({"epoch": 3, key: {"module.fc.weight": torch.ones(2)}}, path)
  assert files.read(path).keys() == {"fc.weight"}


@pytest.mark.parametrize(
  "beside",
  [
    argparse.Namespace(lr=0.1, out=pathlib.Path("runs"), resume=None),
    {"best_acc1": np.float64(76.5), "epochs": np.int64(3), "done": np.bool_(True)},
    {"milestones": collections.Counter([30, 60]), "device": torch.device("cuda"), "seeds": {1}},
  ],
)
@pytest.mark.parametrize("as_zip", [True, False])
def test_plain_values_may_lie_beside_the_tensors(beside, as_zip, tmp_path):
  path = tmp_path / "model_best.pth.tar"
  content = {"state_dict": {"fc.weight": torch.ones(2)}, "args": beside}
  torch.save(content, path, _use_new_zipfile_serialization=as_zip)
  np.testing.assert_array_equal(files.read(path)["fc.weight"], [1, 1])


def test_lightnings_hyper_parameters_may_lie_beside_the_tensors(tmp_path, monkeypatch):
  module = types.ModuleType("lightning_fabric.utilities.data")
  module.AttributeDict = type("AttributeDict", (dict,), {"__module__": module.__name__})
  path = tmp_path / "epoch=3.ckpt"
  with monkeypatch.context() as patched:
    for name in ("lightning_fabric", "lightning_fabric.utilities", module.__name__):
      patched.setitem(sys.modules, name, module)
    hyper_parameters = module.AttributeDict(lr=0.1)
    content = {
      "state_dict": {"model.fc.weight": torch.ones(2)},
      "hyper_parameters": hyper_parameters,
    }
    torch.save(content, path)
  assert files.read(path).keys() == {"fc.weight"}


@pytest.mark.parametrize("ending", [".ckpt", ".tar", "", ".safetensors", ".model"])
def test_the_content_tells_the_format_and_not_the_ending(ending, state_dict, tmp_path):
  for written in (".pth", ".safetensors"):
    files.write(tmp_path / f"weights{written}", state_dict)
    path = (tmp_path / f"weights{written}").rename(tmp_path / f"other{ending}")
    assert files.read(path).keys() == state_dict.keys()


def test_the_key_chooses_among_state_dicts(tmp_path):
  path = tmp_path / "checkpoint.pth"
  content = {
    "state_dict": {"fc.bias": torch.zeros(1)},
    "state_dict_ema": {"fc.bias": torch.ones(1)},
  }
  torch.save(content, path)
  assert (files.read(path)["fc.bias"], files.read(path, "state_dict_ema")["fc.bias"]) == (0, 1)


def test_reading_safetensors_needs_no_other_package(state_dict, tmp_path):
  """Neither PyTorch nor its packages of networks."""
  path = tmp_path / "weights.safetensors"
  files.write(path, state_dict)
  program = (
    "import sys\n"
    "sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'timm')))\n"
    "import pathlib\n"
    "from speedpaper_jax.interop import files\n"
    f"print(*files.read(pathlib.Path({str(path)!r})))"
  )
  finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  assert set(finished.stdout.split()) == set(state_dict), finished.stderr


def test_reading_pytorchs_files_needs_pytorch_alone(state_dict, tmp_path, monkeypatch):
  path = tmp_path / "weights.pth"
  files.write(path, state_dict)
  for package in ("torchvision", "timm", "safetensors"):
    monkeypatch.setitem(sys.modules, package, None)
  assert files.read(path).keys() == state_dict.keys()


def test_bfloat16_becomes_float32(tmp_path):
  path = tmp_path / "weights.pth"
  torch.save({"fc.weight": torch.ones(2, dtype=torch.bfloat16)}, path)
  assert files.read(path)["fc.weight"].dtype == np.float32


class TestWriting:
  """Whole or not at all, and over nothing."""

  @pytest.fixture(params=[".pth", ".safetensors"])
  def path(self, request, tmp_path):
    return tmp_path / f"weights{request.param}"

  def test_nothing_is_written_over(self, path, state_dict):
    path.write_text("mine")
    with pytest.raises(UserError, match=r"There is something at '.*' already; name another"):
      files.write(path, state_dict)
    assert path.read_text() == "mine"

  def test_a_full_disk_leaves_no_fragment(self, path, state_dict):
    state_dict["fc.weight"] = np.zeros(100_000, "float32")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    try:
      with pytest.raises(UserError, match=f"{path} cannot be written: "):
        files.write(path, state_dict)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(path.parent.iterdir()) == []

  def test_places_are_checked_before(self, tmp_path):
    for path, message in {
      tmp_path / "weights.h5": r"let it end in .pth \(PyTorch\) or .safetensors",
      tmp_path / "nowhere" / "weights.pth": "there is no directory",
    }.items():
      with pytest.raises(UserError, match=message):
        files.check(path)


class TestMistakes:
  def refusal(self, path):
    with pytest.raises(UserError) as refusal:
      files.read(path)
    return str(refusal.value)

  def test_no_file(self, tmp_path):
    assert self.refusal(tmp_path / "none.pth") == f"There is no file {tmp_path / 'none.pth'}."

  @pytest.mark.parametrize(
    ("content", "message"),
    [
      (b"version https://git-lfs.github.com/spec/v1\noid ...", "is a pointer of Git LFS; fetch"),
      (b"<!DOCTYPE html><html>", "is a web page; download the file itself."),
    ],
  )
  def test_other_formats(self, content, message, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert f"{path} {message}" in self.refusal(path)

  def test_a_whole_module(self, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 3), path)
    assert "an object of torch.nn.modules.linear.Linear, whose code is not" in self.refusal(path)
    assert "with torch.save(model.state_dict(), 'weights.pth')" in self.refusal(path)

  @pytest.mark.parametrize("ending", [".pth", ".safetensors"])
  @pytest.mark.parametrize("content", [b"", b"no tensors", b"PK\x03\x04 cut off"])
  def test_damaged(self, ending, content, tmp_path):
    if ending == ".safetensors":
      pytest.importorskip("safetensors")
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    assert f"{path} is damaged or holds more than tensors: " in self.refusal(path)

  @pytest.mark.parametrize("form", ["zip", "pickle", "safetensors"])
  def test_whatever_is_damaged_is_read_or_told(self, form, state_dict, tmp_path):
    path = tmp_path / "weights"
    if form == "safetensors":
      pytest.importorskip("safetensors")
      files.write(path.with_suffix(".safetensors"), state_dict)
      whole = path.with_suffix(".safetensors").read_bytes()
    else:
      content = {"state_dict": {"fc.bias": torch.ones(9)}, "args": argparse.Namespace(lr=0.1)}
      torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
      whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
      damaged = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.2 else whole)
      for place in rng.integers(max(len(damaged), 1), size=rng.integers(1, 5)):
        damaged[place : place + 1] = rng.bytes(1)
      path.write_bytes(damaged)
      with contextlib.suppress(UserError):
        files.read(path)

  def test_code_in_the_file_is_not_run(self, tmp_path):
    class Harmful:
      def __reduce__(self):
        return (zipfile.Path, ("anything",))

    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": Harmful()}, path)
    assert "damaged or holds more than tensors" in self.refusal(path)

  @pytest.mark.parametrize("content", [[1, 2], {}])
  def test_no_state_dict(self, content, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert "holds no state dict; save one with torch.save(model.state_dict())" in self.refusal(path)

  def test_other_things_among_the_tensors(self, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.ones(2), "epoch": 3}, path)
    assert "'epoch' in" in self.refusal(path)

  def test_a_place_that_cannot_be_written(self, state_dict, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
      files.write(tmp_path / "file" / "weights.pth", state_dict)
