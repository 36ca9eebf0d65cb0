"""What a state dict is found to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speedpaper_jax import models
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments.defaults import train_config
from speedpaper_jax.interop import conversion, tensors
from speedpaper_jax.interop.names import implementation, own_names
from speedpaper_jax.model_directory import Description, LoadedModel
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.normalization import DEFAULT
from speedpaper_jax.preprocessing import Preprocessing


def state_dict_of(model, source, num_classes, has_aux=True):
  names = implementation(model, source)
  has_aux = has_aux and bool(names.aux)
  network = conversion.create_network(model, names, num_classes, has_aux)
  rng = np.random.default_rng(0)
  return {
    tensor.theirs: rng.normal(size=tensor.their_shape).astype("float32")
    for tensor in tensors.tensors(network, names, names.image_size)
  }


def read(model, dialect, state_dict, num_classes=None, image_size=None):
  return conversion.read_weights(model, dialect, state_dict, num_classes, image_size, "it")


class TestBackgroundClass:
  """TensorFlow's ImageNet has a class 0 for background in front of the thousand."""

  @pytest.fixture(scope="class")
  @classmethod
  def state_dict(cls):
    return state_dict_of("inception_v3", "timm", 1001)

  def test_is_dropped(self, state_dict):
    weights = read("inception_v3", "timm", state_dict)
    assert (weights.num_classes, weights.dropped_background) == (1000, True)
    params = weights.variables["params"]
    np.testing.assert_array_equal(params["logits"]["kernel"], state_dict["fc.weight"][1:].T)
    np.testing.assert_array_equal(params["logits"]["bias"], state_dict["fc.bias"][1:])

  def test_is_dropped_from_auxiliary_heads_too(self, state_dict):
    params = read("inception_v3", "timm", state_dict).variables["params"]
    np.testing.assert_array_equal(
      params["aux"]["logits"]["bias"], state_dict["AuxLogits.fc.bias"][1:]
    )

  def test_is_kept_where_that_is_asked_for(self, state_dict):
    weights = read("inception_v3", "timm", state_dict, num_classes=1001)
    assert (weights.num_classes, weights.dropped_background) == (1001, False)

  def test_other_numbers_of_classes_do_not_fit(self, state_dict):
    with pytest.raises(UserError, match="it has 1001 classes, not 999; leave --num_classes out"):
      read("inception_v3", "timm", state_dict, num_classes=999)


def test_auxiliary_heads_are_there_where_their_tensors_are():
  assert read("inception_v3", "timm", state_dict_of("inception_v3", "timm", 10)).has_aux_heads
  without = state_dict_of("inception_v3", "timm", 10, has_aux=False)
  weights = read("inception_v3", "timm", without)
  assert not weights.has_aux_heads
  assert "aux" not in weights.variables["params"]


@pytest.mark.parametrize("source", ["timm", "pretrainedmodels"])
def test_the_name_of_the_softmax_layer_tells_whose_file_it_is(source):
  state_dict = state_dict_of("inception_resnet_v2", source, 10)
  weights = read("inception_resnet_v2", None, state_dict)
  assert (weights.names.source, weights.names.dialect) == (source, "timm")


def test_a_dialect_must_be_named_where_several_are_in_pytorch():
  with pytest.raises(
    UserError, match="Name whose inception_v3 it is with --dialect; valid: timm, "
  ):
    read("inception_v3", None, state_dict_of("inception_v3", "timm", 10))


def test_a_file_of_another_network_is_refused():
  with pytest.raises(UserError, match=r"it lacks the tensor 'last_linear\.bias'"):
    read("inception_v4", None, state_dict_of("inception_v3", "timm", 10))


def test_variables_are_float32():
  state_dict = state_dict_of("inception_v3", "timm", 10, has_aux=False)
  halves = {name: values.astype("float16") for name, values in state_dict.items()}
  variables = read("inception_v3", "timm", halves).variables
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


