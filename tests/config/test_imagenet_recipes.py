"""The recipes for ImageNet, against the formulas of the sources that they name."""

import math

import pytest

from speedpaper_jax.config.bn_recipe import VARIANTS, paper_recipe
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.config.files import load
from speedpaper_jax.config.imagenet_recipes import NAMES, RECIPES
from speedpaper_jax.errors import UserError
from speedpaper_jax.papers import expected_accuracies
from speedpaper_jax.steps import build, optim

NETWORKS = tuple(RECIPES)
IMAGES = 1_281_167
STEPS = (0, 1, 1_000)
BATCHES = (256, 1_024, 8_192)


def epochs(step, batch):
  return step * batch / IMAGES


def paper_of_googlenet(step, batch):
  """1409.4842, section 6, with the rate of 1502.03167's Inception: 0.0015 for 32 images."""
  return 0.0015 * batch / 32 * 0.96 ** (epochs(step, batch) // 8)


def paper_of_bn_x5(step, batch):
  """1502.03167, sections 4.2.1 and 4.2.2: 0.0075, and six times as often as every 8 epochs."""
  return 0.0075 * batch / 32 * 0.96 ** (epochs(step, batch) // (8 / 6))


def papers_of_later_networks(step, batch):
  """1512.00567, section 8, and 1602.07261, section 4; the rate is of 256 images."""
  return 0.045 * batch / 256 * 0.94 ** (epochs(step, batch) // 2)


def research_inception_on_8_gpus(step, batch):
  return 0.1 * batch / 256 * 0.16 ** (epochs(step, batch) // 30)


def research_inception_distributed(step, batch):
  """The rate is of 32 replicas of 32 images."""
  return 0.045 * batch / 1_024 * 0.94 ** (epochs(step, batch) // 2)


def tpu_inception_v3(step, batch):
  return 0.165 * batch / 256 * 0.94 ** (epochs(step, batch) // 3)


def tpu_inception_v4(step, batch):
  """With one rising line over the three epochs in the place of its steps."""
  peak = 0.15 * batch / 256 / 0.94 ** (3 / 2)
  warmup = 3 * IMAGES // batch
  return min(1, (step + 1) / warmup) * peak * 0.94 ** (epochs(step, batch) // 2)


def gluoncv(step, batch):
  """Its scheduler's; its first step has a rate of 0, and ours that of its second."""
  peak = 0.4 * batch / 1_024
  warmup = 5 * IMAGES // batch
  if step < warmup:
    return peak * (step + 1) / warmup
  return peak * (1 + math.cos(math.pi * (epochs(step, batch) - 5) / 195)) / 2


# Network and recipe → rate, decays of statistics and of the average, and the batch they are of.
SOURCES = {
  ("googlenet", "paper"): (paper_of_googlenet, None, 0.9999, 32),
  ("googlenet", "authors"): (research_inception_on_8_gpus, 0.9997, 0.9999, 256),
  ("googlenet", "modern"): (gluoncv, 0.9, 0, 1_024),
  ("bn_inception", "paper"): (paper_of_bn_x5, 0.9997, 0, 32),
  ("bn_inception", "authors"): (research_inception_on_8_gpus, 0.9997, 0.9999, 256),
  ("bn_inception", "modern"): (gluoncv, 0.9, 0, 1_024),
  ("inception_v3", "paper"): (papers_of_later_networks, 0.9997, 0.9999, 256),
  ("inception_v3", "authors"): (tpu_inception_v3, 0.996, 0.995, 1_024),
  ("inception_v3", "modern"): (gluoncv, 0.9, 0, 1_024),
  ("inception_v4", "paper"): (papers_of_later_networks, 0.9997, 0.9999, 256),
  ("inception_v4", "authors"): (tpu_inception_v4, 0.995, 0.995, 256),
  ("inception_v4", "modern"): (gluoncv, 0.9, 0, 1_024),
  ("inception_resnet_v1", "paper"): (papers_of_later_networks, 0.9997, 0.9999, 256),
  ("inception_resnet_v1", "authors"): (research_inception_distributed, 0.9997, 0.9999, 1_024),
  ("inception_resnet_v1", "modern"): (gluoncv, 0.9, 0, 1_024),
  ("inception_resnet_v2", "paper"): (papers_of_later_networks, 0.9997, 0.9999, 256),
  ("inception_resnet_v2", "authors"): (research_inception_distributed, 0.9997, 0.9999, 1_024),
  ("inception_resnet_v2", "modern"): (gluoncv, 0.9, 0, 1_024),
}


def config_of(network, recipe, batch=None):
  config = load(f"configs/{network}.py:data=imagenet2012,recipe={recipe}")
  if batch is not None:
    config.batch_size = batch
  return config


def rate_of(config, step):
  schedule = build.build_schedule(config, Durations(config.batch_size, IMAGES))
  return float(schedule(step))


def test_every_recipe_of_every_network_is_here():
  assert list(SOURCES) == [(network, recipe) for network in NETWORKS for recipe in NAMES]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("network", "recipe"), SOURCES)
class TestAgainstTheSource:
  def test_learning_rate(self, network, recipe, batch):
    expected = SOURCES[network, recipe][0]
    config = config_of(network, recipe, batch)
    # A cosine here goes over the warm-up, too: within 0.01 of a peak of 0.4.
    tolerance = {"abs": 0.01 * batch / 1_024} if recipe == "modern" else {"rel": 1e-5}
    for step in STEPS:
      assert rate_of(config, step) == pytest.approx(expected(step, batch), **tolerance)

  def test_decay_of_statistics(self, network, recipe, batch):
    _, decay, _, own_batch = SOURCES[network, recipe]
    config = config_of(network, recipe, batch)
    assert config.batch_norm.enabled == (decay is not None)
    if decay is not None:
      found = build.batch_norm_decay(config)
      assert found == pytest.approx(decay ** (batch / own_batch), rel=1e-12)

  def test_average_of_the_weights(self, network, recipe, batch):
    """TensorFlow's ExponentialMovingAverage with the number of updates: min(d, (1+n)/(10+n))."""
    _, _, decay, own_batch = SOURCES[network, recipe]
    found = build.average_decay(config_of(network, recipe, batch))
    assert found == pytest.approx(decay ** (batch / own_batch), rel=1e-12)
    for step, bound in zip(STEPS, (1 / 10, 2 / 11, 1_001 / 1_010), strict=True):
      at_step = float(optim.averaging_decay(found, step))
      assert at_step == pytest.approx(min(decay ** (batch / own_batch), bound), rel=1e-6)


class TestByHand:
  """The same from a pocket calculator."""

  def test_decays_at_8192(self):
    config = config_of("inception_v4", "paper", 8_192)
    assert build.batch_norm_decay(config) == pytest.approx(0.99044, abs=5e-6)
    assert build.average_decay(config) == pytest.approx(0.99680, abs=5e-6)
    # 156 steps an epoch: 0.9997 would have left 79 % of the initial values after five.
    steps = 5 * IMAGES / 8_192
    assert 0.9997**steps == pytest.approx(0.791, abs=1e-3)
    assert build.batch_norm_decay(config) ** steps < 0.001

  def test_as_many_images_are_remembered_as_at_256(self):
    for batch in BATCHES:
      decay = build.batch_norm_decay(config_of("inception_v3", "paper", batch))
      images = batch / -math.log(decay)
      assert images == pytest.approx(256 / 0.000300045, rel=1e-5)

  def test_rates_that_gluoncvs_log_prints(self):
    """Of the first epoch's batches 49 and 999, and of the fifth's last; counted from 0."""
    config = config_of("inception_v3", "modern")
    for step, printed in ((48, 0.003133), (998, 0.063885), (4 * 1_251 + 1_248, 0.399872)):
      assert rate_of(config, step) == pytest.approx(printed, rel=2e-3)

  def test_rates_of_the_tpus_warm_up_at_the_beginning_of_epochs(self):
    """A third and two thirds of the peak, and from the third on 0.15 / 0.94^1.5 × 0.94."""
    config = config_of("inception_v4", "authors")
    for epoch, rate in ((1, 0.05486), (2, 0.10973 * 0.94), (3, 0.15471)):
      step = math.ceil(epoch * IMAGES / 256)
      assert rate_of(config, step) == pytest.approx(rate, rel=1e-3)


class TestConfig:
  @pytest.mark.parametrize(("network", "recipe"), SOURCES)
  def test_batch_groups_and_length(self, network, recipe):
    config = config_of(network, recipe)
    chosen = RECIPES[network].get(recipe) or paper_recipe(VARIANTS["bn_x5"])
    assert config.batch_size == config.optimizer.base_batch_size == config.decay_batch_size
    assert config.batch_norm.virtual_batch_size * chosen.replicas == config.batch_size
    assert config.duration == f"{chosen.epochs} epochs"
    assert config.expected_curve == chosen.expected_curve

  def test_another_batch_keeps_the_groups(self):
    config = config_of("inception_v4", "paper", 8_192)
    assert config.batch_norm.virtual_batch_size == 32

  def test_decays_of_micro_batches_are_theirs(self):
    config = config_of("inception_v3", "authors")
    config.accumulation_steps = 4
    assert build.batch_norm_decay(config) == pytest.approx(0.996**0.25)
    assert build.average_decay(config) == 0.995

  @pytest.mark.parametrize("network", NETWORKS)
  def test_modern(self, network):
    config = config_of(network, "modern")
    assert config.optimizer.sgd.to_dict() == {"momentum": 0.9, "nesterov": True}
    assert (config.label_smoothing, config.data.augmentation.mixup) == (0.1, 0.2)
    assert (config.optimizer.schedule.name, config.optimizer.schedule.warmup) == (
      "cosine",
      "5 epochs",
    )
    assert config.optimizer.l2 == 1e-4
    assert not config.model.aux_heads

  @pytest.mark.parametrize("recipe", ["authors", "modern"])
  def test_googlenet_is_the_one_with_batch_normalization(self, recipe):
    config = config_of("googlenet", recipe)
    assert config.batch_norm.enabled
    assert config.model.dialect == "torchvision"

  @pytest.mark.parametrize("data", ["digits", "mnist", "folder"])
  @pytest.mark.parametrize("network", NETWORKS)
  def test_small_data_has_batches_of_32_and_no_curve(self, network, data):
    config = load(f"configs/{network}.py:data={data}")
    assert config.batch_size == config.decay_batch_size == 32
    assert config.expected_curve == ""

  @pytest.mark.parametrize("network", NETWORKS)
  def test_other_data_has_the_papers_recipe_alone(self, network):
    message = "recipe=modern is for data=imagenet2012; leave it out for data=mnist, which has the p"
    with pytest.raises(UserError, match=message):
      load(f"configs/{network}.py:data=mnist,recipe=modern")

  def test_other_variants_have_the_papers_recipe_alone(self):
    message = "recipe=modern is for variant=bn_x5, the default; leave variant=inception out"
    with pytest.raises(UserError, match=message):
      load("configs/bn_inception.py:data=imagenet2012,variant=inception,recipe=modern")

  def test_a_misspelt_recipe(self):
    with pytest.raises(UserError, match=r"has no recipe 'authrs'\. Did you mean 'authors'"):
      config_of("inception_v3", "authrs")


class TestExpected:
  ALL = tuple(
    [recipe for recipes in RECIPES.values() for recipe in recipes.values()]
    + list(map(paper_recipe, VARIANTS.values()))
  )

  @pytest.mark.parametrize("recipe", ALL)
  def test_a_curve_ends_within_the_tolerance(self, recipe):
    if recipe.expected_curve:
      curve = expected_accuracies.find(recipe.expected_curve).curve
      last = 100 * max(curve.values[-5:])
      assert last == pytest.approx(recipe.expected.top1, abs=recipe.expected.tolerance)

  @pytest.mark.parametrize("recipe", ALL)
  def test_each_number_has_its_source(self, recipe):
    assert {"batch", "rate", "optimiser", "decays", "length"} <= recipe.sources.keys()

  def test_best_published_results(self):
    """100 % less the errors of osmr's weights."""
    errors = {
      "bn_inception": 25.12,
      "inception_v4": 19.83,
      "inception_resnet_v1": 19.56,
      "inception_resnet_v2": 19.40,
    }
    for network, error in errors.items():
      expected = RECIPES[network]["modern"].expected
      assert expected.top1 == pytest.approx(100 - error, abs=0.05)
