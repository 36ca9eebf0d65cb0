"""Networks stage by stage, against the papers' tables and what the networks are known to have."""

import functools

import pytest
from networks import trace

from speedpaper_jax.descriptions import stages
from speedpaper_jax.errors import UserError
from speedpaper_jax.models import layers

# Parameters with 1000 classes, and multiply-adds in 10⁹ for one image of the paper's size.
TOTALS = {
  ("googlenet", "paper"): (6_991_856, 1.499),
  ("googlenet", "torchvision"): (6_624_904, 1.498),
  ("bn_inception", "paper"): (11_188_288, 1.935),
  ("bn_inception", "pretrainedmodels"): (11_295_240, 2.033),
  ("inception_v3", "torchvision"): (23_834_568, 5.713),
  ("inception_v4", "paper"): (42_679_816, 12.254),
  ("inception_resnet_v1", "paper"): (22_756_328, 6.206),
  ("inception_resnet_v2", "timm"): (55_843_464, 13.156),
}
# GoogLeNet's Table 1: output, number of weights (the filters' and not the printed ones, which are
# off in places), and biases. Operations as printed, in 10⁶; those of 5a do not fit its filters.
TABLE_1 = {
  "conv1": ((112, 112, 64), 2_712, 64, 34),
  "inception_3a": ((28, 28, 256), 163_328, 64 + 96 + 128 + 16 + 32 + 32, 128),
  "inception_3b": ((28, 28, 480), 388_096, 128 + 128 + 192 + 32 + 96 + 64, 304),
  "inception_4a": ((14, 14, 512), 375_552, 192 + 96 + 208 + 16 + 48 + 64, 73),
  "inception_4b": ((14, 14, 512), 448_512, 160 + 112 + 224 + 24 + 64 + 64, 88),
  "inception_4c": ((14, 14, 512), 509_440, 128 + 128 + 256 + 24 + 64 + 64, 100),
  "inception_4d": ((14, 14, 528), 604_672, 112 + 144 + 288 + 32 + 64 + 64, 119),
  "inception_4e": ((14, 14, 832), 867_328, 256 + 160 + 320 + 32 + 128 + 128, 170),
  "inception_5a": ((7, 7, 832), 1_042_432, 256 + 160 + 320 + 32 + 128 + 128, None),
  "inception_5b": ((7, 7, 1024), 1_442_816, 384 + 192 + 384 + 48 + 128 + 128, 71),
  "logits": ((1, 1, 1000), 1_024_000, 1000, 1),
}

describe = functools.cache(stages.describe)


def by_name(name, dialect=None):
  return {stage.name: stage for stage in describe(name, dialect).stages}


@pytest.mark.parametrize(("name", "dialect"), TOTALS)
def test_totals(name, dialect):
  description = describe(name, dialect)
  parameters, multiply_adds = TOTALS[name, dialect]
  assert description.parameters == parameters
  assert round(description.multiply_adds / 1e9, 3) == multiply_adds


@pytest.mark.parametrize(("name", "dialect"), [("googlenet", None), ("inception_v3", "timm")])
def test_stages_leave_nothing_out(name, dialect):
  description = describe(name, dialect)
  whole = trace(name, dialect, use_aux_heads=False)
  assert description.parameters == whole.parameters()
  assert description.multiply_adds == whole.multiply_adds()
  with_heads = trace(name, dialect, use_aux_heads=True).parameters()
  assert description.parameters + sum(description.auxiliary_heads.values()) == with_heads


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1_of_googlenet(name):
  output, weights, biases, operations = TABLE_1[name]
  stage = by_name("googlenet")[name]
  assert stage.output == output
  assert stage.parameters == weights + biases
  if operations is not None:
    assert stage.multiply_adds / 1e6 == pytest.approx(operations, abs=0.7)


