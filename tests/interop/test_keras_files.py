"""Keras's files are read whatever their form, and damaged ones are refused."""

import contextlib

import numpy as np
import pytest
from packages import require, saved_by_keras

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import files, keras_files


@pytest.fixture(scope="module")
def h5py():
  require("h5py")
  import h5py

  return h5py


def as_keras_2(h5py, path, layers):
  """Writes layers as `save_weights` did when the published weights were saved."""
  with h5py.File(path, "w") as file:
    file.attrs["layer_names"] = [name.encode() for name in layers]
    for name, arrays in layers.items():
      group = file.create_group(name)
      group.attrs["weight_names"] = [f"{name}/{leaf}:0".encode() for leaf in arrays]
      for leaf, values in arrays.items():
        group[f"{name}/{leaf}:0"] = values


def conv(*shape):
  return {"kernel": np.arange(np.prod(shape), dtype="float32").reshape(shape)}


def batch_norm(width):
  return {
    leaf: np.full(width, number, "float32")
    for number, leaf in enumerate(("beta", "moving_mean", "moving_variance"))
  }


def test_layers_are_numbered_in_the_order_in_which_they_were_built(h5py, tmp_path):
  """Not in that of the file, which is the network's; nor from where the process had come to."""
  layers = {
    "input_1": {},
    "conv2d_12": conv(1, 1, 2, 3),
    "batch_normalization_12": batch_norm(3),
    "conv2d_9": conv(3, 3, 2, 4),
    "batch_normalization_9": batch_norm(4),
    "predictions": {"kernel": np.ones((4, 5), "float32"), "bias": np.zeros(5, "float32")},
  }
  as_keras_2(h5py, tmp_path / "it.h5", layers)
  found = files.read(tmp_path / "it.h5")
  assert {name: values.shape for name, values in found.items()} == {
    "conv2d_2.weight": (3, 2, 1, 1),
    "batch_normalization_2.bias": (3,),
    "batch_normalization_2.running_mean": (3,),
    "batch_normalization_2.running_var": (3,),
    "conv2d_1.weight": (4, 2, 3, 3),
    "batch_normalization_1.bias": (4,),
    "batch_normalization_1.running_mean": (4,),
    "batch_normalization_1.running_var": (4,),
    "predictions.weight": (5, 4),
    "predictions.bias": (5,),
  }
  assert found["conv2d_1.weight"][3, 1, 2, 0] == layers["conv2d_9"]["kernel"][2, 0, 1, 3]
  assert found["batch_normalization_1.running_var"][0] == 2


@pytest.mark.slow
def test_forms(h5py, tmp_path):
  """The whole model, its weights alone, and the archive of both."""
  require("keras")
  read = [
    files.read(saved_by_keras("inception_v3", tmp_path / name))
    for name in ("it.h5", "it.weights.h5", "it.keras")
  ]
  for other in read[1:]:
    assert other.keys() == read[0].keys()
    assert all(np.array_equal(other[name], values) for name, values in read[0].items())


class TestMistakes:
  def refusal(self, path):
    with pytest.raises(UserError) as refusal:
      files.read(path)
    return str(refusal.value)

  def test_no_weights(self, h5py, tmp_path):
    as_keras_2(h5py, tmp_path / "it.h5", {})
    assert self.refusal(tmp_path / "it.h5").endswith(
      "holds no weights; save them with model.save_weights(…)."
    )

  def test_another_kind_of_layer(self, h5py, tmp_path):
    as_keras_2(h5py, tmp_path / "it.h5", {"lstm": {"kernel": np.ones((2, 3, 4))}})
    assert "The layer 'lstm' of " in self.refusal(tmp_path / "it.h5")
    assert "is of no known kind: its arrays are [2, 3, 4]." in self.refusal(tmp_path / "it.h5")

  def test_objects_in_the_place_of_numbers(self, h5py, tmp_path):
    as_keras_2(h5py, tmp_path / "it.h5", {"conv2d": {"kernel": np.array([b"text"])}})
    assert "is damaged, or no weights of Keras's" in self.refusal(tmp_path / "it.h5")

  def test_whatever_is_damaged_is_read_or_told(self, h5py, tmp_path):
    as_keras_2(h5py, tmp_path / "whole", {"conv2d": conv(1, 1, 2, 3), "bn": batch_norm(3)})
    whole = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "it.h5"
    for _ in range(100):
      damaged = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.2 else whole)
      for place in rng.integers(max(len(damaged), 1), size=rng.integers(1, 5)):
        damaged[place : place + 1] = rng.bytes(1)
      path.write_bytes(damaged)
      with contextlib.suppress(UserError):
        files.read(path)


def test_a_zip_file_of_pytorchs_is_none_of_keras(tmp_path):
  torch = pytest.importorskip("torch")
  torch.save({"fc.weight": torch.ones(2)}, tmp_path / "it.pth")
  assert not keras_files.is_one(tmp_path / "it.pth", (tmp_path / "it.pth").read_bytes())
