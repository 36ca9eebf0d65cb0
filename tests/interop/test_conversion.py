"""What a state dict is found to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speedpaper_jax import models
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription
from speedpaper_jax.interop import conversion, tensors
from speedpaper_jax.interop.names import implementation, own_names
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.steps import build


def state_dict_of(model, source, num_classes, has_aux=True):
  names = implementation(model, source)
  has_aux = has_aux and bool(names.aux)
  network = conversion.create_network(model, names, num_classes, has_aux)
  rng = np.random.default_rng(0)
  return {
    tensor.theirs: rng.uniform(0.1, 1, tensor.their_shape).astype("float32")
    for tensor in tensors.tensors(network, names, names.image_size)
  }


def without(state_dict, prefix):
  return {name: values for name, values in state_dict.items() if not name.startswith(prefix)}


@pytest.fixture(scope="module")
def whole_bn_inception():
  return state_dict_of("bn_inception", "pretrainedmodels", 10)


@pytest.fixture
def bn_inception(whole_bn_inception):
  """Tensors that a test may change."""
  return {name: values.copy() for name, values in whole_bn_inception.items()}


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


class TestWithoutSoftmaxLayer:
  """Backbones and embeddings."""

  def test_the_network_has_no_classes(self):
    state_dict = without(state_dict_of("inception_resnet_v1", "facenet", 10), "logits.")
    weights = read("inception_resnet_v1", None, state_dict)
    assert weights.num_classes == 0
    assert weights.notes == ("There is no softmax layer; the network gives features, not classes.",)
    np.testing.assert_array_equal(
      weights.variables["params"]["embedding"]["kernel"], state_dict["last_linear.weight"].T
    )

  def test_so_it_may_be_asked_for(self, bn_inception):
    backbone = without(bn_inception, "last_linear.")
    assert read("bn_inception", None, backbone, num_classes=0).num_classes == 0

  def test_classes_may_not(self, bn_inception):
    backbone = without(bn_inception, "last_linear.")
    with pytest.raises(UserError, match="it has no softmax layer; leave --num_classes out"):
      read("bn_inception", None, backbone, num_classes=10)

  def test_one_that_is_there_is_left_out_where_no_classes_are_asked_for(self, bn_inception):
    weights = read("bn_inception", None, bn_inception, num_classes=0)
    assert weights.num_classes == 0
    assert "logits" not in weights.variables["params"]
    assert weights.notes == ("The softmax layer of 10 classes is left out.",)

  def test_auxiliary_heads_give_classes_and_go_too(self):
    weights = read("googlenet", None, state_dict_of("googlenet", "torchvision", 10), num_classes=0)
    assert not weights.has_aux_heads
    assert weights.notes[1] == (
      "The weights of the auxiliary heads, which inference does without, are left out: a network "
      "without classes has none."
    )

  def test_one_of_another_name_is_no_lack_of_it(self, bn_inception):
    """PyTorch's `model.last_linear = Sequential(Dropout(), Linear(1024, 10))`."""
    renamed = {name.replace("linear.", "linear.1."): bn_inception[name] for name in bn_inception}
    with pytest.raises(UserError) as refusal:
      read("bn_inception", None, renamed)
    assert str(refusal.value) == (
      "it lacks the tensor 'last_linear.bias' (and 1 more). Nearest to it, the file has "
      "'last_linear.1.bias', 'last_linear.1.weight'."
    )


class TestAnotherNetwork:
  """Names and shapes tell whose weights a file has."""

  def test_the_message_names_the_right_one(self, bn_inception):
    with pytest.raises(UserError) as refusal:
      read("googlenet", None, bn_inception)
    assert str(refusal.value) == (
      "it lacks the tensor 'conv1.bn.running_mean' (and 284 more). It is of another network. Its "
      "tensors are those of --model=bn_inception --dialect=pretrainedmodels."
    )

  def test_a_dialect_of_the_same_network_is_another_one(self, bn_inception):
    with pytest.raises(UserError, match="those of --model=bn_inception --dialect=pretrainedmodel"):
      read("bn_inception", "slim", bn_inception)

  def test_nothing_is_said_where_the_network_is_right(self, bn_inception):
    bn_inception["conv2_3x3.bias"] = bn_inception["conv2_3x3.bias"][1:]
    with pytest.raises(UserError) as refusal:
      read("bn_inception", None, bn_inception)
    assert str(refusal.value) == (
      "The tensor 'conv2_3x3.bias' of it has the shape [191], not [192]."
    )


