"""State dicts are found in what training scripts save."""

import numpy as np
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop.wrappings import unwrap

WEIGHTS = {"conv1.weight": np.zeros(1), "fc.bias": np.zeros(1)}
AVERAGE = {name: values + 1 for name, values in WEIGHTS.items()}
OPTIMIZER = {"state": {0: {"exp_avg": np.zeros(3)}}, "param_groups": [{"lr": 0.1}]}


def prefixed(prefix, state_dict=WEIGHTS):
  return {f"{prefix}.{name}": values for name, values in state_dict.items()}


def value(state_dict):
  """0 of `WEIGHTS`, 1 of `AVERAGE`."""
  assert state_dict.keys() == WEIGHTS.keys()
  (found,) = {float(values[0]) for values in state_dict.values()}
  return found


@pytest.mark.parametrize(
  "content",
  [
    WEIGHTS,
    {"state_dict": WEIGHTS, "epoch": 3, "optimizer": OPTIMIZER},
    {"model_state_dict": WEIGHTS, "optimizer_state_dict": OPTIMIZER, "loss": np.zeros(())},
    {"model": {"state_dict": WEIGHTS}},
    {"net": prefixed("module")},
    {"my_network": WEIGHTS, "epoch": 3},
    {"ema": {"module": WEIGHTS}},
    prefixed("module"),
    prefixed("_orig_mod"),
    prefixed("module._orig_mod"),
    prefixed("_orig_mod.module"),
    prefixed("net"),
    {"state_dict": prefixed("model.backbone")},
    {"state_dict": prefixed("model"), "callbacks": {"best": {"best_model_score": np.ones(())}}},
  ],
)
def test_entries_and_prefixes_are_taken_off(content):
  assert value(unwrap(content, None, "it")) == 0


def test_names_of_networks_are_no_prefixes():
  """All tensors of Inception-v4 without its softmax layer begin so."""
  content = {"features.0.conv.weight": np.zeros(1), "features.1.bn.bias": np.zeros(1)}
  assert unwrap(content, None, "it") == content


def test_a_state_dict_keeps_what_is_no_tensor():
  content = {"fc.bias": np.zeros(1), "epoch": 3}
  assert unwrap(content, None, "it") == content


class TestMovingAverages:
  """Whose weights are taken is said, and the others can be asked for."""

  @pytest.mark.parametrize(
    ("content", "key"),
    [
      ({"state_dict": WEIGHTS, "state_dict_ema": AVERAGE}, "state_dict_ema"),
      ({"model_ema": prefixed("module", AVERAGE), "model": WEIGHTS}, "model_ema"),
      ({"state_dict": {**prefixed("ema_model", AVERAGE), **prefixed("model")}}, "ema_model"),
      ({"ema": {"state_dict": AVERAGE}, "net": prefixed("_orig_mod")}, "ema"),
      ({"state_dict": prefixed("student"), "teacher": AVERAGE}, "teacher"),
    ],
  )
  def test_beside_the_weights(self, content, key, capsys):
    if "teacher" not in content:
      assert value(unwrap(content, None, "it")) == 0
      message = capsys.readouterr().err
      assert f"those under '{key}' are left out, and --weights_key={key} takes them." in message
    assert value(unwrap(content, key, "it")) == 1

  def test_alone(self, capsys):
    assert value(unwrap({"ema": AVERAGE, "epoch": 3}, None, "it")) == 1
    assert capsys.readouterr().err == "Note: the weights under 'ema' of it are a moving average.\n"


def test_a_key_may_be_any_prefix():
  assert value(unwrap({"state_dict": prefixed("student")}, "student", "it")) == 0


def test_tensors_beside_an_entry_are_told(capsys):
  assert value(unwrap({"state_dict": WEIGHTS, "scale.factor": np.ones(1)}, None, "it")) == 0
  assert capsys.readouterr().err == (
    "Note: 'scale.factor' of it is left out, beside the weights under 'state_dict'.\n"
  )


def test_tensors_beside_a_prefix_are_told(capsys):
  """As PyTorch's `AveragedModel` counts, or a loss has weights."""
  content = {"n_averaged": np.zeros(()), "criterion.weight": np.zeros(3), **prefixed("module")}
  assert value(unwrap(content, None, "it")) == 0
  assert capsys.readouterr().err == (
    "Note: 'n_averaged', 'criterion.weight' of it are left out, beside the weights under "
    "'module'.\n"
  )


class TestMistakes:
  def test_an_unknown_key(self):
    with pytest.raises(UserError, match=r"it has no weights under 'emma'\. Did you mean 'ema'"):
      unwrap({"state_dict": WEIGHTS, "ema": AVERAGE}, "emma", "it")

  def test_a_key_of_a_state_dict_alone(self):
    with pytest.raises(UserError, match=r"it has no weights under 'ema'\. Leave --weights_key out"):
      unwrap(WEIGHTS, "ema", "it")

  def test_several_state_dicts(self):
    content = {"generator": WEIGHTS, "discriminator": WEIGHTS}
    with pytest.raises(UserError, match="'generator', 'discriminator'; choose with --weights_key"):
      unwrap(content, None, "it")

  def test_a_mapping_that_contains_itself_many_times(self):
    content = {"fc.bias": np.zeros(1)}
    content |= {f"model_{i}": {"again": content} for i in range(100)}
    content["model"] = content
    assert "fc.bias" in unwrap(content, None, "it")

  def test_mappings_deeper_than_anything_nests_are_no_state_dicts(self):
    content = WEIGHTS
    for _ in range(100_000):
      content = {"model": content}
    assert unwrap(content, None, "it") == content
