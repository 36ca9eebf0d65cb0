"""The objects that a config describes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import shortened
import tiny

from speedpaper_jax.compilation import determinism
from speedpaper_jax.config import plan, ranges
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT, PER_IMAGE
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.models import ops, registry
from speedpaper_jax.models.float32_gradients import with_float32_gradients
from speedpaper_jax.steps import assembly, build
from speedpaper_jax.steps.mixing import Mixing
from speedpaper_jax.steps.step import batch_template, make_train_step

DEVICES = 8


@pytest.fixture
def config():
  config = train_config()
  config.batch_size = 64
  return config


def build_model(config):
  return build.build_model(config, 10, parallel.make_mesh())


def test_the_model_is_the_one_of_the_config(config):
  config.model.update(
    activation="sigmoid", dtype="bfloat16", local_response_norm=True, dropout_rate=0.4
  )
  config.gradient_sum_dtype = "bfloat16"
  config.batch_norm.update(decay=0.9, epsilon=1e-5, unbiased_running_variance=False)
  model = build_model(config)
  assert (model.num_classes, model.dropout_rate, model.use_local_response_norm) == (10, 0.4, True)
  assert (model.settings.activation, model.settings.dtype) == ("sigmoid", jnp.bfloat16)
  assert model.settings.operations is ops.CPU
  batch_norm = model.settings.batch_norm
  assert (batch_norm.decay, batch_norm.epsilon) == (0.9, 1e-5)
  assert not batch_norm.unbiased_running_variance


class TestOnGPUs:
  """The step of a network with all kinds of pools, as it is lowered for them; none is needed."""

  @pytest.fixture(autouse=True)
  def short(self, monkeypatch):
    shortened.shorten(monkeypatch)
    monkeypatch.setattr(parallel, "platform", lambda mesh: "gpu")

  def lowered(self, config, name):
    config.model.name, config.data.image_size = name, 32
    config.batch_norm.enabled = name != "googlenet"
    config.data.augmentation.mixup = config.label_smoothing = 0.1
    config, mesh = assembly.prepare(config)
    parts = assembly.assemble(config, mesh, 10, epoch_size=1000)
    step = make_train_step(
      parts.model,
      parts.optimizer,
      seed=0,
      label_smoothing=config.label_smoothing,
      mixing=parts.mixing,
      normalization=DEFAULT,
    )
    batch = batch_template(config.batch_size, config.data.image_size, with_distortion=True)
    wrapped = parallel.jit_train_step(step, mesh, "jit")
    return wrapped.trace(parts.state_template, batch).lower(lowering_platforms=("cuda",)).as_text()

  @pytest.mark.parametrize("name", ["bn_inception", "googlenet"])
  def test_nothing_scatters_where_the_same_bits_are_asked_for(self, config, name, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", determinism.FLAG)
    assert "scatter" not in self.lowered(config, name)

  def test_elsewhere_gradients_of_maxima_do(self, config):
    assert "select_and_scatter" in self.lowered(config, "bn_inception")


class TestDecays:
  """They are of a batch of `decay_batch_size`, or of any."""

  @pytest.fixture
  def config(self, config):
    config.average_decay = 0.9999
    config.batch_norm.decay = 0.9997
    return config

  def test_are_of_any_batch_by_default(self, config):
    assert build.batch_norm_decay(config) == 0.9997
    assert build.average_decay(config) == 0.9999

  def test_are_the_same_to_the_bit_at_their_own_batch(self, config):
    config.decay_batch_size = config.batch_size
    assert build.batch_norm_decay(config) == 0.9997
    assert build.average_decay(config) == 0.9999

  def test_remember_as_many_images_at_another(self, config):
    config.decay_batch_size = config.batch_size // 2
    assert build.batch_norm_decay(config) == pytest.approx(0.9997**2)
    assert build.average_decay(config) == pytest.approx(0.9999**2)
    config.average_decay = 0.0
    assert build.average_decay(config) == 0

  def test_statistics_move_with_each_micro_batch(self, config):
    config.update(decay_batch_size=config.batch_size, accumulation_steps=4)
    assert build.batch_norm_decay(config) == pytest.approx(0.9997**0.25)
    assert build.average_decay(config) == 0.9999

  def test_the_network_has_them(self, config):
    config.decay_batch_size = config.batch_size // 2
    assert build_model(config).settings.batch_norm.decay == build.batch_norm_decay(config)

  def test_of_the_dialect_follow_too(self, config):
    config.batch_norm.decay = None
    config.model.dialect = "pretrainedmodels"
    config.decay_batch_size = config.batch_size // 2
    assert build.batch_norm_decay(config) == pytest.approx(0.9**2)


class TestFreezing:
  def test_batch_normalization_knows_what_is_frozen(self, config):
    config.freeze = "conv1, inception_3*"
    assert build_model(config).settings.batch_norm.frozen == ("conv1", "inception_3*")
    assert build.build_inference_model(config, 10, parallel.make_mesh()).settings.batch_norm.frozen


def test_batch_normalization_knows_where_it_is_per_activation(config):
  assert build_model(config).settings.batch_norm.per_activation_layers == ()
  config.batch_norm.per_activation = "inception_5a, inception_5b"
  batch_norm = build_model(config).settings.batch_norm
  assert batch_norm.per_activation_layers == ("inception_5a", "inception_5b")
  assert not batch_norm.per_activation


class TestOperations:
  @pytest.mark.parametrize(
    ("dtype", "sums", "mode", "is_wider"),
    [
      ("bfloat16", "float32", "jit", True),
      ("bfloat16", "bfloat16", "jit", False),
      ("bfloat16", "float32", "pmap", False),
      ("bfloat16", "bfloat16", "pmap", False),
      ("float32", "float32", "jit", False),
    ],
  )
  def test_give_wide_gradients_where_the_compiler_sums_them(
    self, config, dtype, sums, mode, is_wider
  ):
    config.update(gradient_sum_dtype=sums, parallel=mode)
    config.model.dtype = dtype
    wide = with_float32_gradients(ops.CPU)
    assert build_model(config).settings.operations is (wide if is_wider else ops.CPU)
    network = build.build_inference_model(config, 10, parallel.make_mesh())
    assert network.settings.operations is ops.CPU

  def test_are_the_platforms_on_one_device(self, config):
    config.model.dtype = "bfloat16"
    model = build.build_model(config, 10, parallel.make_mesh(jax.devices()[:1]))
    assert model.settings.operations is ops.CPU


@pytest.mark.parametrize(
  ("platform", "dtype", "statistics", "mode", "expected"),
  [
    ("cpu", "bfloat16", "global", "jit", False),
    ("gpu", "bfloat16", "global", "jit", True),
    ("gpu", "float32", "global", "jit", False),
    ("tpu", "bfloat16", "replica", "jit", True),
    ("tpu", "float32", "global", "jit", True),
    ("tpu", "float32", "replica", "jit", False),
    ("tpu", "float32", "replica", "pmap", True),
  ],
)
def test_moments_are_taken_in_one_pass_where_no_device_waits_for_another(
  config, monkeypatch, platform, dtype, statistics, mode, expected
):
  monkeypatch.setattr(parallel, "platform", lambda mesh: platform)
  config.model.dtype, config.batch_norm.statistics, config.parallel = dtype, statistics, mode
  assert build_model(config).settings.batch_norm.moments_in_one_pass is expected


class TestMixing:
  def test_is_that_of_the_config(self, config):
    config.data.augmentation.update(mixup=0.2, cutmix=1.0)
    assert build.build_mixing(config, parallel.make_mesh()) == Mixing(mixup=0.2, cutmix=1.0)

  @pytest.mark.parametrize(
    ("batch_size", "accumulation_steps", "rows", "multiple"),
    [(8, 1, 1, 16), (24, 1, 3, 16), (48, 2, 3, 32)],
  )
  def test_an_odd_number_of_rows_has_one_without_a_neighbour(
    self, config, batch_size, accumulation_steps, rows, multiple
  ):
    config.update(batch_size=batch_size, accumulation_steps=accumulation_steps)
    assert not build.build_mixing(config, parallel.make_mesh())
    config.data.augmentation.mixup = 0.2
    with pytest.raises(
      UserError, match=f"{rows} is an odd number of images .* multiple of {multiple}"
    ):
      build.build_mixing(config, parallel.make_mesh())


class TestClassWeights:
  def test_are_none_by_default(self, config):
    assert build.build_class_weights(config, [1, 2]) is None

  def test_balanced_are_those_of_scikit_learn(self, config):
    """`compute_class_weight("balanced")`: examples / (classes · examples of the class)."""
    config.class_weights = "balanced"
    weights = build.build_class_weights(config, [60, 30, 10])
    np.testing.assert_allclose(weights, [100 / (3 * 60), 100 / (3 * 30), 100 / (3 * 10)], rtol=1e-6)
    assert weights.dtype == np.float32

  def test_a_class_without_images_has_no_part(self, config):
    config.class_weights = "balanced"
    weights = build.build_class_weights(config, [60, 0, 20])
    np.testing.assert_allclose(weights, [80 / (2 * 60), 0, 80 / (2 * 20)], rtol=1e-6)

  def test_need_the_numbers(self, config):
    config.class_weights = "balanced"
    with pytest.raises(UserError, match=r"class_weights='balanced' needs .* not of 'digits'; set"):
      build.build_class_weights(config, None)


def test_the_width_of_a_network_is_the_configs(config):
  assert build_model(config).settings.width == 1
  config.model.width = 0.5
  assert build_model(config).settings.width == 0.5


class TestFieldsOfSomeModels:
  def test_a_model_gets_those_that_it_has(self, config):
    config.model.update(name="inception_resnet_v2", aux_heads=True, residual_scales=(0.3, 0.2, 0.1))
    model = build_model(config)
    assert (model.use_aux_heads, model.residual_scales) == (True, (0.3, 0.2, 0.1))

  def test_unset_they_are_off_or_the_dialects(self, config):
    config.model.name = "inception_resnet_v2"
    model = build_model(config)
    assert (model.use_aux_heads, model.residual_scales) == (False, None)

  @pytest.mark.parametrize(
    ("name", "field", "value", "having"),
    [
      (
        "bn_inception",
        "aux_heads",
        True,
        "googlenet, inception_v3, inception_v4, inception_resnet",
      ),
      ("inception_v4", "residual_scales", (0.1,) * 3, "inception_resnet_v1, inception_resnet_v2."),
      ("googlenet", "local_response_norm", True, "bn_inception."),
    ],
  )
  def test_a_model_that_has_not_says_which_have(self, config, name, field, value, having):
    config.model.name = name
    config.model.dialect = ""
    config.model[field] = value
    with pytest.raises(UserError) as refusal:
      build_model(config)
    assert str(refusal.value).startswith(
      f"{name} has no config.model.{field}; unset it, or set config.model.name to a network that "
      f"has: {having}"
    )


def test_the_empty_dialect_is_the_models_default(config):
  config.model.update(name="inception_v3", dialect="")
  assert build_model(config).dialect is registry.find_dialect("inception_v3", "slim")


def test_a_network_without_batch_norm_does_not_look_at_its_settings(config):
  config.batch_norm.update(enabled=False, statistics="group", virtual_batch_size=7)
  assert build_model(config).settings.batch_norm is None


@pytest.mark.parametrize(
  ("mode", "statistics", "virtual_batch_size", "axis_name"),
  [
    ("jit", "global", None, None),
    ("jit", "replica", 4, None),  # 64 rows, 2 micro-batches, 8 devices
    ("jit", "group", 16, None),
    ("pmap", "global", None, parallel.AXIS),
    ("pmap", "replica", None, None),
    ("pmap", "group", 2, None),
  ],
)
def test_what_is_normalised_together(config, mode, statistics, virtual_batch_size, axis_name):
  config.update(parallel=mode, accumulation_steps=2)
  config.batch_norm.update(statistics=statistics, virtual_batch_size=16 if mode == "jit" else 2)
  settings = build_model(config).settings
  assert settings.batch_norm.virtual_batch_size == virtual_batch_size
  assert settings.batch_norm.axis_name == axis_name
  # Dropout belongs to the rows of the global batch whatever the statistics.
  assert settings.axis_name == parallel.axis_name(mode)


def test_a_batch_smaller_than_the_virtual_batch_is_one_group(config):
  config.batch_norm.update(statistics="group", virtual_batch_size=1000)
  assert build_model(config).settings.batch_norm.virtual_batch_size == 64


def test_a_group_cannot_straddle_devices_under_pmap(config):
  config.parallel = "pmap"
  config.batch_norm.update(statistics="group", virtual_batch_size=16)
  with pytest.raises(UserError, match="=16 does not divide the 8 rows"):
    build_model(config)


@pytest.mark.parametrize(
  ("section", "field", "value", "nearest"),
  [
    ("model", "activation", "rleu", "relu"),
    ("model", "dtype", "float16", "bfloat16"),
    ("batch_norm", "statistics", "globl", "global"),
    ("batch_norm", "inference", "populations", "population"),
  ],
)
def test_an_unknown_value_is_refused_with_the_nearest_one(config, section, field, value, nearest):
  config[section][field] = value
  with pytest.raises(UserError) as refusal:
    ranges.check(config)
  message = str(refusal.value)
  assert message.startswith(f"config.{section}.{field}='{value}' is unknown. Did you mean '")
  assert f"'{nearest}'" in message


def test_initial_scale_is_of_the_kernels_alone(config, monkeypatch):
  monkeypatch.setattr(registry, "create", tiny.create)

  def params():
    traced = build.trace_initial_state(config, build_model(config), optax.sgd(0.1))
    return traced.lower().compile()().params

  once = params()
  config.model.initial_scale = 3.0
  thrice = params()
  for (path, value), scaled in zip(
    jax.tree_util.tree_leaves_with_path(once), jax.tree.leaves(thrice), strict=True
  ):
    factor = 3 if path[-1].key == "kernel" else 1
    assert jnp.allclose(factor * value, scaled, rtol=1e-6), path


def test_members_of_one_network_are_traced_once(config, monkeypatch):
  """Whatever weights and devices they have."""
  monkeypatch.setattr(registry, "create", tiny.create)
  traced = []
  convolve = tiny.ConvBlock.__call__

  def note(*arguments, **named):
    traced.append(arguments)
    return convolve(*arguments, **named)

  monkeypatch.setattr(tiny.ConvBlock, "__call__", note)

  def template():
    mesh = parallel.make_mesh()
    network = build.build_inference_model(config, 10, mesh)
    return build.variables_template(config, network, mesh)

  first = template()
  config.seed = 7
  assert template() == first
  assert len(traced) == 1
  config.model.width = 0.5
  assert template() != first
  assert len(traced) == 2


def test_an_unknown_way_to_run_is_refused(config):
  config.parallel = "pmpa"
  with pytest.raises(
    UserError,
    match=r"config\.parallel='pmpa' is unknown\. Did you mean 'pmap'\? Valid: 'jit', 'pmap'\.",
  ):
    build_model(config)


@pytest.mark.parametrize(
  ("mode", "virtual_batch_size", "rows"), [("jit", 24, 64), ("jit", 1, 64), ("pmap", 3, 8)]
)
def test_a_virtual_batch_must_divide_what_is_normalised(config, mode, virtual_batch_size, rows):
  config.parallel = mode
  config.batch_norm.update(statistics="group", virtual_batch_size=virtual_batch_size)
  with pytest.raises(UserError) as refusal:
    build_model(config)
  assert str(refusal.value) == (
    f"config.batch_norm.virtual_batch_size={virtual_batch_size} does not divide the {rows} rows "
    "that are normalised in one piece; set it to a divisor, or config.batch_norm.statistics to "
    "'global'."
  )


@pytest.mark.parametrize(
  ("statistics", "batch_size"), [("global", 1), ("replica", DEVICES), ("replica", 1)]
)
def test_one_image_has_no_statistics(config, statistics, batch_size):
  assert jax.device_count() == DEVICES
  config.batch_size = batch_size
  config.batch_norm.statistics = statistics
  with pytest.raises(
    UserError, match="needs more than one image to take statistics of; set a larger"
  ):
    build_model(config)


def test_more_examples_than_are_counted(config):
  config.duration = "134217728 steps"
  with pytest.raises(UserError, match=r"config\.duration='.*' is .* examples; at most 4,294"):
    plan.total_steps(config, Durations(config.batch_size, 1000))


def test_the_augmentation_is_the_one_of_the_config(config):
  config.data.augmentation.update(
    crop="area", shift=2, area_range=(0.1, 0.9), flip=True, photometric=0.5
  )
  config.data.augmentation.update(rand_augment=2, rand_augment_magnitude=7, crop_fraction=0.75)
  expected = Augmentation("area", 2, (0.1, 0.9), True, 0.5, 2, 7, 0.75)
  assert build.build_augmentation(config) == expected


def test_each_image_is_whitened_by_itself_where_the_config_says_so(config):
  assert build.build_normalization(config) == DEFAULT
  config.data.per_image_whitening = True
  assert build.build_normalization(config) == PER_IMAGE


class TestEvaluationCrop:
  def test_it_is_the_one_of_the_config(self, config):
    config.data.update(
      image_size=299,
      eval_central_fraction=0.875,
      eval_resize="short_side",
      eval_interpolation="bicubic",
    )
    expected = EvaluationCrop(299, 0.875, "short_side", "bicubic")
    assert build.build_evaluation_crop(config) == expected

  @pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [("eval_resize", "sqash", "squash"), ("eval_interpolation", "cubic", "bicubic")],
  )
  def test_an_unknown_choice_is_refused(self, config, field, value, nearest):
    config.data[field] = value
    message = rf"{field[5:]}='{value}' is unknown\. Did you mean '{nearest}'\?"
    with pytest.raises(UserError, match=message):
      build.build_evaluation_crop(config)


class TestResolve:
  """ε and decay of batch normalization are the dialect's, unless the config says otherwise."""

  @pytest.mark.parametrize(
    ("name", "dialect", "epsilon", "decay"),
    [
      ("bn_inception", "paper", 1e-3, 0.9997),
      ("bn_inception", "pretrainedmodels", 1e-5, 0.9),
      ("inception_v4", "", 1e-3, 0.9997),
      ("inception_v4", "timm", 1e-3, 0.9),
      ("googlenet", "paper", 1e-3, 0.9997),  # it has none of its own
    ],
  )
  def test_the_dialects(self, name, dialect, epsilon, decay):
    config = train_config()
    config.model.update(name=name, dialect=dialect)
    resolved = build.resolve(config).batch_norm
    assert (resolved.epsilon, resolved.decay) == (epsilon, decay)
    assert config.batch_norm.epsilon is None

  def test_the_configs(self):
    config = train_config()
    config.batch_norm.update(epsilon=0.1, decay=0.5)
    resolved = build.resolve(config).batch_norm
    assert (resolved.epsilon, resolved.decay) == (0.1, 0.5)

  def test_a_network_is_built_with_them(self, config):
    config.model.dialect = "pretrainedmodels"
    assert build_model(config).settings.batch_norm.epsilon == 1e-5