class TestValues:
  """They become float32, or are refused by name."""

  def refusal(self, state_dict):
    with pytest.raises(UserError) as refusal:
      read("bn_inception", None, state_dict)
    return str(refusal.value)

  @pytest.mark.parametrize(
    ("name", "value", "message"),
    [
      ("conv2_3x3.weight", np.nan, "1 is not finite, such as nan"),
      ("conv2_3x3_bn.bias", -np.inf, "1 is not finite, such as -inf"),
      ("conv2_3x3_bn.running_mean", np.nan, "1 is not finite, such as nan"),
      ("conv2_3x3_bn.running_var", -0.5, "1 is negative, and a variance is not, such as -0.5"),
    ],
  )
  def test_numbers_that_no_network_works_with(self, name, value, message, bn_inception):
    bn_inception[name].flat[3] = value
    expected = f"Of the {bn_inception[name].size} values of the tensor '{name}' of it, {message}; "
    assert self.refusal(bn_inception).startswith(expected)

  def test_their_number_is_told(self, bn_inception):
    bn_inception["conv2_3x3.bias"][:7] = np.inf
    assert "of it, 7 are not finite, such as inf; " in self.refusal(bn_inception)

  def test_what_float32_has_not(self, bn_inception):
    bn_inception["conv2_3x3.bias"] = np.full(192, 1e39)
    assert "192 are beyond the range of float32, such as 1e+39" in self.refusal(bn_inception)

  @pytest.mark.parametrize("dtype", ["int64", "bool", "complex64"])
  def test_other_kinds_of_numbers(self, dtype, bn_inception):
    bn_inception["conv2_3x3.bias"] = np.ones(192, dtype)
    expected = f"The tensor 'conv2_3x3.bias' of it holds {dtype}, and weights are floating-point"
    assert self.refusal(bn_inception).startswith(expected)

  @pytest.mark.parametrize("shape", [(), (0,), (192, 1)])
  def test_other_shapes(self, shape, bn_inception):
    bn_inception["conv2_3x3.bias"] = np.ones(shape, "float32")
    assert f"has the shape {list(shape)}, not [192]." in self.refusal(bn_inception)

  def test_rounding_is_told(self, bn_inception):
    doubles = {name: values.astype("float64") for name, values in bn_inception.items()}
    assert read("bn_inception", None, doubles).notes == ()
    doubles["conv2_3x3.bias"] = np.full(192, 0.1)
    weights = read("bn_inception", None, doubles)
    assert weights.notes == ("float64 is rounded to float32 in 'conv2_3x3.bias'.",)


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
  weights = read("inception_v3", "slim", state_dict, image_size=75)
  assert (weights.names.image_size, weights.has_aux_heads, weights.notes) == (75, True, ())
  weights = read("inception_v3", "slim", state_dict)
  assert not weights.has_aux_heads
  assert weights.notes == (
    "The weights of the auxiliary heads, which inference does without, are left out: "
    "'aux.fully_connected.conv.weight' has the shape [768, 128, 1, 1], not [768, 128, 5, 5] as of "
    "10 classes at 299 pixels.",
  )


class TestAuxiliaryHeadsThatDoNotFit:
  """Inference does without them."""

  @pytest.fixture(scope="class")
  @classmethod
  def whole(cls):
    return state_dict_of("inception_v3", "torchvision", 10)

  def left_out(self, state_dict, image_size=None):
    weights = read("inception_v3", "torchvision", state_dict, image_size=image_size)
    assert not weights.has_aux_heads
    assert "aux" not in weights.variables["params"]
    (note,) = weights.notes
    return note

  def test_another_image_size(self, whole):
    note = self.left_out(whole, image_size=224)
    assert "'AuxLogits.conv1.conv.weight' has the shape [768, 128, 5, 5], not [768, 128, " in note

  def test_other_classes(self, whole):
    """The softmax layer alone was replaced for fine-tuning."""
    state_dict = whole | {name: whole[name][:7] for name in ("fc.weight", "fc.bias")}
    assert "'AuxLogits.fc.bias' has the shape [10], not [7] as of 7 classes" in self.left_out(
      state_dict
    )

  def test_a_part_of_them(self, whole):
    assert "'AuxLogits.fc.bias' is missing" in self.left_out(without(whole, "AuxLogits.fc."))


def test_the_config_has_the_dialects_batch_normalization_and_input():
  weights = read("bn_inception", None, state_dict_of("bn_inception", "pretrainedmodels", 10))
  config = conversion.config_of("bn_inception", weights, EvaluationCrop(224, 0.875, "short_side"))
  assert (config.model.name, config.model.dialect) == ("bn_inception", "pretrainedmodels")
  batch_norm = build.resolve(config).batch_norm
  assert (batch_norm.epsilon, batch_norm.decay) == (1e-5, 0.9)
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
    description = ModelDescription(model, dialect, 10, (), preprocessing, "a test")
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

  def test_half_the_filters(self):
    settings = LayerSettings(BatchNorm(epsilon=1e-3), width=0.5)
    with pytest.raises(UserError, match=r"has 0\.5 times the filters of timm's"):
      conversion.state_dict_of(self.loaded("inception_v4", "timm", settings), None)

  def test_each_activation_by_itself(self):
    batch_norm = BatchNorm(epsilon=1e-3, per_activation_layers=("inception_c_3",))
    loaded = self.loaded("inception_v4", "timm", LayerSettings(batch_norm))
    with pytest.raises(UserError, match=r"timm's inception_v4 normalises feature maps, and this"):
      conversion.state_dict_of(loaded, None)

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
