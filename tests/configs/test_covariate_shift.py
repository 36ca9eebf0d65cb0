"""configs/covariate_shift.py: the network of Figure 5, with BN and without."""

import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError

DATA = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")


@pytest.mark.parametrize("data", DATA)
def test_rates_batches_and_images(data):
  config = load(f"configs/covariate_shift.py:data={data}")
  assert config.data.name == data
  assert (config.optimizer.learning_rate, config.batch_size) == (0.0015, 32)
  assert config.data.image_size == 32  # the least that the network takes


@pytest.mark.parametrize("data", DATA)
def test_a_measurement_at_the_last_step(data):
  config = load(f"configs/covariate_shift.py:data={data}")
  assert config.steps % config.measure_every == 0


@pytest.mark.parametrize("data", DATA[1:])
def test_no_more_images_are_held_than_are_trained_on(data):
  config = load(f"configs/covariate_shift.py:data={data}")
  assert config.data.train_split == f"train[:{config.steps * config.batch_size}]"


def test_digits_are_the_default():
  assert load("configs/covariate_shift.py") == load("configs/covariate_shift.py:data=digits")


def test_imagenet_is_refused():
  with pytest.raises(UserError, match="has no data 'imagenet2012'"):
    load("configs/covariate_shift.py:data=imagenet2012")
