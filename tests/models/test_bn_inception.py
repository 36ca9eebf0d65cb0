"""BN-Inception against Figure 5 and section 4.2 of the paper."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from speedpaper_jax.models import ops
from speedpaper_jax.models.bn_inception import DIALECTS, BNInception, InceptionModule
from speedpaper_jax.models.layers import ConvBlock, LayerSettings

# Figure 5's column of output sizes. Those of 3c and 4e are before the stride in the figure; the
# rows that follow them show what they hand on.
OUTPUTS_AT_224 = {
  "conv1": (112, 112, 64),
  "conv2_reduce": (56, 56, 64),
  "conv2": (56, 56, 192),
  "inception_3a": (28, 28, 256),
  "inception_3b": (28, 28, 320),
  "inception_3c": (14, 14, 576),
  "inception_4a": (14, 14, 576),
  "inception_4b": (14, 14, 576),
  "inception_4c": (14, 14, 576),
  "inception_4d": (14, 14, 576),
  "inception_4e": (7, 7, 1024),
  "inception_5a": (7, 7, 1024),
  "inception_5b": (7, 7, 1024),
}
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def shapes(model, size=32, rows=2):
  """Shape and dtype of logits, and of all variables with the outputs of blocks and modules."""

  def captured(module, method):
    return isinstance(module, ConvBlock | InceptionModule) and method == "__call__"

  return jax.eval_shape(
    lambda: model.init_with_output(
      KEYS,
      jnp.zeros((rows, size, size, 3)),
      train=True,
      capture_intermediates=captured,
      mutable=["params", "batch_stats", "intermediates"],
    )
  )


def random_images(size=32, rows=8, dtype="float64"):
  return np.random.default_rng(0).normal(size=(rows, size, size, 3)).astype(dtype)


class TestFigure5:
  def test_number_of_parameters(self):
    _, variables = shapes(BNInception(), 224)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 11_188_288

  def test_output_sizes(self):
    logits, variables = shapes(BNInception(), 224)
    outputs = {
      name: collected["__call__"][0].shape[1:]
      for name, collected in variables["intermediates"].items()
    }
    assert outputs == OUTPUTS_AT_224
    assert logits.shape == (2, 1000)

  def test_filters_of_a_module(self):
    """3b: 1×1 64; 3×3 64 → 96; double 3×3 64 → 96 → 96; pooled and projected to 64."""
    _, variables = shapes(BNInception())
    kernels = {
      name: block["conv"]["kernel"].shape
      for name, block in variables["params"]["inception_3b"].items()
    }
    assert kernels == {
      "conv_1x1": (1, 1, 256, 64),
      "conv_3x3_reduce": (1, 1, 256, 64),
      "conv_3x3": (3, 3, 64, 96),
      "double_3x3_reduce": (1, 1, 256, 64),
      "double_3x3_first": (3, 3, 64, 96),
      "double_3x3_second": (3, 3, 96, 96),
      "pool_proj": (1, 1, 256, 64),
    }

  @pytest.mark.parametrize("name", ["inception_3c", "inception_4e"])
  def test_modules_with_stride_have_no_pointwise_branch_and_no_projection(self, name):
    _, variables = shapes(BNInception())
    assert variables["params"][name].keys() == {
      "conv_3x3_reduce",
      "conv_3x3",
      "double_3x3_reduce",
      "double_3x3_first",
      "double_3x3_second",
    }

  def test_the_stem_is_separable_with_multiplier_8(self):
    _, variables = shapes(BNInception())
    stem = variables["params"]["conv1"]["conv"]
    assert stem["depthwise_kernel"].shape == (7, 7, 1, 24)
    assert stem["pointwise_kernel"].shape == (1, 1, 24, 64)

  def test_the_pools_of_the_modules(self):
    """Maximum in 3c, 4e and 5b, mean in the seven others; two maxima in the stem."""
    calls = []

    def recorded(kind, pool):
      def record(x, window, strides, *options):
        calls.append((kind, x.shape[1], window, strides))
        return pool(x, window, strides, *options)

      return record

    operations = ops.PLAIN._replace(
      max_pool=recorded("max", ops.max_pool), avg_pool=recorded("avg", ops.avg_pool)
    )
    model = BNInception(settings=LayerSettings(operations=operations))
    jax.eval_shape(lambda: model.init(KEYS, jnp.zeros((1, 224, 224, 3)), train=True))
    assert calls == [
      ("max", 112, 3, 2),
      ("max", 56, 3, 2),
      *[("avg", 28, 3, 1)] * 2,
      ("max", 28, 3, 2),
      *[("avg", 14, 3, 1)] * 4,
      ("max", 14, 3, 2),
      ("avg", 7, 3, 1),
      ("max", 7, 3, 1),
    ]


class TestCaffesPadding:
  """Of the dialect `pretrainedmodels`."""

  @pytest.mark.parametrize("size", [4, 6, 28])
  def test_a_modules_pool_takes_the_windows_of_caffes_where_it_has_as_many(self, size):
    assert ops.pads_of(size, 3, 2, "SAME") == ops.pads_of(size, 3, 2, "CEIL")

  @pytest.mark.parametrize("size", [5, 25, 75])
  def test_on_odd_maps_it_takes_those_of_the_convolutions_beside_it(self, size):
    """Caffe's, and so the package's, has one less, and they cannot be concatenated."""
    assert ops.pads_of(size, 3, 2, "SAME") == ops.pads_of(size, 3, 2, 1)

  @pytest.mark.parametrize("size", [200, 299, 300])
  def test_any_image_size_gives_logits(self, size):
    model = BNInception(num_classes=10, dialect=DIALECTS["pretrainedmodels"])
    logits, _ = shapes(model, size)
    assert logits.shape == (2, 10)


class TestVariants:
  @pytest.mark.parametrize(("size", "last"), [(32, 1), (33, 2), (64, 2), (224, 7), (299, 10)])
  def test_any_image_size_gives_logits(self, size, last):
    logits, variables = shapes(BNInception(num_classes=10), size)
    (output,) = variables["intermediates"]["inception_5b"]["__call__"]
    assert output.shape == (2, last, last, 1024)
    assert logits.shape == (2, 10)

  def test_every_nonlinearity_has_a_batch_norm_and_no_convolution_a_bias(self):
    _, variables = shapes(BNInception())
    names = [
      jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(variables["params"])
    ]
    biases = [name for name in names if name.endswith("['bias']")]
    assert len(biases) == 3 + 8 * 7 + 2 * 5 + 1
    assert all("batch_norm" in name or "logits" in name for name in biases)

  def test_without_batch_norm_every_convolution_has_a_bias(self):
    _, variables = shapes(BNInception(settings=LayerSettings(batch_norm=None)))
    assert "batch_stats" not in variables
    names = [
      jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(variables["params"])
    ]
    assert not any("batch_norm" in name for name in names)
    biases = [name for name in names if name.endswith("['bias']")]
    assert len(biases) == 3 + 8 * 7 + 2 * 5 + 1

  def test_logits_are_float32_under_bfloat16_activations(self):
    logits, variables = shapes(BNInception(settings=LayerSettings(dtype=jnp.bfloat16)))
    assert logits.dtype == jnp.float32
    outputs = jax.tree.leaves(variables.pop("intermediates"))
    assert {output.dtype for output in outputs} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

  def test_local_response_normalization_comes_twice_and_only_where_asked(self, monkeypatch):
    calls = []
    original = ops.local_response_norm
    monkeypatch.setattr(
      ops, "local_response_norm", lambda x: calls.append(x.shape[1:]) or original(x)
    )
    shapes(BNInception(), 224)
    assert calls == []
    shapes(BNInception(use_local_response_norm=True), 224)
    assert calls == [(56, 56, 64), (56, 56, 192)]

  def test_dropout_draws_in_training_and_only_where_asked(self):
    def draws(model, **options):
      variables = {name: leaf for name, leaf in shapes(model)[1].items() if name != "intermediates"}
      program = jax.make_jaxpr(
        lambda variables, key: model.apply(
          variables, jnp.zeros((2, 32, 32, 3)), rngs={"dropout": key}, mutable=True, **options
        )
      )(variables, jax.random.key(0))
      return "random_bits" in str(program)

    assert draws(BNInception(dropout_rate=0.4), train=True)
    assert not draws(BNInception(dropout_rate=0.4), train=False)
    assert not draws(BNInception(), train=True)

  def test_the_nonlinearity_is_the_settings(self):
    def program(activation):
      model = BNInception(settings=LayerSettings(activation=activation))
      images = jnp.zeros((2, 32, 32, 3))
      return str(jax.make_jaxpr(lambda: model.init(KEYS, images, train=True))())

    assert "relu" in program("relu")
    assert "logistic" not in program("relu")
    assert "relu" not in program("sigmoid")
    assert "logistic" in program("sigmoid")


@pytest.mark.slow
class TestNumerically:
  """At 32×32, where the last maps have a single location."""

  def test_plain_operations_and_those_for_cpus_give_the_same_logits(self):
    images = random_images()
    with jax.enable_x64(True):
      plain, cpu = (
        BNInception(10, LayerSettings(dtype=jnp.float64, operations=operations))
        for operations in (ops.PLAIN, ops.CPU)
      )
      variables = init(plain, images)
      logits = compiled(train_logits, plain)(variables, images)
      assert np.std(logits) > 0.1
      assert_allclose(compiled(train_logits, cpu)(variables, images), logits, rtol=0, atol=1e-10)


def init(model, images):
  return jax.jit(functools.partial(model.init, train=False))(KEYS, images[:1])


def train_logits(variables, images, model):
  return model.apply(variables, images, train=True, mutable=["batch_stats"])[0]


def compiled(function, model):
  """Compiled without optimisation, which takes longer than the test itself."""
  return jax.jit(
    functools.partial(function, model=model),
    compiler_options={"xla_backend_optimization_level": 0},
  )
