"""What all networks have in common, in every dialect."""

import functools

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import shortened
from networks import (
  DIALECTS,
  NAMES_WITH_AUX_HEADS,
  trace,
)

from speedpaper_jax.errors import UserError
from speedpaper_jax.models import (
  create,
  extract_features,
  ops,
  packed_images,
  registry,
  stage_outputs,
)
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.papers.networks import NETWORKS

EVERY_DIALECT = pytest.mark.parametrize(("name", "dialect"), DIALECTS)
EVERY_NETWORK = pytest.mark.parametrize("name", registry.MODELS)

# With 1000 classes; those of torchvision, timm, pretrainedmodels and facenet-pytorch are what the
# modules of these packages have.
PARAMETERS = {
  ("googlenet", "paper"): 6_991_856,
  ("googlenet", "torchvision"): 6_624_904,
  ("bn_inception", "paper"): 11_188_288,
  ("bn_inception", "slim"): 11_178_336,
  ("bn_inception", "pretrainedmodels"): 11_295_240,
  ("inception_v3", "slim"): 23_817_352,
  ("inception_v3", "timm"): 23_834_568,
  ("inception_v3", "torchvision"): 23_834_568,
  ("inception_v4", "paper"): 42_679_816,
  ("inception_v4", "timm"): 42_679_816,
  ("inception_resnet_v1", "paper"): 22_756_328,
  ("inception_resnet_v2", "paper"): 32_433_928,
  ("inception_resnet_v2", "timm"): 55_843_464,
  ("small_inception", "paper"): 1_649_402 + 990 * 337,  # its paper's have 10 classes
}
PARAMETERS_WITH_AUX_HEADS = {
  ("googlenet", "paper"): 13_371_584,
  ("googlenet", "torchvision"): 13_004_888,
  ("inception_v3", "slim"): 27_143_152,
  ("inception_v3", "timm"): 27_161_264,
  ("inception_v3", "torchvision"): 27_161_264,
  ("inception_v4", "paper"): 46_039_280,
  ("inception_v4", "timm"): 46_039_280,
  ("inception_resnet_v1", "paper"): 26_099_408,
  ("inception_resnet_v2", "timm"): 59_211_120,
}
# In 10⁹, for one image of the paper's size.
MULTIPLY_ADDS = {
  ("googlenet", "paper"): 1.50,
  ("googlenet", "torchvision"): 1.498,
  ("bn_inception", "paper"): 1.935,
  ("bn_inception", "pretrainedmodels"): 2.033,
  ("inception_v3", "slim"): 5.713,
  ("inception_v3", "torchvision"): 5.713,
  ("inception_v4", "paper"): 12.254,
  ("inception_v4", "timm"): 12.254,
  ("inception_resnet_v1", "paper"): 6.206,
  ("inception_resnet_v1", "facenet"): 6.309,
  ("inception_resnet_v2", "paper"): 9.26,
  ("inception_resnet_v2", "timm"): 13.156,
  ("small_inception", "paper"): 0.2045,
}
POOLED_FEATURES = {
  "googlenet": 1024,
  "bn_inception": 1024,
  "inception_v3": 2048,
  "inception_v4": 1536,
  "inception_resnet_v1": 1792,
  "inception_resnet_v2": 2144,
  "small_inception": 336,
}
FIRST_CONVOLUTIONS = dict.fromkeys(("googlenet", "bn_inception", "small_inception"), "conv1")
# Where auxiliary heads stand: the stage after which each of them comes.
AUX_HEADS = {
  "googlenet": {"aux1": "inception_4a", "aux2": "inception_4d"},
  "inception_v3": {"aux": "mixed_6e"},
  "inception_v4": {"aux": "inception_b_7"},
  "inception_resnet_v1": {"aux": "block_b_10"},
  "inception_resnet_v2": {"aux": "block_b_10"},
}

# Parameters whose gradient is zero but for rounding, since a batch normalization takes away again
# what they add; dropout in front of it is why FaceNet's block_c_last is not among them.
WITHOUT_GRADIENT = {
  ("bn_inception", "pretrainedmodels"): "/conv/bias",
  ("inception_resnet_v2", "timm"): "block_c_last/linear/bias",
  ("inception_resnet_v2", "slim"): "block_c_last/linear/bias",
}
NOISE = 1e-12  # of the largest gradient, both relative to the parameters


def smallest(name):
  return NETWORKS[name].smallest_image_size


