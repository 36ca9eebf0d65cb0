"""Numbers out of range are refused before anything else happens."""

import functools
import importlib

import ml_collections
import pytest
from commands import ROOT

from speedpaper_jax.config import files as config_files
from speedpaper_jax.config import ranges
from speedpaper_jax.config.defaults import TRAIN, train_config
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules

CONFIGS = [str(listed.path) for listed in config_files.list_configs(f"{ROOT}/configs")]
WHOLE_ROWS = "a whole number from 1 to 1,048,576"
ABOVE_ZERO = "a finite number above 0 in float32"
AT_LEAST_ZERO = "a finite number of at least 0 in float32"
BELOW_ONE = "a number at least 0 and below 1"
INF, NAN = float("inf"), float("nan")


def find(config, key):
  return functools.reduce(lambda section, name: section[name], key.split("."), config)


def change(config, key, value):
  """Sets a field to a value of any type."""
  *sections, name = key.split(".")
  section = functools.reduce(lambda section, name: section[name], sections, config)
  del section[name]  # which has a type
  section[name] = value
  return config


def rules_of(config):
  """What the fields of any experiment may be."""
  if config.experiment == "train":
    return {name: field.rule for name, field in TRAIN.items()}
  return importlib.import_module(f"speedpaper_jax.experiments.{config.experiment}").RULES


def check(config):
  if config.experiment == "train":
    ranges.check(config)
  ranges.check_fields(config, rules_of(config), config.experiment)


def test_the_default_config_is_valid():
  ranges.check(train_config())


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_is_valid_and_each_of_its_fields_has_a_range(path):
  config = config_files.load(path)
  check(config)
  keys = {
    key for key in config_files.flat_keys(config) if not key.startswith(("arms.", "members."))
  }
  assert keys == set(rules_of(config))


@pytest.mark.parametrize(
  ("key", "value", "rule"),
  [
    ("accumulation_steps", 0, WHOLE_ROWS),
    ("batch_size", 10**9, WHOLE_ROWS),
    ("batch_size", 32.0, WHOLE_ROWS),
    ("batch_size", True, WHOLE_ROWS),
    ("batch_size", "32", WHOLE_ROWS),
    ("batch_size", None, WHOLE_ROWS),
    ("eval_batch_size", -1, WHOLE_ROWS),
    ("checkpoints_to_keep", 0, WHOLE_ROWS),
    ("batch_norm.population_batches", 2**31, WHOLE_ROWS),
    ("data.image_size", -3, "a whole number from 1 to 4,096"),
    ("data.image_size", 10**6, "a whole number from 1 to 4,096"),
    ("data.image_size", [32, 32], "a whole number from 1 to 4,096"),
    ("optimizer.learning_rate", 0.0, ABOVE_ZERO),
    ("optimizer.learning_rate", NAN, ABOVE_ZERO),
    ("optimizer.learning_rate", INF, ABOVE_ZERO),
    ("optimizer.learning_rate", 1e-46, ABOVE_ZERO),
    ("batch_norm.epsilon", INF, f"{ABOVE_ZERO}, or none"),
    ("batch_norm.epsilon", -1e-3, f"{ABOVE_ZERO}, or none"),
    ("model.initial_scale", 1e39, ABOVE_ZERO),
    ("optimizer.schedule.factor", -0.5, ABOVE_ZERO),
    ("optimizer.schedule.factor", NAN, ABOVE_ZERO),
    ("optimizer.l2", INF, AT_LEAST_ZERO),
    ("optimizer.l2", -1e-4, AT_LEAST_ZERO),
    ("optimizer.l2", "1e-4", AT_LEAST_ZERO),
    ("optimizer.clip_norm", NAN, AT_LEAST_ZERO),
    ("seed", -1, "a whole number from 0 to 4,294,967,295"),
    ("seed", 2**32, "a whole number from 0 to 4,294,967,295"),
    ("seed", 2**64, "a whole number from 0 to 4,294,967,295"),
    ("data.split_seed", -1, "a whole number from 0 to 4,294,967,295"),
    ("average_decay", 1.0, BELOW_ONE),
    ("batch_norm.decay", -0.1, f"{BELOW_ONE}, or none"),
    ("batch_norm.decay", NAN, f"{BELOW_ONE}, or none"),
    ("data.eval_central_fraction", 0.0, "a number from 0.1 to 1"),
    ("data.augmentation.area_range", (0.5,), "two fractions, the smaller first"),
    ("data.augmentation.area_range", (1.0, 0.5), "two fractions, the smaller first"),
    ("data.augmentation.area_range", ("a", "b"), "two fractions, the smaller first"),
    ("data.augmentation.area_range", (NAN, 1.0), "two fractions, the smaller first"),
    ("data.augmentation.area_range", 0.5, "two fractions, the smaller first"),
    ("data.augmentation.photometric", 1.5, "a number from 0 to 1"),
    ("data.augmentation.rand_augment", True, "a whole number from 0 to 100"),
    ("data.augmentation.rand_augment_magnitude", 31, "a whole number from 0 to 30"),
    ("data.augmentation.shift", -1, "a whole number from 0 to 4,096"),
    ("data.augmentation.flip", 1, "True or False"),
    ("keep_best", "yes", "True or False"),
    ("data.dir", None, "a text"),
    ("data.name", "", "a text that is not empty"),
    ("optimizer.schedule.boundaries", (1, 2), "durations, as in ('10 epochs', '20 epochs')"),
    ("optimizer.schedule.boundaries", "10", "durations, as in ('10 epochs', '20 epochs')"),
    ("aux_weight", -0.4, AT_LEAST_ZERO),
    ("model.residual_scales", (0.1, 0.1), "three numbers above 0, or empty"),
    ("model.residual_scales", (0.1, 0.1, 0.0), "three numbers above 0, or empty"),
    ("model.residual_scales", (0.1, 0.1, INF), "three numbers above 0, or empty"),
  ],
)
def test_out_of_range(key, value, rule):
  with pytest.raises(UserError) as error:
    ranges.check(change(train_config(), key, value))
  assert str(error.value) == f"config.{key} is {value!r}; it must be {rule}."


