"""Names of PyTorch's implementations agree with the networks that they name."""

import pytest
from networks import trace

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop.names import implementation, implementations, own_names
from speedpaper_jax.models import registry

PAIRS = [
  pytest.param(model, names, id=f"{model}-{names.source}")
  for model in registry.MODELS
  for names in implementations(model)
]


@pytest.mark.parametrize(("model", "names"), PAIRS)
def test_every_stage_is_one_of_the_network(model, names):
  """All but pools, which have no name everywhere."""
  features = trace(model, names.dialect, size=max(names.image_size, 224)).features
  assert set(features) - set(names.stages) <= {"pool_3a", "pool_5a"}
  assert set(names.stages) <= set(features)


@pytest.mark.parametrize(("model", "names"), PAIRS)
def test_the_dialect_is_one_of_the_network(model, names):
  assert names.dialect in registry.dialects(model)
  assert names in implementations(model, names.dialect)


def test_a_layer_by_the_path_of_ours():
  names = implementation("inception_v3", "timm")
  assert names.layer("mixed_5b/conv_5x5_2/conv") == "Mixed_5b.branch5x5_2.conv"
  assert names.layer("mixed_5b/conv_5x5_2/batch_norm") == "Mixed_5b.branch5x5_2.bn"
  assert names.layer("logits") == "fc"
  names = implementation("bn_inception", "pretrainedmodels")
  assert names.layer("inception_3a/conv_3x3/conv") == "inception_3a_3x3"
  assert names.layer("inception_3a/conv_3x3/batch_norm") == "inception_3a_3x3_bn"
  names = own_names("inception_v4", "paper")
  assert names.layer("mixed_4a/conv_3x3_1/batch_norm") == "mixed_4a.conv_3x3_1.batch_norm"


def test_unknown_names():
  with pytest.raises(UserError, match=r"no model 'inception_v5'\. Did you mean"):
    implementations("inception_v5")
  with pytest.raises(UserError, match=r"no dialect 'tim'\. Did you mean 'timm'"):
    implementations("inception_v4", "tim")
  with pytest.raises(UserError, match=r"no inception_v4 of 'torchvision'\."):
    implementation("inception_v4", "torchvision")
