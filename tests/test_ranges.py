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
  ],
)
def test_out_of_range(key, value, rule):
  config = train_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError) as error:
    ranges.check(config)
  assert str(error.value) == f"config.{key} is {value}; it must be {rule}."