def without_aux_heads(name):
  return {"use_aux_heads": False} if name in NAMES_WITH_AUX_HEADS else {}


def with_aux_heads(name):
  return {"use_aux_heads": True} if name in NAMES_WITH_AUX_HEADS else {}


class TestSize:
  @pytest.mark.parametrize(("name", "dialect"), PARAMETERS)
  def test_parameters(self, name, dialect):
    traced = trace(name, dialect, **without_aux_heads(name))
    assert traced.parameters() == PARAMETERS[name, dialect]

  @pytest.mark.parametrize(("name", "dialect"), PARAMETERS_WITH_AUX_HEADS)
  def test_parameters_with_auxiliary_heads(self, name, dialect):
    traced = trace(name, dialect, use_aux_heads=True)
    assert traced.parameters() == PARAMETERS_WITH_AUX_HEADS[name, dialect]

  @pytest.mark.parametrize(("name", "dialect"), MULTIPLY_ADDS)
  def test_multiply_adds(self, name, dialect):
    traced = trace(name, dialect, **without_aux_heads(name))
    assert traced.multiply_adds() / 1e9 == pytest.approx(MULTIPLY_ADDS[name, dialect], rel=0.01)


class TestOutputs:
  @EVERY_DIALECT
  def test_logits(self, name, dialect):
    outputs = trace(name, dialect, size=smallest(name), num_classes=7).outputs
    assert (outputs.shape, outputs.dtype) == ((2, 7), jnp.float32)

  @EVERY_NETWORK
  def test_pooled_features_where_there_are_no_classes(self, name):
    traced = trace(name, size=smallest(name), num_classes=0, train=True)
    assert traced.outputs.shape == (2, POOLED_FEATURES[name])
    assert "logits" not in traced.variables["params"]
    assert traced.aux_logits == {}

  @EVERY_NETWORK
  def test_activations_in_bfloat16_with_parameters_and_logits_in_float32(self, name):
    traced = trace(name, size=smallest(name), dtype=jnp.bfloat16, train=True, num_classes=7)
    assert {feature.dtype for feature in traced.features.values()} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(traced.variables)} == {jnp.dtype("float32")}
    logits = [traced.outputs, *traced.aux_logits.values()]
    assert {leaf.dtype for leaf in logits} == {jnp.dtype("float32")}

  @pytest.mark.parametrize("name", [name for name in registry.MODELS if smallest(name) == 75])
  @pytest.mark.parametrize("operations", [ops.PLAIN, ops.CPU], ids=["plain", "cpu"])
  def test_images_of_which_nothing_is_left(self, name, operations):
    settings = LayerSettings(operations=operations)
    with pytest.raises(UserError, match=r"The images are too small for Inception.*; take larger"):
      trace(name, size=74, settings=settings)

  @EVERY_NETWORK
  @pytest.mark.parametrize(
    "shape", [(200, 320, 3), (200, 320), (1, 1, 200, 320, 3), (1, 3, 200, 320)]
  )
  def test_what_is_no_batch_of_images_is_refused(self, name, shape):
    network = create(name, num_classes=0)
    variables = trace(name, size=smallest(name), num_classes=0).variables
    for function in (
      lambda images: network.init(jax.random.key(0), images, train=False),
      lambda images: network.apply(variables, images, train=False),
    ):
      with pytest.raises(ValueError, match=r"are no batch of RGB images, \[N, H, W, 3\]"):
        jax.eval_shape(function, jnp.zeros(shape))

  @EVERY_NETWORK
  def test_features_are_the_stages_in_their_order(self, name):
    network = create(name, num_classes=7)
    size = smallest(name)
    traced = trace(name, size=size, num_classes=7)
    extracted = jax.eval_shape(
      lambda variables: extract_features(network, variables, jnp.zeros((2, size, size, 3))),
      traced.variables,
    )
    assert list(extracted) == list(traced.features)
    # A pool is a stage without parameters, and heads are parameters without a stage.
    assert set(traced.variables["params"]) - set(extracted) <= {*("logits", "aux", "aux1", "aux2")}


class StagesOfTrunk(nn.Module):
  """A module of a user's."""

  trunk: nn.Module

  @nn.compact
  def __call__(self, images, *, train):
    return stage_outputs(self.trunk, images, train=train)


