"""Numbers out of range are refused before anything else happens."""

import pytest

from speedpaper_jax import ranges
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments.defaults import train_config


def test_the_default_config_is_valid():
  ranges.check(train_config())


@pytest.mark.parametrize(
  ("key", "value", "rule"),
  [
    ("accumulation_steps", 0, "at least 1"),
    ("checkpoints_to_keep", 0, "at least 1"),
    ("data.image_size", -3, "at least 1"),
    ("optimizer.learning_rate", 0.0, "above 0"),
    ("optimizer.learning_rate", float("nan"), "above 0"),
    ("seed", -1, "at least 0"),
    ("average_decay", 1.0, "at least 0 and below 1"),
    ("batch_norm.decay", -0.1, "at least 0 and below 1"),
    ("data.eval_central_fraction", 0.0, "above 0 and at most 1"),
    ("data.augmentation.area_range", (0.5,), "two fractions, the smaller first"),
    ("data.augmentation.area_range", (1.0, 0.5), "two fractions, the smaller first"),
    ("data.augmentation.area_range", ("a", "b"), "two fractions, the smaller first"),
    ("optimizer.schedule.boundaries", (1, 2), "durations, as in ('10 epochs', '20 epochs')"),
    ("aux_weight", -0.4, "at least 0"),
    ("model.residual_scales", (0.1, 0.1), "three numbers above 0, or empty"),
    ("model.residual_scales", (0.1, 0.1, 0.0), "three numbers above 0, or empty"),
  ],
)
def test_out_of_range(key, value, rule):
  config = train_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError) as error:
    ranges.check(config)
  assert str(error.value) == f"config.{key} is {value}; it must be {rule}."


class TestAuxiliaryHeads:
  def test_with_a_weight(self):
    config = train_config()
    config.update_from_flattened_dict({"model.aux_heads": True, "aux_weight": 0.4})
    ranges.check(config)

  def test_without_a_weight(self):
    config = train_config()
    config.model.aux_heads = True
    with pytest.raises(UserError, match=r"would learn nothing with config\.aux_weight=0; set"):
      ranges.check(config)

  def test_a_weight_without_heads(self):
    config = train_config()
    config.aux_weight = 0.4
    with pytest.raises(UserError, match=r"aux_weight is 0\.4, but the network has no auxiliary"):
      ranges.check(config)
