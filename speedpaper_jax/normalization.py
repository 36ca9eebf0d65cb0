"""How pixel values become a network's input, as data: implementations of a network differ in it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from speedpaper_jax.errors import UserError, did_you_mean

CHANNELS = ("RGB", "BGR")


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
    if self.channels not in CHANNELS:
      hint = did_you_mean(str(self.channels), CHANNELS)
      raise UserError(f"'{self.channels}' is no order of channels.{hint}")
    for name, values in (("mean", self.mean), ("std", self.std)):
      if len(values) != 3 or not all(math.isfinite(value) for value in values):
        raise UserError(f"{name} is {values}; give three finite numbers.")
    if min(self.std) <= 0:
      raise UserError(f"std is {self.std}; give three numbers above 0.")

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
    try:
      mean, std = (tuple(float(value) for value in content[name]) for name in ("mean", "std"))
      return cls(content["channels"], mean, std)  # type: ignore[arg-type] # three: __post_init__
    except KeyError as error:
      raise UserError(f"There is no {error} of the channels.") from None
    except (TypeError, ValueError):
      raise UserError("mean and std must be three numbers each.") from None


# [-1, 1], the papers' authors' own.
DEFAULT = Normalization("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
