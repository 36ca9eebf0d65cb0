"""What each change from GoogLeNet to BN-Inception costs, against sums over the papers' tables."""

import itertools

import pytest

from speedpaper_jax.descriptions import changes, stages
from speedpaper_jax.models.bn_inception import FIGURE_5
from speedpaper_jax.models.googlenet import TABLE_1

SIZES = {"3": 28, "4": 14, "5": 7}  # height and width of the maps of 3a, 4a, …


@pytest.fixture(scope="module")
def way():
  return changes.count(*changes.PAPER)


@pytest.fixture(scope="module")
def steps(way):
  """By number; the two that have none by name."""
  return {step.number or step.name: step for step in way.steps}


def growth(step):
  before, after = step.before, step.after
  return after.parameters - before.parameters, after.multiply_adds - before.multiply_adds


def if_made_last(way, step):
  without, end = step.without, way.bn_inception
  return end.parameters - without.parameters, end.multiply_adds - without.multiply_adds


class TestTheWay:
  def test_leads_from_googlenet_to_bn_inception(self, way):
    for size, name in ((way.googlenet, "googlenet"), (way.bn_inception, "bn_inception")):
      network = stages.describe(name)
      assert size[:3] == (network.parameters, network.multiply_adds, network.activations)

  def test_has_no_gaps(self, way):
    for one, next_one in itertools.pairwise(way.steps):
      assert one.after == next_one.before

  def test_adds_up(self, way):
    parameters, multiply_adds = zip(*map(growth, way.steps), strict=True)
    assert sum(parameters) == 11_188_288 - 6_991_856
    assert sum(multiply_adds) == 1_934_857_216 - 1_498_677_248

  def test_has_the_five_changes_of_the_appendix_in_their_order(self, way):
    assert [step.number for step in way.steps] == [1, None, 2, 3, 4, 5, None]

  def test_holds_for_other_images_and_classes(self):
    small = changes.count(64, 10)
    assert small.bn_inception.parameters == 11_188_288 - 1025 * 990
    bn_inception = stages.describe("bn_inception", image_size=64, num_classes=10)
    assert small.bn_inception.multiply_adds == bn_inception.multiply_adds


class TestEachChange:
  def test_1_two_3x3_for_each_5x5(self, way, steps):
    def costs(rows):
      """5×5 of r → f channels as 3×3 of r → f and of f → f, and the bias or γ and β between."""
      for name, reduce, filters, strides in rows:
        positions = (SIZES[name[0]] // strides) ** 2
        first, second, large = (
          9 * reduce * filters * positions * strides**2,
          9 * filters**2 * positions,
          25 * reduce * filters * positions,
        )
        weights = 9 * reduce * filters + 9 * filters**2 - 25 * reduce * filters
        yield weights, filters, first + second - large

    in_table_1 = costs((row.name, row.conv_5x5_reduce, row.conv_5x5, 1) for row in TABLE_1)
    weights, filters, multiply_adds = map(sum, zip(*in_table_1, strict=True))
    assert growth(steps[1]) == (weights + filters, multiply_adds)
    in_figure_5 = costs(
      (row.name, row.double_3x3_reduce, row.double_3x3, row.strides) for row in FIGURE_5
    )
    weights, filters, multiply_adds = map(sum, zip(*in_figure_5, strict=True))
    assert if_made_last(way, steps[1]) == (weights + 2 * filters, multiply_adds)

  def test_2_third_module(self, way, steps):
    """3c with stride 1, and 4a with 256 more channels, those of 3c less those of 3b."""
    module = 320 * 128 + 9 * 128 * 160 + 320 * 64 + 9 * 64 * 96 + 9 * 96 * 96
    biases = 128 + 160 + 64 + 96 + 96
    wider = 256 * (224 + 64 + 96 + 128)
    assert growth(steps[2]) == (module + biases + wider, 28 * 28 * module + 14 * 14 * wider)
    strided = 9 * 128 * 160 + 9 * 96 * 96
    assert if_made_last(way, steps[2]) == (
      module + 2 * biases + wider,
      28 * 28 * (module - strided) + 14 * 14 * (strided + wider),
    )

  def test_3_average_or_max_pools(self, way, steps):
    assert growth(steps[3]) == if_made_last(way, steps[3]) == (0, 0)

  def test_4_strides_instead_of_pools(self, way, steps):
    """Three quarters of the last convolutions of 3c and 4e are saved."""
    saved_3c = (28**2 - 14**2) * 9 * (128 * 160 + 96 * 96)
    saved_4e = (14**2 - 7**2) * 9 * (128 * 192 + 256 * 256)
    assert growth(steps[4]) == (0, -saved_3c - saved_4e)
    assert if_made_last(way, steps[4]) == growth(steps[4])

  def test_5_separable_convolution(self, way, steps):
    """49·3·64 weights become 49·3·8 + 24·64; GoogLeNet has it already."""
    assert growth(steps[5]) == (0, 0)
    saved = 9_408 - 2_712
    assert if_made_last(way, steps[5]) == (-saved, -saved * 112**2)
    assert way.googlenet_with_dense_stem.parameters == 6_998_552
    assert way.bn_inception_with_dense_stem.parameters == 11_194_984
    assert round(way.googlenet_with_dense_stem.multiply_adds / 1e9, 2) == 1.58
    assert round(way.bn_inception_with_dense_stem.multiply_adds / 1e9, 3) == 2.019
    dense = way.bn_inception_with_dense_stem
    assert way.bn_inception.activations - dense.activations == 24 * 112**2

  def test_filters_have_no_other_place(self, steps):
    assert steps["filters of Figure 5"].without is None

  def test_batch_normalization(self, way, steps):
    """γ and β for each of the filters, in the place of a bias."""
    filters = 64 + 64 + 192
    for row in FIGURE_5:
      filters += row.conv_1x1 + row.conv_3x3_reduce + row.conv_3x3
      filters += row.double_3x3_reduce + 2 * row.double_3x3 + row.pool_proj
    assert growth(steps["batch normalization"]) == (filters, 0)
    assert if_made_last(way, steps["batch normalization"]) == (filters, 0)


class TestClaims:
  @pytest.fixture
  def claims(self, way):
    return {claim.quantity: claim for claim in changes.claims(way)}

  def test_compute_is_reproduced(self, claims):
    claim = claims["multiply_adds"]
    assert (claim.claimed, round(claim.together, 3)) == (0.30, 0.291)
    assert claim.verdict == "reproduced by all changes together"

  def test_parameters_are_not(self, claims):
    claim = claims["parameters"]
    assert (claim.claimed, round(claim.together, 3)) == (0.25, 0.600)
    assert claim.verdict == "not reproduced"

  def test_layers_are_by_change_1(self, claims):
    claim = claims["weight_layers"]
    assert (claim.claimed, claim.first, claim.together) == (9, 9, 12)
    assert claim.verdict == "reproduced by change 1"


@pytest.mark.parametrize(
  ("one", "other", "expected"),
  [
    (("bn_inception", None), ("googlenet", None), True),
    (("googlenet", None), ("bn_inception", "paper"), True),
    (("bn_inception", "slim"), ("googlenet", None), False),
    (("googlenet", None), ("googlenet", None), False),
  ],
)
def test_the_two_networks(one, other, expected):
  networks = (stages.describe(*each, image_size=32) for each in (one, other))
  assert changes.are_of(*networks) == expected
