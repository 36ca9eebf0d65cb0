"""configs/bn_fc.py: eight narrow layers and a parabola, with one of three activations."""

import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError


def test_the_published_experiment():
  config = load("configs/bn_fc.py")
  assert config.experiment == "bn_fc"
  assert (config.train_examples, config.test_examples) == (2000, 200)
  assert (config.hidden_layers, config.hidden_units) == (8, 10)
  assert (config.initial_std, config.initial_bias) == (0.1, -0.2)
  assert (config.batch_size, config.epochs) == (64, 12)
  assert (config.optimizer.name, config.optimizer.learning_rate) == ("adam", 0.03)
  assert (config.batch_norm.decay, config.batch_norm.epsilon) == (0.5, 1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize(("argument", "value"), [("yes", True), ("no", False)])
def test_arguments(activation, argument, value):
  config = load(f"configs/bn_fc.py:activation={activation},input_batch_norm={argument}")
  assert (config.activation, config.input_batch_norm) == (activation, value)


def test_rectified_units_and_a_normalised_input_are_the_default():
  assert load("configs/bn_fc.py") == load("configs/bn_fc.py:activation=relu,input_batch_norm=yes")


def test_an_unknown_activation():
  with pytest.raises(UserError, match=r"has no activation 'tan'\. Did you mean 'tanh'\?"):
    load("configs/bn_fc.py:activation=tan")
