"""Layers chosen by their names."""

import jax.numpy as jnp
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.models import layer_names

PATHS = [
  ("conv_1", "conv", "kernel"),
  ("inception_3a", "pool_proj", "conv", "kernel"),
  ("inception_3a", "pool_proj", "batch_norm", "scale"),
  ("inception_3b", "pool_proj", "conv", "kernel"),
  ("aux1", "reduce", "conv", "kernel"),
  ("aux1", "logits", "kernel"),
  ("logits", "kernel"),
  ("logits", "bias"),
]


@pytest.mark.parametrize(
  ("text", "patterns"),
  [
    ("", ()),
    ("trunk", ("trunk",)),
    ("conv_1, inception_3*", ("conv_1", "inception_3*")),
    (" , ,conv_1,", ("conv_1",)),
  ],
)
def test_patterns_have_commas_between_them(text, patterns):
  assert layer_names.read_patterns(text) == patterns


@pytest.mark.parametrize(
  ("text", "chosen"),
  [
    ("", []),
    ("conv_1", PATHS[:1]),
    ("inception_3a", PATHS[1:3]),  # with all that is in it
    ("inception_3?", PATHS[1:4]),
    ("inception_3*, conv_1", PATHS[:4]),
    ("inception_3a/pool_proj/batch_norm", PATHS[2:3]),
    ("*/pool_proj", PATHS[1:4]),
    ("pool_proj", []),  # names begin at the network's root
    ("trunk", PATHS[:4]),
    ("aux1", PATHS[4:6]),
    ("trunk, aux1", PATHS[:6]),
    ("logits", PATHS[6:]),
    ("*", PATHS),
  ],
)
def test_patterns_choose_layers(text, chosen):
  patterns = layer_names.read_patterns(text)
  assert [path for path in PATHS if layer_names.is_chosen(path, patterns)] == chosen


def test_a_mask_has_the_structure_of_the_variables():
  params = {"conv_1": {"conv": {"kernel": jnp.ones(2)}}, "logits": {"bias": jnp.ones(1)}}
  assert layer_names.mask(params, ["conv_1"]) == {
    "conv_1": {"conv": {"kernel": True}},
    "logits": {"bias": False},
  }


class TestMistakes:
  def check(self, text):
    layer_names.check(layer_names.read_patterns(text), PATHS, "config.freeze")

  @pytest.mark.parametrize("text", ["", "trunk", "conv_1", "inception_*, aux1", "logits"])
  def test_none(self, text):
    self.check(text)

  def test_a_layer_that_there_is_not(self):
    with pytest.raises(
      UserError, match=r"config.freeze has 'incepton_3a', which is no layer .* mean 'inception_3a'"
    ):
      self.check("conv_1, incepton_3a")

  @pytest.mark.parametrize(
    ("text", "paths", "message"),
    [
      ("logits", PATHS[:1], r"F has 'logits', which is no K\. Valid: 'trunk', "),
      ("trunk", [], r"F has 'trunk', which is no K\.$"),
    ],
  )
  def test_a_layer_of_another_kind(self, text, paths, message):
    layer_names.check_known((), paths, "F", "K")
    with pytest.raises(UserError, match=message):
      layer_names.check_known([text], paths, "F", "K")

  @pytest.mark.parametrize("text", ["*", "trunk, logits, aux1"])
  def test_nothing_is_left(self, text):
    with pytest.raises(UserError, match=r"config.freeze leaves nothing to train; leave one layer"):
      self.check(text)
