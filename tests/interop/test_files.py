"""Files of tensors, of either format, and those that are none."""

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


def test_bfloat16_becomes_float32(tmp_path):
  path = tmp_path / "weights.pth"
  torch.save({"fc.weight": torch.ones(2, dtype=torch.bfloat16)}, path)
  assert files.read(path)["fc.weight"].dtype == np.float32


class TestMistakes:
  def refusal(self, path):
    with pytest.raises(UserError) as refusal:
      files.read(path)
    return str(refusal.value)

  def test_no_file(self, tmp_path):
    assert self.refusal(tmp_path / "none.pth") == f"There is no file {tmp_path / 'none.pth'}."

  def test_another_ending(self, tmp_path):
    assert "let it end in .pth (PyTorch) or .safetensors" in self.refusal(tmp_path / "weights.h5")

  @pytest.mark.parametrize("ending", [".pth", ".safetensors"])
  @pytest.mark.parametrize("content", [b"", b"no tensors", b"PK\x03\x04 cut off"])
  def test_damaged(self, ending, content, tmp_path):
    if ending == ".safetensors":
      pytest.importorskip("safetensors")
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    assert f"{path} is damaged or holds more than tensors: " in self.refusal(path)

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
