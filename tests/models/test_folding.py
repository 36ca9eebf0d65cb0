"""Networks with their batch normalizations folded: they say what the others say."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shortened
from flax import traverse_util
from networks import DIALECTS, NAMES_WITH_AUX_HEADS, trained

from speedpaper_jax.models import create, ops, registry
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.folding import fold_batch_norm, per_activation_layers
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.papers.networks import NETWORKS

# γ, β, both, or neither beside the statistics; ε as the dialects have it.
OTHERS = [
  ("googlenet", "paper", BatchNorm(epsilon=1e-3)),  # whose paper has none
  ("small_inception", "paper", BatchNorm(epsilon=1e-5, use_bias=False)),
]
NETWORKS_TO_FREEZE = [
  (name, dialect, registry.find_dialect(name, dialect).batch_norm) for name, dialect in DIALECTS
] + OTHERS
EVERY_NETWORK = pytest.mark.parametrize(
  ("name", "dialect", "batch_norm"),
  NETWORKS_TO_FREEZE,
  ids=["-".join(each[:2]) for each in NETWORKS_TO_FREEZE[: -len(OTHERS)]]
  + ["googlenet-with_batch_norm", "small_inception-without_shift"],
)


def make_network(name, dialect, batch_norm, dtype=jnp.float32):
  """With auxiliary heads where it can have them."""
  settings = LayerSettings(batch_norm, dtype=dtype, operations=ops.CPU, width=0.25)
  fields = {"use_aux_heads": True} if name in NAMES_WITH_AUX_HEADS else {}
  return create(name, dialect, num_classes=5, settings=settings, **fields)


def shapes_of(network, name):
  size = NETWORKS[name].smallest_image_size
  init = functools.partial(network.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def in_inference(network, images):
  """A function variables → (logits, stages), compiled when it is first called."""
  apply = functools.partial(network.apply, train=False, mutable=["features"])
  return jax.jit(lambda variables: apply(variables, images))


def difference(found, expected):
  """Of logits and of all stages, relative to their deviation."""
  found, expected = jax.device_get((found, expected))
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
  return max(float(np.abs(one - other).max() / other.std()) for one, other in pairs)


def changed(variables, name, value):
  """All arrays of a name hold a value; None if there are none."""
  flat = traverse_util.flatten_dict(variables)
  names = [path for path in flat if path[-1] == name and "batch_norm" in path[-2]]
  others = {path: np.full_like(flat[path], value) for path in names}
  return traverse_util.unflatten_dict(flat | others) if others else None


@EVERY_NETWORK
def test_says_the_same_at_every_stage_and_no_wrong_fold_does(
  name, dialect, batch_norm, monkeypatch, float64
):
  shortened.shorten(monkeypatch)
  network = make_network(name, dialect, batch_norm, jnp.float64)
  variables = trained(shapes_of(network, name))
  size = NETWORKS[name].smallest_image_size
  images = np.random.default_rng(1).normal(size=(2, size, size, 3))
  expected = in_inference(network, images)(variables)
  folded, params = fold_batch_norm(network, variables)
  modules = {module for path in traverse_util.flatten_dict(params) for module in path}
  assert not modules & {"aux", "aux1", "aux2", "batch_norm", "embedding_batch_norm", "batch_stats"}
  of_folded = in_inference(folded, images)
  assert difference(of_folded(params), expected) < 1e-10

  # Rounded once to float32, in which weights are kept; what follows is exact.
  _, rounded = fold_batch_norm(network, jax.tree.map(np.float32, variables))
  assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {np.dtype("float32")}
  assert difference(of_folded(jax.tree.map(np.float64, rounded)), expected) < 1e-5

  if batch_norm is None:
    return  # there is nothing to fold
  without_epsilon = dataclasses.replace(network.settings, batch_norm=batch_norm.copy(epsilon=0.0))
  wrong = [fold_batch_norm(network.clone(settings=without_epsilon), variables)[1]]
  for each, value in {"mean": 0, "var": 1, "scale": 1, "bias": 0}.items():
    others = changed(variables, each, value)
    wrong += [fold_batch_norm(network, others)[1]] if others else []
  assert len(wrong) == 3 + network_has(variables, "scale") + network_has(variables, "bias")
  for each in wrong:
    assert difference(of_folded(each), expected) > 1e-6


def network_has(variables, name):
  return changed(variables, name, 0) is not None


def test_values_of_one_layer_written_out():
  """A convolution with a bias of its own before the normalization, as Caffe's network has it."""
  network = make_network("bn_inception", "pretrainedmodels", BatchNorm(epsilon=1e-5))
  variables = trained(shapes_of(network, "bn_inception"))
  layer = variables["params"]["conv2"]
  statistics = variables["batch_stats"]["conv2"]["batch_norm"]
  folded = fold_batch_norm(network, variables)[1]["params"]["conv2"]["conv"]
  for channel in (0, 17, 47):
    factor = layer["batch_norm"]["scale"][channel] / math.sqrt(statistics["var"][channel] + 1e-5)
    before = layer["conv"]["bias"][channel] - statistics["mean"][channel]
    kernel = factor * layer["conv"]["kernel"][..., channel]
    np.testing.assert_allclose(folded["kernel"][..., channel], kernel, rtol=1e-14)
    bias = factor * before + layer["batch_norm"]["bias"][channel]
    np.testing.assert_allclose(folded["bias"][channel], bias, rtol=1e-13)


def test_of_a_separable_convolution_the_pointwise_kernel_is_scaled():
  network = make_network("bn_inception", "paper", BatchNorm(epsilon=1e-3))
  variables = trained(shapes_of(network, "bn_inception"))
  before = variables["params"]["conv1"]["conv"]
  after = fold_batch_norm(network, variables)[1]["params"]["conv1"]["conv"]
  assert np.array_equal(after["depthwise_kernel"], before["depthwise_kernel"])
  factors = after["pointwise_kernel"] / before["pointwise_kernel"]
  np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :, :1], factors.shape))
  assert np.ptp(factors) > 0.1


def test_what_is_given_stays_as_it_is():
  network = make_network("bn_inception", "paper", BatchNorm())
  variables = trained(shapes_of(network, "bn_inception"))
  before = jax.tree.map(np.copy, variables)
  fold_batch_norm(network, variables)
  assert jax.tree.all(jax.tree.map(np.array_equal, variables, before))


def test_with_normalizations_per_activation_the_network_stays_as_it_is():
  layers = ("inception_5b",)
  network = make_network("bn_inception", "paper", BatchNorm(per_activation_layers=layers))
  variables = shapes_of(network, "bn_inception")
  found, kept = fold_batch_norm(network, variables)
  assert found is network
  assert kept == dict(variables)
  names = per_activation_layers(variables)
  assert len(names) == 7
  assert {name.partition("/")[0] for name in names} == {*layers}


def test_in_float32_the_answers_agree_as_far_as_float32_does():
  """On devices, from weights on devices."""
  network = make_network("bn_inception", "pretrainedmodels", BatchNorm(epsilon=1e-5))
  variables = jax.device_put(trained(shapes_of(network, "bn_inception"), np.float32))
  folded, params = fold_batch_norm(network, variables)
  images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
  logits, _ = in_inference(network, images)(variables)
  of_folded, _ = in_inference(folded, images)(params)
  assert float(jnp.abs(of_folded - logits).max() / logits.std()) < 1e-5
