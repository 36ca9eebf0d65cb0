"""How pixel values become a network's input, as data: implementations of a network differ in it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules

CHANNELS = ("RGB", "BGR")
_LARGEST = 1e6  # of mean and deviation, so that no pixel becomes infinite


@dataclasses.dataclass(frozen=True)
class Normalization:
  """(pixel - mean) / std, a value for each channel.

  Attributes:
    channels: their order in the network's input, one of `CHANNELS`.
    mean: in units of pixel values 0 … 255, in the order of `channels`.
    std: likewise.
  """

  channels: str
  mean: tuple[float, float, float]
  std: tuple[float, float, float]

  def __post_init__(self) -> None:
    rules.one_of(CHANNELS).check("channels", self.channels)
    rules.several(rules.between(-_LARGEST, _LARGEST), 3, 3).check("mean", self.mean)
    rules.several(rules.between(1 / _LARGEST, _LARGEST), 3, 3).check("std", self.std)

  def apply(self, images: jax.Array | np.ndarray, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Normalises images.

    Args:
      images: RGB, uint8 [N, H, W, 3].
      dtype: of the arithmetic and the result.

    Returns:
      [N, H, W, 3] in the order of `channels`.
    """
    if self.channels == "BGR":
      images = images[..., ::-1]
    mean, std = (np.asarray(values, dtype) for values in (self.mean, self.std))
    return (jnp.asarray(images, dtype) - mean) / std

  def to_json(self) -> dict[str, Any]:
    """`{"channels": …, "mean": […], "std": […]}`."""
    return {"channels": self.channels, "mean": list(self.mean), "std": list(self.std)}

  @classmethod
  def from_json(cls, content: Mapping[str, Any]) -> "Normalization":
    """Reads what `to_json` gives; other keys are left alone.

    Raises:
      UserError: a key is missing, or its value is not valid.
    """
    missing = [name for name in ("channels", "mean", "std") if name not in content]
    if missing:
      raise UserError(f"There is no '{missing[0]}' of the channels.")
    mean, std = (
      tuple(content[name]) if isinstance(content[name], list) else content[name]
      for name in ("mean", "std")
    )
    return cls(content["channels"], mean, std)


# [-1, 1], the papers' authors' own.
DEFAULT = Normalization("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
# The mean and deviation of ImageNet's training images, as torchvision and others have them.
IMAGENET = Normalization(
  "RGB",
  (0.485 * 255, 0.456 * 255, 0.406 * 255),
  (0.229 * 255, 0.224 * 255, 0.225 * 255),
)
