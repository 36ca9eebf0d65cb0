"""The comparison finds networks equal that are, and tells every setting that is wrong."""

import dataclasses

import jax
import numpy as np
import pytest
from packages import require

from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.interop import comparison, images, references
from speedpaper_jax.interop.names import implementation
from speedpaper_jax.interop.pair import make_pair
from speedpaper_jax.interop.torch_reference import TorchReference
from speedpaper_jax.models.blocks import AVG_POOL

pytestmark = pytest.mark.slow
CLASSES, BATCH = 10, 8


def calibrated(model, source, image_size):
  """A pair on real images, or a skip where its package is not installed."""
  pictures = images.of_photograph(BATCH, image_size)
  require(source)
  pair = make_pair(model, implementation(model, source), CLASSES, image_size)
  pair.reference.calibrate(pictures)
  return pair, pictures


def first_step(pair, pictures):
  """What the comparison of one training step finds."""
  labels = np.arange(BATCH) % CLASSES
  return comparison.TrainingComparison(pair, pictures[None], labels[None]).step()


def exceeded(rows):
  """What the limits of the rows find wrong, without the numbers in parentheses."""
  return {row.quantity.partition(" (")[0] for row in rows if not row.passed}


def with_dialect(pair, **changes):
  dialect = dataclasses.replace(pair.network.dialect, **changes)
  return dataclasses.replace(pair, network=pair.network.clone(dialect=dialect))


class TestBNInception:
  @pytest.fixture(scope="class")
  @classmethod
  def pair_and_images(cls):
    return calibrated("bn_inception", "pretrainedmodels", 64)

  def wrong(self, pair, pictures):
    """What the comparison of a pair with a wrong setting finds."""
    found = exceeded(comparison.compare_evaluation(pair, pictures))
    assert "spread of logits" not in found
    return found

  def test_equal(self, pair_and_images):
    assert self.wrong(*pair_and_images) == set()

  def test_epsilon(self, pair_and_images):
    pair, pictures = pair_and_images
    settings = pair.network.settings
    batch_norm = settings.batch_norm.copy(epsilon=1e-3)
    settings = dataclasses.replace(settings, batch_norm=batch_norm)
    pair = dataclasses.replace(pair, network=pair.network.clone(settings=settings))
    assert self.wrong(pair, pictures) >= {"logits", "stages"}

  @pytest.mark.parametrize(
    "change",
    [
      {"stem_padding": "SAME"},
      {"stride_padding": "SAME"},
      {"count_padding": False},
    ],
    ids=str,
  )
  def test_padding_and_pooling_count(self, change, pair_and_images):
    pair, pictures = pair_and_images
    assert self.wrong(with_dialect(pair, **change), pictures) >= {"logits", "stages"}

  @pytest.mark.parametrize(
    "normalization",
    [
      Normalization("RGB", (104.0, 117.0, 128.0), (1.0, 1.0, 1.0)),
      Normalization("BGR", (104.0, 117.0, 128.0), (255.0, 255.0, 255.0)),
      Normalization("BGR", (128.0, 117.0, 104.0), (1.0, 1.0, 1.0)),
    ],
    ids=["channel order", "input scale", "mean"],
  )
  def test_input(self, normalization, pair_and_images):
    pair, pictures = pair_and_images
    pair = dataclasses.replace(pair, normalization=normalization)
    assert self.wrong(pair, pictures) >= {"logits", "stages"}

  def test_a_wrong_tensor(self, pair_and_images):
    pair, pictures = pair_and_images
    variables = pair.variables()
    params = variables["params"]["inception_4c"]["pool_proj"]["conv"]
    params["kernel"] = params["kernel"][:, :, ::-1]

    class WrongPair(type(pair)):
      def variables(self):
        return variables

    fields = {field.name: getattr(pair, field.name) for field in dataclasses.fields(pair)}
    rows = comparison.compare_evaluation(WrongPair(**fields), pictures)
    (stages,) = (row for row in rows if row.quantity.startswith("stages"))
    assert not stages.passed
    assert stages.where.removeprefix("inception_") >= "4c"

  def test_random_running_statistics_do_not_count(self, pair_and_images):
    """With those all images give the same logits, and equality would mean nothing."""
    pair, pictures = pair_and_images
    module = references.build("bn_inception", pair.names, CLASSES, with_aux=False)
    reference = TorchReference("bn_inception", pair.names, module)
    pair = dataclasses.replace(pair, reference=reference)
    assert "spread of logits" in exceeded(comparison.compare_evaluation(pair, pictures))


