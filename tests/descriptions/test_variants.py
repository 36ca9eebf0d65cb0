"""The ends of the way from GoogLeNet to BN-Inception are the networks themselves."""

import dataclasses

import pytest

from speedpaper_jax.descriptions import stages
from speedpaper_jax.descriptions.variants import BN_INCEPTION, GOOGLENET, VariantNetwork


@pytest.mark.parametrize(
  ("variant", "name"), [(GOOGLENET, "googlenet"), (BN_INCEPTION, "bn_inception")]
)
@pytest.mark.parametrize(("image_size", "num_classes"), [(224, 1000), (33, 7)])
def test_stage_by_stage(variant, name, image_size, num_classes):
  network = stages.describe(name, image_size=image_size, num_classes=num_classes)
  assert stages.stages_of(VariantNetwork(variant, num_classes), image_size) == network.stages


def test_dense_stem():
  dense = dataclasses.replace(GOOGLENET, stem_depth_multiplier=None)
  stem = stages.stages_of(VariantNetwork(dense, 10), 32)[0]
  assert (stem.kernels, stem.parameters) == (("7×7/2",), 7 * 7 * 3 * 64 + 64)


def test_weight_layers():
  """GoogLeNet has 22, as its paper says."""
  assert GOOGLENET.weight_layers == 22
  assert BN_INCEPTION.weight_layers == 22 + 9 + 3
