"""`python -m benchmarks.convolutions`: a network's convolutions, one by one."""

import math

import flax.traverse_util
import jax
import packages
import pytest

from benchmarks import convolutions
from benchmarks.convolutions import Convolution
from speedpaper_jax.models import create

SAME = ((1, 1), (1, 1))
END = ((0, 1), (0, 1))


@pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v2"])
def test_every_kernel_of_a_network_is_in_one_convolution(name):
  network = create(name, num_classes=5)
  shapes = jax.eval_shape(
    lambda: network.init(jax.random.key(0), jax.numpy.ones((1, 299, 299, 3)), train=False)
  )
  kernels = flax.traverse_util.flatten_dict(shapes["params"])
  weights = sum(math.prod(leaf.shape) for leaf in kernels.values() if len(leaf.shape) == 4)
  found = convolutions.convolutions_of(name, 8)
  assert sum(count * math.prod(each.kernel) for each, count in found.items()) == weights
  assert {each.x[0] for each in found} == {8}


@pytest.mark.parametrize(
  "convolution",
  [
    Convolution((2, 9, 8, 3), (3, 3, 3, 4), (1, 1), SAME),
    Convolution((2, 8, 8, 3), (3, 3, 3, 4), (2, 2), END),
    Convolution((2, 9, 9, 3), (3, 3, 3, 4), (2, 2), ((0, 0), (0, 0))),
    Convolution((2, 16, 16, 3), (7, 7, 3, 4), (2, 2), ((2, 3), (2, 3))),
    Convolution((2, 8, 8, 3), (1, 7, 3, 4), (1, 1), ((0, 0), (3, 3))),
  ],
  ids=str,
)
def test_both_sides_compute_maps_and_gradients_of_one_size(convolution):
  packages.require()
  (forward, both), (torch_forward, torch_both) = (
    convolutions.of_xla(convolution),
    convolutions.of_torch(convolution),
  )
  n, channels, height, width = torch_forward().shape
  assert forward().shape == (n, height, width, channels)
  d_x, d_kernel = both()
  torch_d_x, torch_d_kernel, _ = torch_both()
  assert d_x.size == torch_d_x.numel()
  assert d_kernel.size == torch_d_kernel.numel()


def test_the_table_has_the_longest_first_and_the_sums():
  short, long = (Convolution((8, size, size, 3), (3, 3, 3, 4), (1, 1), SAME) for size in (28, 56))
  rows = [(3, short, ((1.0, 2.0), (0.5, 1.5))), (1, long, ((10.0, 20.0), (5.0, 15.0)))]
  lines = convolutions.table("inception_v4", 8, rows).splitlines()
  assert lines[2] == "| 56×56×3 → 4, 3×3/1 | 1 | 10.0 | 5.0 | 20.0 | 15.0 |"
  assert lines[3].startswith("| 28×28×3 → 4, 3×3/1 | 3 |")
  assert lines[-1] == "| all, each as often as it is in it | 4 | 13 | 6 | 26 | 20 |"