@pytest.mark.parametrize(
  ("model", "source"), [("inception_resnet_v1", "facenet"), ("inception_resnet_v2", "timm")]
)
def test_the_last_residual_block_has_a_bias_without_gradient(model, source):
  """It adds a number to each channel, which batch normalization of their sums takes away."""
  pair, pictures = calibrated(model, source, 75)
  rows = first_step(pair, pictures)
  assert exceeded(rows) == set()
  (zero,) = (row for row in rows if row.quantity.startswith("gradients that are zero"))
  assert (zero.quantity, zero.where) == ("gradients that are zero (1)", "block8.conv2d.bias")


@pytest.mark.parametrize(
  ("model", "source", "image_size"),
  [
    ("bn_inception", "pytorchcv", 64),
    ("inception_v3", "pytorch-fid", 75),
    ("inception_v3", "keras", 75),
  ],
)
def test_one_step_of_training(model, source, image_size):
  """Of the packages that no other test here compares with."""
  pair, pictures = calibrated(model, source, image_size)
  assert exceeded(comparison.compare_evaluation(pair, pictures)) == set()
  assert exceeded(first_step(pair, pictures)) == set()


def test_the_pool_of_the_last_block_counts():
  pair, pictures = calibrated("inception_v3", "pytorch-fid", 107)  # its last maps are 2×2
  wrong = with_dialect(pair, last_pool=AVG_POOL)
  (stages,) = (
    row
    for row in comparison.compare_evaluation(wrong, pictures)
    if row.quantity.startswith("stages")
  )
  assert not stages.passed
  assert stages.where == "mixed_7c"


def test_residual_scale():
  pair, pictures = calibrated("inception_resnet_v1", "facenet", 75)
  assert exceeded(comparison.compare_evaluation(pair, pictures)) == set()
  network = pair.network.clone(residual_scales=(0.17, 0.10, 0.10))
  wrong = dataclasses.replace(pair, network=network)
  rows = comparison.compare_evaluation(wrong, pictures)
  assert exceeded(rows) >= {"logits", "stages"}
  (stages,) = (row for row in rows if row.quantity.startswith("stages"))
  assert stages.where.startswith("block_c_")


def test_order_of_auxiliary_heads():
  pair, pictures = calibrated("googlenet", "torchvision", 64)
  assert exceeded(first_step(pair, pictures)) == set()
  names = dataclasses.replace(pair.names, aux=dict(reversed(pair.names.aux.items())))
  reference = TorchReference("googlenet", names, pair.reference.module)
  swapped = dataclasses.replace(pair, names=names, reference=reference)
  found = exceeded(first_step(swapped, pictures))
  # Both weigh the same in the loss, which therefore cannot tell.
  assert found == {"aux1 in training", "aux2 in training"}


def test_timms_inception_v3_in_training():
  pair, pictures = calibrated("inception_v3", "timm", 75)
  assert exceeded(comparison.compare_evaluation(pair, pictures)) == set()
  rows = first_step(pair, pictures)
  assert exceeded(rows) == set()
  (gradients,) = (row for row in rows if row.quantity.startswith("gradients"))
  assert gradients.quantity == "gradients (284)"


@pytest.mark.parametrize(
  ("model", "source", "height", "width"),
  [("bn_inception", "pretrainedmodels", 64, 96), ("inception_v3", "torchvision", 80, 139)],
)
def test_images_that_are_not_square(model, source, height, width):
  pictures = images.of_photograph(4, width)[:, :height]
  require(source)
  pair = make_pair(model, implementation(model, source), CLASSES, height)
  pair.reference.calibrate(pictures)
  assert exceeded(comparison.compare_evaluation(pair, pictures)) == set()


def test_a_nan_exceeds_every_limit():
  assert not comparison.Row("logits", float("nan"), 1e-8).passed
  assert not comparison.Row("cosine", float("nan"), 1.0, at_least=True).passed
  assert comparison.Row("logits", float("nan")).passed


def test_nothing_changes_the_precision_outside():
  assert not jax.config.jax_enable_x64
