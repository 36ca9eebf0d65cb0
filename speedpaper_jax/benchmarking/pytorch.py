"""PyTorch's networks, set up as their users set them up for speed.

Channels last everywhere. On GPUs also `torch.compile`, TF32 for float32, and for bfloat16 autocast
in training and weights of bfloat16 in inference; eager PyTorch takes nearly twice as long there.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from speedpaper_jax.benchmarking.clock import Clock
from speedpaper_jax.benchmarking.work import (
  LEARNING_RATE,
  MOMENTUM,
  NUM_CLASSES,
  Facts,
  Side,
  Work,
  images_and_labels,
)
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.interop import references
from speedpaper_jax.interop.names import implementation


def build_side(work: Work, clock: Clock, source: str) -> Side:
  """Builds the network of a package; what is compiled is compiled in the first step."""
  torch = references.import_package("torch")
  on_gpu = work.device == "gpu"
  device = "cuda" if on_gpu else "cpu"
  dtype = getattr(torch, work.dtype)
  if on_gpu:  # a CPU's products stay whole float32, as ours do
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
  module: Any = references.build(
    work.model, implementation(work.model, source), NUM_CLASSES, with_aux=False
  )
  sizes = sorted(parameter.numel() for parameter in module.parameters())
  casts_weights = work.mode == "inference" and dtype != torch.float32
  module = module.to(device=device, memory_format=torch.channels_last)
  module = module.train() if work.mode == "training" else module.eval()
  images, labels = images_and_labels(work)
  inputs = torch.from_numpy(np.array(DEFAULT.apply(images))).permute(0, 3, 1, 2)
  inputs = inputs.to(device=device, memory_format=torch.channels_last)
  if casts_weights:
    module, inputs = module.to(dtype), inputs.to(dtype)
  optimizer = torch.optim.SGD(
    module.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=on_gpu or None
  )
  if on_gpu:
    module = torch.compile(module)
  clock.lap("network")

  def autocast() -> Any:
    if dtype == torch.float32 or casts_weights:
      return contextlib.nullcontext()
    return torch.autocast(device, dtype)

  targets = torch.from_numpy(labels.astype(np.int64)).to(device)

  def train() -> None:
    optimizer.zero_grad(set_to_none=True)
    with autocast():
      loss = torch.nn.functional.cross_entropy(module(inputs), targets)
    loss.backward()
    optimizer.step()

  def predict() -> None:
    with torch.inference_mode():
      torch.softmax(module(inputs).float(), -1)

  once: Callable[[], None] = train if work.mode == "training" else predict

  def take(count: int) -> None:
    for _ in range(count):
      once()
    if on_gpu:
      torch.cuda.synchronize()

  def peak_memory() -> float | None:
    return torch.cuda.max_memory_allocated() if on_gpu else None

  kind = torch.cuda.get_device_name() if on_gpu else "cpu"
  return Side(take, peak_memory, Facts(sizes, kind))
