"""Weights of every PyTorch implementation become ours and theirs again, bit for bit."""

import jax
import numpy as np
import pytest
from packages import require, saved_by_keras

from speedpaper_jax import models
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import files, references, tensors
from speedpaper_jax.interop.conversion import create_network
from speedpaper_jax.interop.names import implementation, implementations, own_names
from speedpaper_jax.models import registry

PAIRS = [
  pytest.param(model, names, id=f"{model}-{names.source}")
  for model in registry.MODELS
  for names in implementations(model)
]
WITHOUT_PYTORCH = [
  (model, dialect)
  for model in registry.MODELS
  for dialect in registry.dialects(model)
  if not implementations(model, dialect)
]


def table_of(model, names, num_classes=10):
  network = create_network(model, names, num_classes, has_aux=bool(names.aux))
  return tensors.tensors(network, names, max(names.image_size, 224))


def state_dict_of(table):
  """Other numbers in every place."""
  rng = np.random.default_rng(0)
  state_dict = {
    tensor.theirs: rng.uniform(0.1, 1, tensor.their_shape).astype("float32") for tensor in table
  }
  return state_dict | {name: np.asarray(5) for name in tensors.counters(table)}


@pytest.mark.parametrize(("model", "names"), PAIRS)
def test_the_tensors_are_those_of_the_package(model, names, tmp_path):
  """Names, shapes and number of all of them, and the way there and back."""
  require(names.source)
  if names.in_torch:
    module = references.build(model, names, 10, with_aux=True)
    state_dict = {name: values.numpy() for name, values in module.state_dict().items()}
  else:
    state_dict = files.read(saved_by_keras(model, tmp_path / "it.h5"))
  table = table_of(model, names)
  variables = tensors.from_torch(state_dict, table, "it")
  again = tensors.to_torch(variables, table, tensors.steps_of(state_dict))
  if not names.in_torch:
    again = {name: values for name, values in again.items() if name in state_dict}
  assert again.keys() == state_dict.keys()
  for name, values in state_dict.items():
    assert again[name].dtype == values.dtype, name
    assert again[name].tobytes() == values.tobytes(), name
    assert again[name].shape == values.shape, name


@pytest.mark.parametrize(("model", "dialect"), WITHOUT_PYTORCH)
def test_dialects_that_nobody_has_in_pytorch_keep_our_names(model, dialect):
  table = table_of(model, own_names(model, dialect))
  state_dict = state_dict_of(table)
  again = tensors.to_torch(tensors.from_torch(state_dict, table, "it"), table, steps=5)
  assert again.keys() == state_dict.keys()
  assert all(again[name].tobytes() == values.tobytes() for name, values in state_dict.items())


class TestLayout:
  @pytest.fixture(scope="class")
  @classmethod
  def table(cls):
    (names,) = implementations("googlenet")
    return {tensor.theirs: tensor for tensor in table_of("googlenet", names)}

  def test_kernels_are_out_in_height_width_in_pytorch(self, table):
    assert table["conv1.conv.weight"].shape == (7, 7, 3, 64)
    assert table["conv1.conv.weight"].their_shape == (64, 3, 7, 7)

  def test_fully_connected_layers_are_out_in(self, table):
    assert table["fc.weight"].shape == (1024, 10)
    assert table["fc.weight"].their_shape == (10, 1024)

  def test_a_layer_that_sees_a_whole_map_has_it_flattened_channels_first(self, table):
    tensor = table["aux1.fc1.weight"]
    assert tensor.shape == (4, 4, 128, 1024)
    ours = np.arange(np.prod(tensor.shape), dtype=np.float32).reshape(tensor.shape)
    theirs = tensor.to_torch(ours)
    height, width, channel, unit = 1, 2, 3, 4
    assert theirs[unit, channel * 16 + height * 4 + width] == ours[height, width, channel, unit]
    np.testing.assert_array_equal(tensor.from_torch(theirs), ours)


class TestMistakes:
  """A tensor that is missing, left over or of another shape is named."""

  @pytest.fixture(scope="class")
  @classmethod
  def table(cls):
    names = implementation("bn_inception", "pretrainedmodels")
    return table_of("bn_inception", names)

  @pytest.fixture
  def state_dict(self, table):
    return state_dict_of(table)

  def refusal(self, state_dict, table):
    with pytest.raises(UserError) as refusal:
      tensors.from_torch(state_dict, table, "weights.pth")
    return str(refusal.value)

  def test_missing(self, state_dict, table):
    del state_dict["conv2_3x3.weight"], state_dict["last_linear.bias"]
    message = self.refusal(state_dict, table)
    assert "weights.pth lacks the tensor 'conv2_3x3.weight' (and 1 more)" in message

  def test_left_over(self, state_dict, table):
    state_dict["conv9.weight"] = np.zeros(3)
    assert "has the tensor 'conv9.weight', which" in self.refusal(state_dict, table)

  def test_of_another_shape(self, state_dict, table):
    state_dict["conv2_3x3.weight"] = np.zeros((192, 64, 1, 1))
    message = self.refusal(state_dict, table)
    assert "'conv2_3x3.weight' of weights.pth has the shape [192, 64, 1, 1], not" in message
    assert "[192, 64, 3, 3]" in message

  def test_counters_may_be_missing(self, state_dict, table):
    """Files from before PyTorch 0.4.1 have none."""
    expected = tensors.from_torch(state_dict, table, "it")
    for name in tensors.counters(table):
      del state_dict[name]
    assert tensors.steps_of(state_dict) == 0
    variables = tensors.from_torch(state_dict, table, "it")
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, expected))

  def test_a_missing_one_and_what_it_may_be_called(self, state_dict, table):
    state_dict["conv2_3x3.kernel"] = state_dict.pop("conv2_3x3.weight")
    assert self.refusal(state_dict, table) == (
      "weights.pth lacks the tensor 'conv2_3x3.weight'. Nearest to it, the file has "
      "'conv2_3x3.kernel'."
    )


class TestSteps:
  """The counters of PyTorch's batch normalization, of which nothing depends."""

  @pytest.mark.parametrize(
    ("counters", "steps"),
    [
      ([5, 5], 5),
      ([5, 7, 0], 7),  # a part was frozen
      ([], 0),
      ([np.int32(3), np.float32(4), np.asarray([2])], 4),
      ([np.nan, -3, 2], 2),
      ([2**40, 6], 6),  # more than a training state counts
      ([np.zeros(0), True, 1 + 2j, 1], 1),
    ],
  )
  def test_the_largest_counts(self, counters, steps):
    state_dict = {
      f"bn{i}.num_batches_tracked": np.asarray(counter) for i, counter in enumerate(counters)
    }
    assert tensors.steps_of(state_dict | {"fc.bias": np.full(3, 9)}) == steps


def test_the_networks_shapes_are_taken_without_computing_anything():
  names = implementation("bn_inception", "pretrainedmodels")
  table = tensors.tensors(
    models.create("bn_inception", "pretrainedmodels", num_classes=1001), names, 224
  )
  shapes = {tensor.theirs: tensor.their_shape for tensor in table}
  assert shapes["last_linear.weight"] == (1001, 1024)
