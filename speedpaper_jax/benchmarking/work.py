"""What is measured: one network, training or in inference, on batches of one size."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, NamedTuple

MODES = ("training", "inference")
NUM_CLASSES = 1000
LEARNING_RATE = 1e-4  # of random images: small, so that nothing overflows
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Work:
  """The same for all who do it.

  Attributes:
    model: our name of the network.
    dialect: of ours that all of them are.
    mode: one of `MODES`: the forward pass, the gradient and a step of SGD with momentum, or
      probabilities in inference.
    image_size: pixels, height and width.
    batch_size: images at a time, which stay in memory.
    dtype: of activations; parameters are float32.
    device: "cpu", "gpu" or "tpu".
  """

  model: str
  dialect: str
  mode: str
  image_size: int
  batch_size: int
  dtype: str
  device: str

  def to_json(self) -> str:
    """For the process that does it."""
    return json.dumps(dataclasses.asdict(self))

  @classmethod
  def from_json(cls, text: str) -> "Work":
    """Reads what `to_json` gives."""
    return cls(**json.loads(text))


class Facts(NamedTuple):
  """What a side knows of its own program.

  Attributes:
    parameter_sizes: number of values of each array that is trained, ascending.
    device_kind: as its library calls the device.
    flops: floating-point operations of the compiled step; None where nobody counts them.
    bytes_accessed: that the compiled step reads and writes; None where nobody counts them.
  """

  parameter_sizes: list[int]
  device_kind: str
  flops: float | None = None
  bytes_accessed: float | None = None


class Side(NamedTuple):
  """An implementation, ready to work.

  Attributes:
    take: does the work so many times, and returns when it is done.
    peak_memory: bytes of the device's own memory that were in use at most; None where it has none.
    facts: of the program.
  """

  take: Callable[[int], None]
  peak_memory: Callable[[], float | None]
  facts: Facts


def images_and_labels(work: Work) -> tuple[Any, Any]:
  """uint8 [N, H, W, 3] and int32 [N], drawn at random, the same for all."""
  import numpy as np

  generator = np.random.default_rng(0)
  rows, size = work.batch_size, work.image_size
  images = generator.integers(0, 256, (rows, size, size, 3), np.uint8)
  return images, generator.integers(0, NUM_CLASSES, rows, np.int32)
