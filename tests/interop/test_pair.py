"""A network and another package's take the same file of weights."""

import numpy as np
import pytest
from packages import require

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import references
from speedpaper_jax.interop.names import implementation
from speedpaper_jax.interop.pair import make_pair


@pytest.fixture(scope="module")
def names():
  require("torchvision")
  return implementation("inception_v3", "torchvision")


@pytest.fixture(scope="module")
def state_dict(names):
  """With an auxiliary head, after different numbers of steps, as of partly frozen training."""
  module = references.build("inception_v3", names, 10, with_aux=True)
  tensors = {name: values.detach().numpy() for name, values in module.state_dict().items()}
  return tensors | {"Conv2d_1a_3x3.bn.num_batches_tracked": np.asarray([7])}


def test_auxiliary_heads_of_another_image_size_are_left_out(names, state_dict):
  pair = make_pair("inception_v3", names, 10, 75, state_dict)
  assert not pair.network.use_aux_heads
  theirs = pair.reference.tensors()["fc.bias"]
  np.testing.assert_array_equal(theirs, state_dict["fc.bias"])


def test_weights_that_are_damaged_are_named(names, state_dict):
  damaged = {**state_dict, "fc.bias": np.full(10, np.nan, "float32")}
  with pytest.raises(UserError, match=r"'fc.bias' of the file of weights, 10 are not finite"):
    make_pair("inception_v3", names, 10, 75, damaged)