@pytest.mark.parametrize("key", list(TRAIN))
@pytest.mark.parametrize("value", [{"a": 1}, -1e400, None, b"x"])
def test_no_field_takes_anything(key, value):
  if value is None and TRAIN[key].default is None:
    return  # for the dialect's
  with pytest.raises(UserError, match=rf"^config\.{key} is .*; it must be "):
    ranges.check(change(train_config(), key, value))


@pytest.mark.parametrize("value", ["soon", "1", "nan epochs", "1e999 steps", "-1 steps", 5, None])
def test_no_duration(value):
  with pytest.raises(
    UserError, match=r"^config\.eval_every is .*; it must be a duration, a number"
  ):
    ranges.check(change(train_config(), "eval_every", value))


@pytest.mark.parametrize(
  ("key", "value", "nearest"),
  [
    ("model.name", "bn_incepton", "bn_inception"),
    ("model.activation", "rleu", "relu"),
    ("optimizer.schedule.name", "cosinus", "cosine"),
    ("data.augmentation.crop", "shfit", "shift"),
    ("data.eval_resize", "sqash", "squash"),
    ("batch_norm.statistics", "globl", "global"),
    ("parallel", "gjit", "jit"),
  ],
)
def test_an_unknown_choice(key, value, nearest):
  with pytest.raises(UserError) as error:
    ranges.check(change(train_config(), key, value))
  assert str(error.value).startswith(
    f"config.{key}='{value}' is unknown. Did you mean '{nearest}'?"
  )


@pytest.mark.parametrize(
  ("key", "message"),
  [
    ("optimizer.momentun", "There is no field config.optimizer.momentun"),
    ("model.widht", "There is no field config.model.widht"),
    ("optimizer.lamb.b1", "There is no field config.optimizer.lamb.b1"),
  ],
)
def test_an_unknown_key(key, message):
  config = train_config()
  *sections, name = key.split(".")
  config.optimizer.lamb = ml_collections.ConfigDict()
  functools.reduce(getattr, sections, config)[name] = 0.5
  with pytest.raises(UserError, match=message):
    ranges.check(config)


def test_options_of_the_chosen_optimizer_are_no_unknown_keys():
  config = train_config()
  config.optimizer.update(name="lamb", lamb={"b1": 0.5})
  ranges.check(config)


def test_an_unknown_dialect():
  with pytest.raises(UserError, match=r"bn_inception has no dialect 'papr'\. Did you mean 'paper'"):
    ranges.check(change(train_config(), "model.dialect", "papr"))


@pytest.mark.parametrize("key", ["batch_norm.decay", "model", "optimizer.schedule", "seed"])
def test_a_field_that_is_missing(key):
  config = train_config()
  *sections, name = key.split(".")
  del functools.reduce(getattr, sections, config)[name]
  with pytest.raises(
    UserError, match=rf"There is no config\.{key}.*, which the experiment 'train'"
  ):
    ranges.check(config)


def test_a_section_that_is_none():
  with pytest.raises(UserError, match=r"There is no config\.batch_norm\.enabled, which"):
    ranges.check(change(train_config(), "batch_norm", 3))


@pytest.mark.parametrize("path", [path for path in CONFIGS if "bn_" in path or "shift" in path])
@pytest.mark.parametrize("value", [NAN, INF, -1, -0.5, "x", None, 1e400, 10**400])
def test_no_number_of_an_experiment_is_anything(path, value):
  config = config_files.load(path)
  for key in rules_of(config):
    before = find(config, key)
    if not rules.is_finite(before) or (key.endswith("initial_bias") and rules.is_finite(value)):
      continue
    if value is None and key.startswith(("base.batch_norm.", "batch_norm.")):
      continue  # for the dialect's
    with pytest.raises(UserError, match=rf"^config\.{key} is .*; it must be "):
      check(change(config, key, value))
    change(config, key, before)


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


class TestGradientSums:
  @pytest.mark.parametrize(
    ("dtype", "sums"),
    [("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")],
  )
  def test_in_what_the_network_computes_in_or_wider(self, dtype, sums):
    config = train_config()
    config.update_from_flattened_dict({"model.dtype": dtype, "gradient_sum_dtype": sums})
    ranges.check(config)

  def test_not_narrower(self):
    config = train_config()
    config.gradient_sum_dtype = "bfloat16"
    with pytest.raises(UserError) as refusal:
      ranges.check(config)
    assert str(refusal.value) == (
      "config.gradient_sum_dtype='bfloat16' is for networks that compute in bfloat16; set "
      "config.model.dtype=bfloat16, or config.gradient_sum_dtype=float32."
    )
