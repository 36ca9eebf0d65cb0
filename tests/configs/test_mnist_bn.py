"""configs/mnist_bn.py: section 4.1 of the Batch Normalization paper."""

import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError


@pytest.mark.parametrize("arguments", ["", ":data=mnist"])
def test_section_4_1(arguments):
  config = load(f"configs/mnist_bn.py{arguments}")
  assert config.data.name == "mnist"
  assert (config.hidden_layers, config.hidden_units) == (3, 100)
  assert (config.batch_size, config.steps) == (60, 50_000)
  assert config.optimizer.name == "sgd"


def test_the_embedded_digits_take_fewer_steps():
  digits, mnist = (load(f"configs/mnist_bn.py:data={data}") for data in ("digits", "mnist"))
  assert digits.data.name == "digits"
  assert digits.steps < mnist.steps


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_a_measurement_at_the_last_step(data):
  config = load(f"configs/mnist_bn.py:data={data}")
  assert config.steps % config.measure_every == 0


def test_other_data_sets_are_refused():
  with pytest.raises(UserError, match=r"has no data 'cifar10'\. Valid: 'mnist', 'digits'\."):
    load("configs/mnist_bn.py:data=cifar10")
