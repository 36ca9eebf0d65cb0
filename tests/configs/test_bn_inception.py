"""configs/bn_inception.py: the five networks of section 4.2, on any of the data sets."""

import pytest
from config_checks import CLASSES, check_shapes, epochs

from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError

VARIANTS = ("inception", "bn_baseline", "bn_x5", "bn_x30", "bn_x5_sigmoid")
ACCELERATED = ("bn_x5", "bn_x30", "bn_x5_sigmoid")


def config_of(variant, data="imagenet2012"):
  return load(f"configs/bn_inception.py:variant={variant},data={data}")


@pytest.mark.parametrize("data", CLASSES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_combination_builds(variant, data):
  state = check_shapes(config_of(variant, data), data)
  assert bool(state.batch_stats) == (variant != "inception")


class TestPaper:
  """Section 4.2 of the Batch Normalization paper, on the data set it was written for."""

  @pytest.mark.parametrize(
    ("variant", "learning_rate"),
    [
      ("inception", 0.0015),
      ("bn_baseline", 0.0015),
      ("bn_x5", 0.0075),
      ("bn_x30", 0.045),
      ("bn_x5_sigmoid", 0.0075),
    ],
  )
  def test_initial_learning_rates(self, variant, learning_rate):
    config = config_of(variant)
    assert config.optimizer.learning_rate == learning_rate
    assert config.batch_size == config.optimizer.base_batch_size == 32

  @pytest.mark.parametrize("variant", ACCELERATED)
  def test_l2_is_a_fifth(self, variant):
    l2 = config_of(variant).optimizer.l2
    assert l2 * 5 == pytest.approx(config_of("inception").optimizer.l2)
    assert l2 * 5 == pytest.approx(config_of("bn_baseline").optimizer.l2)

  @pytest.mark.parametrize("variant", ACCELERATED)
  def test_learning_rate_decays_six_times_as_fast(self, variant):
    def interval(variant):
      schedule = config_of(variant).optimizer.schedule
      assert schedule.name == "exponential"
      assert schedule.factor == 0.96
      return epochs(schedule.interval)

    assert interval("inception") == interval("bn_baseline") == 8
    assert interval(variant) * 6 == pytest.approx(8, rel=1e-5)

  @pytest.mark.parametrize("variant", VARIANTS)
  def test_dropout_and_local_response_normalization(self, variant):
    config = config_of(variant)
    assert (config.model.dropout_rate > 0) == (variant not in ACCELERATED)
    assert config.model.local_response_norm == (variant not in ACCELERATED)

  @pytest.mark.parametrize("variant", ACCELERATED)
  def test_less_photometric_distortion(self, variant):
    strength = config_of(variant).data.augmentation.photometric
    assert strength < config_of("bn_baseline").data.augmentation.photometric

  @pytest.mark.parametrize("variant", VARIANTS)
  def test_batch_normalization_and_activation(self, variant):
    config = config_of(variant)
    assert config.batch_norm.enabled == (variant != "inception")
    assert config.model.activation == ("sigmoid" if variant == "bn_x5_sigmoid" else "relu")
    assert (config.model.name, config.model.dialect) == ("bn_inception", "paper")

  @pytest.mark.parametrize("variant", VARIANTS)
  def test_statistics_of_32_images(self, variant):
    config = config_of(variant)
    assert config.batch_norm.statistics == "group"
    assert config.batch_norm.virtual_batch_size == 32

  def test_images_of_224_pixels(self):
    assert config_of("bn_x30").data.image_size == 224


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ("variant=bn_x6", r"The config has no variant 'bn_x6'\. Did you mean 'bn_x[35]"),
    ("model=bn_x5", r"The config has no argument 'model'\. Valid: 'variant', 'data', 'recipe'\."),
    ("bn_x5", "'bn_x5' is not of the form key=value"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(UserError, match=message):
    load(f"configs/bn_inception.py:{arguments}")