@EVERY_NETWORK
def test_a_module_with_a_network_inside_has_its_stages_in_training_and_when_initialised(name):
  size = smallest(name)
  images, keys = jnp.zeros((2, size, size, 3)), {"params": jax.random.key(0)}
  trunk = create(name, num_classes=0)
  module = StagesOfTrunk(trunk)

  def apply(variables):
    stages, _ = module.apply(variables, images, train=True, mutable=["batch_stats"])
    assert next(iter(stages)) == FIRST_CONVOLUTIONS.get(name, "conv_1a_3x3")
    its_own = dict(stages)
    trunk.apply({key: values["trunk"] for key, values in variables.items()}, images, train=False)
    assert all(stages[stage] is maps for stage, maps in its_own.items())
    return stages

  stages, variables = jax.eval_shape(lambda: module.init_with_output(keys, images, train=False))
  traced = trace(name, size=size, num_classes=0, train=True)
  assert {key: values["trunk"] for key, values in variables.items()} == traced.variables
  assert stages == traced.features == jax.eval_shape(apply, variables)


class TestImagesThatAreNotSquare:
  """200 rows are odd maps from 25 on, 300 columns from 75 on."""

  @EVERY_DIALECT
  def test_logits_of_all_heads_in_training(self, name, dialect):
    traced = trace(
      name, dialect, size=(200, 300), train=True, num_classes=7, **with_aux_heads(name)
    )
    assert traced.outputs.shape == (2, 7)
    assert traced.aux_logits.keys() == AUX_HEADS.get(name, {}).keys()
    assert all(logits.shape == (2, 7) for logits in traced.aux_logits.values())

  @EVERY_NETWORK
  def test_weights_of_squares_give_stages_whose_sides_are_each_the_images_own(self, name):
    variables = trace(name, size=smallest(name), num_classes=7).variables
    extract = functools.partial(extract_features, create(name, num_classes=7))

    def stages(height, width):
      found = jax.eval_shape(extract, variables, jnp.zeros((2, height, width, 3)))
      return {stage: maps.shape for stage, maps in found.items()}

    wide = stages(200, 300)
    assert all(height < width for _, height, width, _ in wide.values())
    assert stages(300, 200) == {
      stage: (rows, width, height, channels)
      for stage, (rows, height, width, channels) in wide.items()
    }

  @pytest.mark.slow
  @pytest.mark.parametrize("name", ["googlenet", "bn_inception"])
  def test_a_transposed_image_and_transposed_kernels_give_transposed_maps(self, name, monkeypatch):
    """All kernels of these two are square."""
    shortened.shorten(monkeypatch)
    settings = LayerSettings(dtype=jnp.float64, operations=ops.CPU)
    network = create(name, num_classes=0, settings=settings)
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 48, 88, 3))
    with jax.enable_x64():
      shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
      variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: drawn(path, leaf, generator), shapes
      )
      transposed = jax.tree.map(
        lambda leaf: leaf.swapaxes(0, 1) if leaf.ndim == 4 else leaf, variables
      )
      stages = jax.jit(functools.partial(extract_features, network))
      expected = jax.device_get(stages(variables, images))
      found = jax.device_get(stages(transposed, images.swapaxes(1, 2)))
    assert expected.keys() == found.keys()
    for stage, maps in expected.items():
      assert maps.shape[1] != maps.shape[2]
      np.testing.assert_allclose(found[stage], maps.swapaxes(1, 2), rtol=0, atol=1e-9 * maps.std())


class TestImagesOfOtherChannels:
  @EVERY_NETWORK
  @pytest.mark.parametrize("channels", [1, 4])
  def test_only_the_first_convolution_is_another(self, name, channels):
    fields = {"size": smallest(name), "num_classes": 7}
    rgb, other = trace(name, **fields), trace(name, channels=channels, **fields)
    assert other.stages() == rgb.stages()
    leaves = zip(
      jax.tree.leaves_with_path(rgb.variables), jax.tree.leaves(other.variables), strict=True
    )
    changed = [
      (path, before, after) for (path, before), after in leaves if before.shape != after.shape
    ]
    assert {path[1].key for path, _, _ in changed} == {FIRST_CONVOLUTIONS.get(name, "conv_1a_3x3")}
    assert all(after.size * 3 == before.size * channels for _, before, after in changed)

  @EVERY_NETWORK
  def test_images_of_three_are_refused(self, name):
    init = functools.partial(create(name, num_classes=7, channels=4).init, train=False)
    with pytest.raises(ValueError, match=r"are no batch of images of 4 channels, \[N, H, W, 4\]"):
      jax.eval_shape(init, jax.random.key(0), jnp.zeros((2, 96, 96, 3)))


