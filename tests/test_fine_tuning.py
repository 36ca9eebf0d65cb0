"""Which weights another network can take."""

import types

import numpy as np
import pytest

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments.defaults import train_config
from speedpaper_jax.fine_tuning import transfer
from speedpaper_jax.model_directory import Description, LoadedModel
from speedpaper_jax.normalization import DEFAULT
from speedpaper_jax.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(EvaluationCrop(8), DEFAULT)


@pytest.fixture
def config():
  config = train_config()
  config.init_from = "runs/source"
  return config


def block(value, size=1, scale=True):
  return {
    "conv": {"kernel": np.full((size, size, 3, 4), value)},
    "batch_norm": {"bias": np.full(4, value)} | ({"scale": np.full(4, value)} if scale else {}),
  }


def variables(num_classes, value, aux=False, scale=True):
  """Of a network with a layer and a softmax layer, and with the same as auxiliary head."""
  conv1 = block(value, scale=scale)
  logits = {"kernel": np.full((4, num_classes), value), "bias": np.full(num_classes, value)}
  params = {"conv1": conv1, "logits": logits}
  statistics = {"conv1": {"batch_norm": {"mean": np.full(4, value), "var": np.full(4, value)}}}
  if aux:
    params["aux"] = {"reduce": conv1, "logits": logits}
    statistics["aux"] = {"reduce": statistics["conv1"]}
  return {"params": params, "batch_stats": statistics}


def source(num_classes=5, dialect="paper", **options):
  description = Description("bn_inception", dialect, num_classes, (), PREPROCESSING, "a test")
  return LoadedModel(0, None, description, None, variables(num_classes, 1.0, **options))


def fresh(num_classes=5, **options):
  return types.SimpleNamespace(**variables(num_classes, 0.0, **options))


def values(tree):
  """What each layer of the parameters is filled with."""
  found = {}
  for name, part in tree.items():
    layers = part.items() if name == "aux" else [("", part)]
    for layer, content in layers:
      while isinstance(content, dict):
        content = next(iter(content.values()))
      found[f"{name}/{layer}".rstrip("/")] = content.flat[0]
  return found


def test_all_weights_of_an_equal_network(config):
  taken, new = transfer(config, source(aux=True), fresh(aux=True), 5)
  assert new == []
  assert taken["params"].keys() == {"conv1", "logits", "aux"}
  np.testing.assert_equal(taken, variables(5, 1.0, aux=True))


def test_softmax_layers_of_other_classes_stay_fresh(config):
  taken, new = transfer(config, source(5, aux=True), fresh(7, aux=True), 7)
  assert new == ["aux/logits", "logits"]
  assert values(taken["params"]) == {"conv1": 1, "logits": 0, "aux/reduce": 1, "aux/logits": 0}
  assert taken["params"]["logits"]["kernel"].shape == (4, 7)
  np.testing.assert_equal(taken["batch_stats"], variables(7, 1.0, aux=True)["batch_stats"])


@pytest.mark.parametrize("classes", [5, 7])
def test_an_auxiliary_head_that_the_source_lacks_stays_fresh(config, classes):
  taken, new = transfer(config, source(), fresh(classes, aux=True), classes)
  assert new == (["aux"] if classes == 5 else ["aux", "logits"])
  assert values(taken["params"])["aux/reduce"] == 0
  assert values(taken["params"])["conv1"] == 1


def test_an_auxiliary_head_of_the_source_alone_is_left_out(config):
  taken, new = transfer(config, source(aux=True), fresh(), 5)
  assert new == []
  np.testing.assert_equal(taken, variables(5, 1.0))


def test_an_auxiliary_heads_layer_of_another_image_size_stays_fresh(config):
  """With its batch normalization; the rest of the head does not depend on the size."""
  state = fresh(aux=True)
  state.params["aux"]["whole_map"] = block(0.0, size=1)
  state.batch_stats["aux"]["whole_map"] = state.batch_stats["aux"]["reduce"]
  model = source(aux=True)
  model.variables["params"]["aux"]["whole_map"] = block(1.0, size=5)
  model.variables["batch_stats"]["aux"]["whole_map"] = model.variables["batch_stats"]["conv1"]
  taken, new = transfer(config, model, state, 5)
  assert new == ["aux/whole_map"]
  assert values(taken["params"]) == {
    "conv1": 1,
    "logits": 1,
    "aux/reduce": 1,
    "aux/whole_map": 0,
    "aux/logits": 1,
  }
  assert taken["params"]["aux"]["whole_map"]["conv"]["kernel"].shape == (1, 1, 3, 4)
  assert taken["batch_stats"]["aux"]["whole_map"]["batch_norm"]["mean"][0] == 0
  assert taken["batch_stats"]["aux"]["reduce"]["batch_norm"]["mean"][0] == 1


class TestMistakes:
  def test_another_network(self, config):
    config.model.update(name="googlenet", dialect="")
    with pytest.raises(UserError) as refusal:
      transfer(config, source(), fresh(), 5)
    assert str(refusal.value) == (
      "config.init_from='runs/source' holds bn_inception:paper, not googlenet:paper; set "
      "config.model.name and config.model.dialect to its own, or choose another directory."
    )

  def test_another_dialect(self, config):
    with pytest.raises(UserError, match="holds bn_inception:slim, not bn_inception:paper"):
      transfer(config, source(dialect="slim"), fresh(), 5)

  @pytest.mark.parametrize("here", [True, False])
  def test_other_layers(self, config, here):
    shapes = "absent there and 4 here" if here else "4 there and absent here"
    with pytest.raises(UserError, match=f"fit: conv1/batch_norm/scale is {shapes}; set config.mod"):
      transfer(config, source(scale=not here), fresh(scale=here), 5)