def test_a_module_counted_by_hand():
  """BN-Inception's 3c: 3×3 128 → 160 and double 3×3 64 → 96 → 96, of 320 channels, stride 2."""
  stage = by_name("bn_inception")["inception_3c"]
  reduce, large = (320 * 128 + 320 * 64, 9 * 64 * 96)
  strided = 9 * 128 * 160 + 9 * 96 * 96
  filters = 128 + 160 + 64 + 96 + 96
  assert stage.parameters == reduce + large + strided + 2 * filters
  assert stage.multiply_adds == 28 * 28 * (reduce + large) + 14 * 14 * strided
  assert stage.activations == 28 * 28 * (128 + 64 + 96) + 14 * 14 * (160 + 96)
  assert stage.output == (14, 14, 576)
  assert stage.kernels == ("1×1", "3×3", "3×3/2", "max 3×3/2")


class TestNamesAndOrder:
  def test_pools_between_modules(self):
    modules = [
      f"inception_{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    ]
    modules.insert(2, "max pool")
    modules.insert(8, "max pool")
    start = ["conv1", "max pool", "conv2_reduce", "conv2", "max pool"]
    found = [stage.name for stage in describe("googlenet").stages]
    assert found == [*start, *modules, "pool", "logits"]

  def test_pools_that_are_features(self):
    assert [stage.name for stage in describe("inception_v3", "torchvision").stages][:8] == [
      *("conv_1a_3x3", "conv_2a_3x3", "conv_2b_3x3", "pool_3a"),
      *("conv_3b_1x1", "conv_4a_3x3", "pool_5a", "mixed_5b"),
    ]
    pool = by_name("inception_v3", "torchvision")["pool_5a"]
    assert (pool.output, pool.kernels, pool.parameters) == ((35, 35, 192), ("max 3×3/2",), 0)

  def test_numbered_blocks_are_in_the_order_of_the_network(self):
    names = [stage.name for stage in describe("inception_resnet_v2", "timm").stages]
    blocks = [name for name in names if name.startswith("block_b")]
    assert blocks == [f"block_b_{i}" for i in range(1, 21)]
    assert names[-3:] == ["conv_last", "pool", "logits"]

  def test_embedding_has_its_batch_normalization(self):
    found = by_name("inception_resnet_v1", "facenet")
    assert list(found)[-3:] == ["pool", "embedding", "logits"]
    assert found["pool"].output == (1, 1, 1792)
    assert found["embedding"].parameters == 1792 * 512 + 2 * 512


@pytest.mark.parametrize(
  ("name", "stage", "kernels"),
  [
    ("bn_inception", "conv1", ("7×7/2 depthwise", "1×1")),
    ("bn_inception", "inception_3a", ("1×1", "3×3", "avg 3×3")),
    ("googlenet", "inception_3a", ("1×1", "3×3", "5×5", "max 3×3")),
    ("inception_v4", "reduction_b", ("1×1", "1×7", "7×1", "3×3/2", "max 3×3/2")),
    ("bn_inception", "pool", ("avg 7×7",)),
    ("bn_inception", "logits", ("dense",)),
  ],
)
def test_kernels(name, stage, kernels):
  assert by_name(name)[stage].kernels == kernels


def test_size_of_images_and_classes():
  small = stages.describe("bn_inception", image_size=32, num_classes=10)
  assert small.stages[-3].output == (1, 1, 1024)
  assert small.stages[-1].parameters == 1025 * 10
  assert small.parameters == 11_188_288 - 1025 * 990


def test_auxiliary_heads_stand_apart():
  assert describe("googlenet").auxiliary_heads == {"aux1": 3_188_840, "aux2": 3_190_888}
  assert describe("inception_v4").auxiliary_heads == {}


def test_no_weights_are_drawn(monkeypatch):
  monkeypatch.setattr(layers.np.random, "default_rng", None)
  stages.describe("googlenet", image_size=32)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"name": "inception_v5"}, "There is no model 'inception_v5'"),
    ({"name": "inception_v4", "dialect": "slim"}, "inception_v4 has no dialect 'slim'"),
    ({"name": "inception_v4", "image_size": 74}, "too small for InceptionV4: nothing is left"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(UserError, match=message):
    stages.describe(**arguments)
