"""configs/residual_scaling.py: section 3.3's scales, and the paper's optimiser."""

import pytest

from speedpaper_jax.config import ranges
from speedpaper_jax.config.files import load
from speedpaper_jax.experiments import residual_scaling
from speedpaper_jax.models.inception_resnet_v2 import DIALECTS


@pytest.mark.parametrize("data", ["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_fields_are_in_range(data):
  config = load(f"configs/residual_scaling.py:data={data}")
  ranges.check_fields(config, residual_scaling.RULES, "residual_scaling")
  assert config.data.name == data


def test_unscaled_residuals_and_the_paper_s_scales():
  """Section 3.3: between 0.1 and 0.3; so are the dialect's, its authors'."""
  config = load("configs/residual_scaling.py")
  unscaled, *scales = config.scales
  assert unscaled == config.warmup.scale == 1
  assert (min(scales), max(scales)) == (0.1, 0.3)
  assert all(0.1 <= scale <= 0.3 for scale in DIALECTS["paper"].residual_scales)


def test_the_middle_rate_and_the_optimiser_are_the_paper_s():
  config = load("configs/residual_scaling.py")
  other = load("configs/inception_resnet_v2.py:data=imagenet2012").optimizer
  assert sorted(config.rates)[1] == other.learning_rate == 0.045
  for name in ("decay", "eps", "momentum"):
    assert config.rmsprop[name] == other.rmsprop[name]