class TestWidth:
  @EVERY_DIALECT
  def test_at_one_half_every_layer_but_the_softmax_layers_has_half_the_filters(self, name, dialect):
    fields = {"size": smallest(name), "train": True, "num_classes": 7, **with_aux_heads(name)}
    whole, half = trace(name, dialect, **fields), trace(name, dialect, width=0.5, **fields)
    assert half.outputs == whole.outputs
    assert half.aux_logits == whole.aux_logits
    assert half.stages() == {
      stage: (height, width, channels // 2)
      for stage, (height, width, channels) in whole.stages().items()
    }
    leaves = zip(
      jax.tree.leaves_with_path(whole.variables), jax.tree.leaves(half.variables), strict=True
    )
    for (path, before), after in leaves:
      names = [key.key for key in path]
      if "depthwise_kernel" in names:  # eight for each channel of the images
        assert after == before
      elif "logits" not in names:
        assert after.shape[-1] * 2 == before.shape[-1], names
      assert after.size <= before.size

  def test_is_rounded_to_whole_filters_of_which_one_is_left(self):
    settings = LayerSettings(width=0.3)
    assert [settings.filters(papers) for papers in (1, 2, 5, 16, 33)] == [1, 1, 2, 5, 10]


class TestAuxiliaryHeads:
  @pytest.mark.parametrize("name", NAMES_WITH_AUX_HEADS)
  def test_in_training_each_leaves_its_logits_from_the_first_to_the_last(self, name):
    aux_logits = trace(
      name, size=smallest(name), train=True, use_aux_heads=True, num_classes=7
    ).aux_logits
    assert list(aux_logits) == list(AUX_HEADS[name])
    assert {logits.shape for logits in aux_logits.values()} == {(2, 7)}

  @pytest.mark.parametrize("name", NAMES_WITH_AUX_HEADS)
  def test_each_stands_on_the_maps_of_its_stage(self, name):
    traced = trace(name, use_aux_heads=True)
    for head, stage in AUX_HEADS[name].items():
      channels = traced.features[stage].shape[-1]
      kernel = traced.variables["params"][head]["reduce"]["conv"]["kernel"]
      assert kernel.shape == (1, 1, channels, 128)

  @pytest.mark.parametrize("name", NAMES_WITH_AUX_HEADS)
  def test_evaluation_has_their_parameters_but_none_of_their_work(self, name):
    traced = trace(name, size=smallest(name), use_aux_heads=True, num_classes=7)
    assert AUX_HEADS[name].keys() <= traced.variables["params"].keys()
    assert traced.aux_logits == {}

  @pytest.mark.parametrize("name", NAMES_WITH_AUX_HEADS)
  def test_there_are_none_where_they_are_not_asked_for(self, name):
    traced = trace(name, size=smallest(name), train=True, use_aux_heads=False, num_classes=7)
    assert not AUX_HEADS[name].keys() & traced.variables["params"].keys()
    assert traced.aux_logits == {}


@EVERY_DIALECT
def test_every_parameter_has_a_part_in_the_loss(name, dialect):
  traced = trace(
    name, dialect, size=smallest(name), train=True, num_classes=7, **with_aux_heads(name)
  )
  program = traced.program.jaxpr
  needed = set(program.outvars[: 1 + len(traced.aux_logits)])  # the logits of all heads
  for equation in reversed(program.eqns):
    if not needed.isdisjoint(equation.outvars):
      needed.update(x for x in equation.invars if isinstance(x, jax.extend.core.Var))
  paths = [path for path, _ in jax.tree.leaves_with_path(traced.variables)]
  inputs = dict(zip(paths, program.invars, strict=False))  # the images come last
  without = {path for path, variable in inputs.items() if variable not in needed}
  assert without == {path for path in paths if path[0].key == "batch_stats"}


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "dialect", "width"),
  [(*each, 1.0) for each in DIALECTS]
  + [(name, registry.dialects(name)[0], 0.5) for name in registry.MODELS],
)
def test_every_parameter_gets_a_gradient(name, dialect, width, monkeypatch):
  """One of each kind of module; that none is left aside, the test above shows of the whole."""
  shortened.shorten(monkeypatch)
  variables, (_, gradients) = loss_and_gradients(name, dialect, width)
  leaves = zip(
    jax.tree.leaves_with_path(gradients), jax.tree.leaves(variables["params"]), strict=True
  )
  sizes = {
    jax.tree_util.keystr(path, simple=True, separator="/"): float(
      np.linalg.norm(leaf) / np.linalg.norm(values)
    )
    for (path, leaf), values in leaves
  }
  assert np.all(np.isfinite(list(sizes.values())))
  largest = max(sizes.values())
  zero = WITHOUT_GRADIENT.get((name, dialect))
  assert {path for path, size in sizes.items() if size <= NOISE * largest} == {
    path for path in sizes if zero is not None and path.endswith(zero)
  }


