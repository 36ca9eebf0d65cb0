"""Which weights another network can take."""

import types

import numpy as np
import pytest

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription
from speedpaper_jax.training.fine_tuning import transfer

PREPROCESSING = Preprocessing(EvaluationCrop(8), DEFAULT)
NAMES = ("ant", "bee", "fly", "gnat", "wasp")


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


def source(names=NAMES, dialect="paper", num_classes=5, **options):
  num_classes = len(names) or num_classes
  description = ModelDescription(
    "bn_inception", dialect, num_classes, names, PREPROCESSING, "a test"
  )
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
  taken = transfer(config, source(aux=True), fresh(aux=True), NAMES)
  assert (taken.fresh, str(taken)) == ([], "")
  assert taken.variables["params"].keys() == {"conv1", "logits", "aux"}
  np.testing.assert_equal(taken.variables, variables(5, 1.0, aux=True))


class TestOtherClasses:
  """Softmax layers, those of auxiliary heads too, belong to the classes' names."""

  @pytest.mark.parametrize(
    ("names", "why"),
    [
      ((*NAMES, "moth", "midge"), "its classes are others: new 'moth', 'midge'"),
      (NAMES[:3], "its classes are others: gone 'gnat', 'wasp'"),
      (("ant", "bee", "fly", "gnat", "moth"), "its classes are others: new 'moth', gone 'wasp'"),
      (("a", "b", "c", "d", "e"), "others: new 'a', 'b', 'c' and 2 more, gone 'ant', 'bee', 'fly'"),
    ],
  )
  def test_their_layers_stay_fresh(self, config, names, why):
    count = len(names)
    taken = transfer(config, source(aux=True), fresh(count, aux=True), names)
    assert taken.fresh == ["aux/logits", "logits"]
    assert str(taken).startswith(", except for aux/logits, logits (")
    assert why in str(taken)
    assert values(taken.variables["params"]) == {
      "conv1": 1,
      "logits": 0,
      "aux/reduce": 1,
      "aux/logits": 0,
    }
    assert taken.variables["params"]["logits"]["kernel"].shape == (4, count)
    statistics = variables(count, 1.0, aux=True)["batch_stats"]
    np.testing.assert_equal(taken.variables["batch_stats"], statistics)

  def test_another_order_is_put_right(self, config):
    here = ("wasp", "ant", "bee", "fly", "gnat")
    old = source(aux=True)
    layers = [old.variables["params"][name] for name in ("logits", "aux")]
    for layer in (layers[0], layers[1]["logits"]):
      layer.update(kernel=np.arange(20.0).reshape(4, 5), bias=np.arange(5.0))
    taken = transfer(config, old, fresh(aux=True), here)
    assert taken.fresh == []
    assert str(taken) == " (its softmax layers are put in the order of the classes' names)"
    params = taken.variables["params"]
    for layer in (params["logits"], params["aux"]["logits"]):
      assert [NAMES[int(number)] for number in layer["bias"]] == list(here)
      np.testing.assert_array_equal(layer["kernel"][1], [9, 5, 6, 7, 8])

  def test_other_spellings_are_the_same_classes(self, config):
    old = source(("café", "tench", "goldfish", "d", "e"))
    taken = transfer(config, old, fresh(), ("cafe\u0301", "n01440764", "n01443537", "d", "e"))
    assert (taken.fresh, str(taken)) == ([], "")

  def test_names_that_are_not_known_are_no_others(self, config):
    taken = transfer(config, source(()), fresh(), NAMES)
    assert str(taken) == ", except for logits (the names of its classes are not known)"

  def test_a_network_of_features_has_no_softmax_layer(self, config):
    old = source((), num_classes=0)
    del old.variables["params"]["logits"]
    assert str(transfer(config, old, fresh(), NAMES)) == ", except for logits"


@pytest.mark.parametrize("names", [NAMES, (*NAMES, "moth", "midge")])
def test_an_auxiliary_head_that_the_source_lacks_stays_fresh(config, names):
  taken = transfer(config, source(), fresh(len(names), aux=True), names)
  assert taken.fresh == (["aux"] if names == NAMES else ["aux", "logits"])
  assert values(taken.variables["params"])["aux/reduce"] == 0
  assert values(taken.variables["params"])["conv1"] == 1


def test_an_auxiliary_head_of_the_source_alone_is_left_out(config):
  taken = transfer(config, source(aux=True), fresh(), NAMES)
  assert taken.fresh == []
  np.testing.assert_equal(taken.variables, variables(5, 1.0))


def test_an_auxiliary_heads_layer_of_another_image_size_stays_fresh(config):
  """With its batch normalization; the rest of the head does not depend on the size."""
  state = fresh(aux=True)
  state.params["aux"]["whole_map"] = block(0.0, size=1)
  state.batch_stats["aux"]["whole_map"] = state.batch_stats["aux"]["reduce"]
  model = source(aux=True)
  model.variables["params"]["aux"]["whole_map"] = block(1.0, size=5)
  model.variables["batch_stats"]["aux"]["whole_map"] = model.variables["batch_stats"]["conv1"]
  taken = transfer(config, model, state, NAMES)
  assert str(taken) == ", except for aux/whole_map"
  params, statistics = taken.variables["params"], taken.variables["batch_stats"]
  assert values(params) == {
    "conv1": 1,
    "logits": 1,
    "aux/reduce": 1,
    "aux/whole_map": 0,
    "aux/logits": 1,
  }
  assert params["aux"]["whole_map"]["conv"]["kernel"].shape == (1, 1, 3, 4)
  assert statistics["aux"]["whole_map"]["batch_norm"]["mean"][0] == 0
  assert statistics["aux"]["reduce"]["batch_norm"]["mean"][0] == 1


class TestMistakes:
  def test_another_network(self, config):
    config.model.update(name="googlenet", dialect="")
    with pytest.raises(UserError) as refusal:
      transfer(config, source(), fresh(), NAMES)
    assert str(refusal.value) == (
      "config.init_from='runs/source' holds bn_inception:paper, not googlenet:paper; set "
      "config.model.name and config.model.dialect to its own, or choose another directory."
    )

  def test_another_dialect(self, config):
    with pytest.raises(UserError, match="holds bn_inception:slim, not bn_inception:paper"):
      transfer(config, source(dialect="slim"), fresh(), NAMES)

  @pytest.mark.parametrize("here", [True, False])
  def test_other_layers(self, config, here):
    shapes = "absent there and 4 here" if here else "4 there and absent here"
    with pytest.raises(UserError, match=f"fit: conv1/batch_norm/scale is {shapes}; set config.mod"):
      transfer(config, source(scale=not here), fresh(scale=here), NAMES)
