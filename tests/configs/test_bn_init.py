"""configs/bn_init.py: a hundred layers from four initial scales, and eight that are trained."""

import numpy as np
import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import bn_init


def test_a_hundred_layers_of_256_units_on_16_inputs():
  deep = load("configs/bn_init.py").deep
  assert (deep.layers, deep.units, deep.batch_size) == (100, 256, 16)


def test_all_initial_values_are_the_default():
  config = load("configs/bn_init.py")
  assert config == load("configs/bn_init.py:init=all")
  assert set(config.deep.initializers) == set(bn_init.INITIALIZERS)


@pytest.mark.parametrize("name", bn_init.INITIALIZERS)
def test_one_alone(name):
  assert load(f"configs/bn_init.py:init={name}").deep.initializers == (name,)


def test_scales_are_spaced_evenly_from_a_thousandth_to_one():
  scales = load("configs/bn_init.py").trained.scales
  np.testing.assert_allclose(np.diff(np.log10(scales)), 3 / (len(scales) - 1), atol=5e-3)
  assert (scales[0], scales[-1]) == (0.001, 1)


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_data(data):
  config = load(f"configs/bn_init.py:data={data}")
  assert (config.data.name, config.data.train_split, config.data.eval_split) == (
    data,
    "train",
    "test",
  )


def test_an_unknown_initial_value():
  with pytest.raises(UserError, match=r"has no init 'kaimin'\. Did you mean 'kaiming'\?"):
    load("configs/bn_init.py:init=kaimin")