@pytest.mark.slow
@EVERY_NETWORK
def test_fast_forms_have_the_plain_ones_loss_and_gradients(name, monkeypatch):
  """Of operations and of batch normalization, in training; all layers together, in float64."""
  shortened.shorten(monkeypatch)
  monkeypatch.setattr(packed_images, "_ROWS_OF_A_TILE", 1)  # of four images, so that it packs them
  _, plain = loss_and_gradients(name, operations=ops.PLAIN)
  scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(plain))
  for form, in_one_pass in ((ops.CPU, False), (ops.TPU, True)):
    _, fast = loss_and_gradients(name, operations=form, moments_in_one_pass=in_one_pass)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10 * scale), fast, plain
    )


def loss_and_gradients(
  name, dialect=None, width=1.0, operations=ops.CPU, moments_in_one_pass=False
):
  """Variables of a network, and its loss and their gradients on random images."""
  batch_norm = registry.find_dialect(name, dialect).batch_norm
  if batch_norm is not None:
    batch_norm = batch_norm.copy(moments_in_one_pass=moments_in_one_pass)
  settings = LayerSettings(batch_norm, dtype=jnp.float64, operations=operations, width=width)
  network = create(name, dialect, num_classes=5, settings=settings, **with_aux_heads(name))
  generator = np.random.default_rng(0)
  images = generator.normal(size=(4, smallest(name), smallest(name), 3))
  with jax.enable_x64():
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
  # Drawn here, because initialisation takes as long to compile as the gradient.
  variables = jax.tree_util.tree_map_with_path(
    lambda path, leaf: drawn(path, leaf, generator), shapes
  )

  def loss(params):
    logits, left = network.apply(
      {**variables, "params": params},
      images,
      train=True,
      mutable=["batch_stats", "aux_logits"],
      rngs={"dropout": jax.random.key(0)},
    )
    heads = [logits, *left.get("aux_logits", {}).values()]
    return sum(jnp.mean(jnp.square(head - 1)) for head in heads)

  with jax.enable_x64(True):
    return variables, jax.jit(jax.value_and_grad(loss))(variables["params"])


def drawn(path, leaf, generator):
  """Kernels as a network is initialised with, and γ, β and statistics as after some training."""
  name = jax.tree_util.keystr(path[-1:], simple=True)
  if name.endswith("kernel"):
    std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
    return generator.normal(0, std, leaf.shape)
  if name in ("scale", "var"):
    return generator.uniform(0.5, 1.5, leaf.shape)
  return generator.normal(0, 0.1, leaf.shape)


def test_an_ensemble_is_initialised_by_vmap():
  """What its members' kernels are is `kernel_init`'s to say."""
  network, images = (
    create("googlenet", num_classes=3, use_aux_heads=False),
    jnp.ones((1, 32, 32, 3)),
  )
  members = jax.eval_shape(
    jax.vmap(lambda key: network.init(key, images, train=False)),
    jax.random.split(jax.random.key(0), 2),
  )
  one = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
  assert jax.tree.map(lambda leaf: leaf.shape, members) == jax.tree.map(
    lambda leaf: (2, *leaf.shape), one
  )


def test_training_has_a_forward_mode():
  """What the tangents are is for its layers to say."""
  fields = {"num_classes": 3, "use_aux_heads": False}
  network = create("googlenet", "torchvision", **fields)
  variables = trace("googlenet", "torchvision", size=32, **fields).variables

  def loss(params, batch_stats):
    logits, _ = network.apply(
      {"params": params, "batch_stats": batch_stats},
      jnp.ones((2, 32, 32, 3)),
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": jax.random.key(0)},
    )
    return jnp.sum(logits)

  value, tangent = jax.eval_shape(
    lambda params, *others: jax.jvp(lambda p: loss(p, *others), (params,), (params,)),
    variables["params"],
    variables["batch_stats"],
  )
  assert value.shape == tangent.shape == ()
