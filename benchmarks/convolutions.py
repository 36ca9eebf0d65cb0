"""A network's convolutions alone, beside PyTorch's: `python -m benchmarks.convolutions [NAME…]`.

What part of a step on a CPU is the back end's: every convolution of a network, of its own size, is
timed by itself, by turns in one process, as XLA compiles it here and as PyTorch does with channels
last; the forward pass, and the two gradients. `speedpaper_jax.benchmark` has the whole step.
"""

import argparse
import collections
import dataclasses
import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import chosen_networks
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.papers.networks import NETWORKS

_CLASSES = 1000
# Of the slowest, so many are printed.
_LONGEST = 8


@dataclasses.dataclass(frozen=True)
class Convolution:
  """One of a network, by its sizes.

  Attributes:
    x: [N, H, W, C].
    kernel: [height, width, C, out].
    strides: along rows and columns.
    padding: pixels before and after, of rows and of columns.
  """

  x: tuple[int, ...]
  kernel: tuple[int, ...]
  strides: tuple[int, int]
  padding: tuple[tuple[int, int], tuple[int, int]]

  def __str__(self) -> str:
    """As in "56×56×64 → 192, 3×3/1"."""
    height, width, inputs, outputs = self.kernel
    _, rows, columns, _ = self.x
    return f"{rows}×{columns}×{inputs} → {outputs}, {height}×{width}/{self.strides[0]}"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  description = "Times a network's convolutions one by one, beside PyTorch's."
  return chosen_networks.parser("convolutions", description, turns=5).parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints a table for each network."""
  import jax

  jax.config.update("jax_platforms", "cpu")  # where PyTorch's side computes, too
  for name in chosen_networks.check(options.names):
    counts = convolutions_of(name, options.batch_size)
    rows = []
    for done, convolution in enumerate(counts, 1):
      print(f"\r{name}: {done} of {len(counts)}", end="", file=sys.stderr, flush=True)
      rows.append((counts[convolution], convolution, timed(convolution, options.turns)))
    print("\r", end="", file=sys.stderr, flush=True)
    print(f"{table(name, options.batch_size, rows)}\n", flush=True)


def convolutions_of(name: str, rows: int) -> dict[Convolution, int]:
  """Those of a network for images of its paper's size, and how often each is in it."""
  import jax
  import jax.numpy as jnp
  from jax import lax

  from speedpaper_jax.models import ops, registry
  from speedpaper_jax.models.layers import LayerSettings

  found: collections.Counter[Convolution] = collections.Counter()

  def conv(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **named: Any) -> jax.Array:
    if isinstance(padding, str):
      padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    of_rows, of_columns = ((int(before), int(after)) for before, after in padding)
    found[Convolution(x.shape, kernel.shape, tuple(strides), (of_rows, of_columns))] += 1
    return lax.conv_general_dilated(x, kernel, strides, padding, **named)

  separable_conv = functools.partial(ops.separable_conv_as_dense, conv=conv)
  operations = ops.CPU._replace(conv=conv, separable_conv=separable_conv)
  batch_norm = registry.find_dialect(name).batch_norm
  settings = LayerSettings(batch_norm, operations=operations)
  network = registry.create(name, num_classes=_CLASSES, settings=settings)
  size = NETWORKS[name].image_size
  images = jax.ShapeDtypeStruct((rows, size, size, 3), jnp.float32)
  variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), images)
  found.clear()  # initialisation has none of them joined
  jax.eval_shape(lambda variables, x: network.apply(variables, x, train=False), variables, images)
  return dict(found)


def timed(convolution: Convolution, turns: int) -> tuple[tuple[float, float], tuple[float, float]]:
  """Milliseconds of the forward pass and of both gradients, ours and PyTorch's."""
  ours, theirs = of_xla(convolution), of_torch(convolution)
  seconds: dict[Callable[[], Any], list[float]] = {each: [] for each in (*ours, *theirs)}
  for turn in range(1 + turns):  # the first compiles
    for call, measured in seconds.items():
      began = time.perf_counter()
      call()
      if turn:
        measured.append(time.perf_counter() - began)
  median = {call: 1000 * statistics.median(each) for call, each in seconds.items()}
  (forward, both), (torch_forward, torch_both) = ours, theirs
  return (median[forward], median[both]), (median[torch_forward], median[torch_both])


def of_xla(convolution: Convolution) -> tuple[Callable[[], Any], Callable[[], Any]]:
  """The forward pass, and both gradients, in the form that is taken on CPUs."""
  import jax
  import jax.numpy as jnp

  from speedpaper_jax.models import ops

  def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return ops.CPU.conv(
      x,
      kernel,
      convolution.strides,
      convolution.padding,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  x, kernel = jnp.ones(convolution.x), jnp.ones(convolution.kernel)
  forward = jax.jit(conv)
  d_y = jnp.ones_like(forward(x, kernel))
  gradients = jax.jit(lambda x, kernel, d_y: jax.vjp(conv, x, kernel)[1](d_y))
  return (
    lambda: jax.block_until_ready(forward(x, kernel)),
    lambda: jax.block_until_ready(gradients(x, kernel, d_y)),
  )


def of_torch(convolution: Convolution) -> tuple[Callable[[], Any], Callable[[], Any]]:
  """The same of PyTorch, whose padding is the same on both sides; the outputs have one size."""
  from speedpaper_jax.interop import references

  torch = references.import_package("torch")
  n, height, width, channels = convolution.x
  rows, columns, inputs, outputs = convolution.kernel
  channels_last = {"memory_format": torch.channels_last}
  x = torch.ones(n, channels, height, width).to(**channels_last)
  kernel = torch.ones(outputs, inputs, rows, columns).to(**channels_last)
  padding = [-(-sum(pads) // 2) for pads in convolution.padding]
  strides = list(convolution.strides)

  def forward() -> Any:
    with torch.inference_mode():
      return torch.nn.functional.conv2d(x, kernel, None, strides, padding)

  d_y = torch.ones(forward().shape).to(**channels_last)

  def both() -> Any:
    return torch.ops.aten.convolution_backward(
      d_y, x, kernel, None, strides, padding, [1, 1], False, [0, 0], 1, [True, True, False]
    )

  return forward, both


def table(name: str, batch_size: int, rows: Sequence[tuple[int, Convolution, Any]]) -> str:
  """The longest, and the sums of all, as often as they are in the network."""
  lines = [
    f"| {name}, batches of {batch_size} | times | ms forward | PyTorch's | ms gradients "
    "| PyTorch's |",
    "|---|---|---|---|---|---|",
  ]
  longest = sorted(rows, key=lambda row: -row[0] * sum(row[2][0]))
  for count, convolution, ((forward, both), (torch_forward, torch_both)) in longest[:_LONGEST]:
    lines.append(
      f"| {convolution} | {count} | {forward:.1f} | {torch_forward:.1f} | {both:.1f} | "
      f"{torch_both:.1f} |"
    )
  sums = [
    sum(count * times[side][part] for count, _, times in rows) for part in (0, 1) for side in (0, 1)
  ]
  cells = " | ".join(f"{each:,.0f}" for each in sums)
  lines.append(f"| all, each as often as it is in it | {sum(row[0] for row in rows)} | {cells} |")
  return "\n".join(lines)


if __name__ == "__main__":
  entry_point.run(main, parse)