def test_our_own_names_for_a_dialect_that_is_not_in_pytorch():
  names = own_names("inception_v4", "paper")
  network = conversion.create_network("inception_v4", names, 10, has_aux=False)
  table = tensors.tensors(network, names, names.image_size)
  state_dict = {tensor.theirs: np.zeros(tensor.their_shape, "float32") for tensor in table}
  assert "mixed_4a.conv_7x7_3x3_2.conv.weight" in state_dict
  assert state_dict["mixed_4a.conv_7x7_3x3_2.conv.weight"].shape == (64, 64, 7, 1)
  assert read("inception_v4", "paper", state_dict).names.source == "speedpaper_jax"


def test_an_image_size_decides_the_shape_of_auxiliary_heads():
  names = own_names("inception_v3", "slim")
  network = conversion.create_network("inception_v3", names, 10, has_aux=True)
  table = tensors.tensors(network, names, 75)
  state_dict = {tensor.theirs: np.zeros(tensor.their_shape, "float32") for tensor in table}
  assert read("inception_v3", "slim", state_dict, image_size=75).names.image_size == 75
  with pytest.raises(UserError, match=r"\[768, 128, 1, 1\], not \[768, 128, 5, 5\]"):
    read("inception_v3", "slim", state_dict)


def test_the_config_has_the_dialects_batch_normalization_and_input():
  weights = read("bn_inception", None, state_dict_of("bn_inception", "pretrainedmodels", 10))
  config = conversion.config_of("bn_inception", weights, EvaluationCrop(224, 0.875, "short_side"))
  assert (config.model.name, config.model.dialect) == ("bn_inception", "pretrainedmodels")
  assert (config.batch_norm.epsilon, config.batch_norm.decay) == (1e-5, 0.9)
  assert (config.data.image_size, config.data.eval_resize) == (224, "short_side")
  assert not config.model.aux_heads


class TestToPyTorch:
  """Tensors do not say what the layers between them are."""

  def loaded(self, model, dialect, settings, **fields):
    network = models.create(model, dialect, num_classes=10, settings=settings, **fields)
    config = train_config()
    config.data.image_size = 75
    images = jnp.zeros((1, 75, 75, 3))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    preprocessing = Preprocessing(EvaluationCrop(75, 0.875, "short_side"), DEFAULT)
    description = Description(model, dialect, 10, (), preprocessing, "a test")
    return LoadedModel(3, config, description, network, variables)

  def test_layers_as_the_package_has_them(self, capsys):
    settings = LayerSettings(BatchNorm(epsilon=1e-3))
    state_dict = conversion.state_dict_of(self.loaded("inception_v4", "timm", settings), None)
    assert state_dict["features.0.bn.num_batches_tracked"] == 3
    assert capsys.readouterr().err == ""

  @pytest.mark.parametrize(
    "settings", [LayerSettings(batch_norm=None), LayerSettings(activation="sigmoid")]
  )
  def test_layers_that_the_package_has_not(self, settings):
    with pytest.raises(UserError, match="timm's inception_v4 has batch normalization and rectif"):
      conversion.state_dict_of(self.loaded("inception_v4", "timm", settings), None)

  def test_settings_that_must_be_set_there(self, capsys):
    settings = LayerSettings(BatchNorm(epsilon=0.01))
    scales = {"residual_scales": (0.1, 0.1, 0.1)}
    loaded = self.loaded("inception_resnet_v2", "timm", settings, **scales)
    conversion.state_dict_of(loaded, None)
    assert capsys.readouterr().err.splitlines() == [
      "warning: The network was trained with ε = 0.01, and timm's has 0.001: set eps of each of "
      "its batch normalizations.",
      "warning: The network was trained with the residual scales [0.1, 0.1, 0.1], and timm's has "
      "[0.17, 0.1, 0.2]: set scale of each of its residual blocks.",
    ]
