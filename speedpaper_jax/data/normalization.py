"""How pixel values become a network's input, as data: implementations of a network differ in it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules

if TYPE_CHECKING:
  import jax

CHANNELS = ("RGB", "BGR")
_LARGEST = 1e6  # of mean and deviation, so that no pixel becomes infinite


@dataclasses.dataclass(frozen=True)
class Normalization:
  """(pixel - mean) / std, a value for each channel; then, where it is asked for, image by image.

  Attributes:
    channels: their order in the network's input, one of `CHANNELS`.
    mean: in units of pixel values 0 … 255, in the order of `channels`.
    std: likewise.
    per_image_whitening: whether of each image its own mean is then subtracted, over all pixels and
      channels, and the rest divided by its own deviation: TensorFlow's `per_image_standardization`,
      with which an image of one colour does not become infinite.
  """

  channels: str
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  per_image_whitening: bool = False

  def __post_init__(self) -> None:
    rules.one_of(CHANNELS).check("channels", self.channels)
    rules.several(rules.between(-_LARGEST, _LARGEST), 3, 3).check("mean", self.mean)
    rules.several(rules.between(1 / _LARGEST, _LARGEST), 3, 3).check("std", self.std)
    rules.SWITCH.check("per_image_whitening", self.per_image_whitening)

  def apply(
    self, images: "jax.Array | np.ndarray", dtype: "jax.typing.DTypeLike" = np.float32
  ) -> "jax.Array":
    """Normalises images.

    Args:
      images: RGB, uint8 [..., H, W, 3].
      dtype: of the arithmetic and the result.

    Returns:
      [..., H, W, 3] in the order of `channels`.
    """
    import jax.numpy as jnp  # not by those who only ask what weights expect

    if self.channels == "BGR":
      images = images[..., ::-1]
    mean, std = (np.asarray(values, dtype) for values in (self.mean, self.std))
    normalised = (jnp.asarray(images, dtype) - mean) / std
    return _whiten(normalised) if self.per_image_whitening else normalised

  def to_json(self) -> dict[str, Any]:
    """`{"channels": …, "mean": […], "std": […]}`, and `per_image_whitening` where it is true."""
    content = {"channels": self.channels, "mean": list(self.mean), "std": list(self.std)}
    return content | ({"per_image_whitening": True} if self.per_image_whitening else {})

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
    return cls(content["channels"], mean, std, content.get("per_image_whitening", False))


def _whiten(images: "jax.Array") -> "jax.Array":
  """Each image [..., H, W, C] less its mean, by its deviation, or 1/√(H·W·C) if that is larger."""
  import jax.numpy as jnp

  of_an_image = (-3, -2, -1)
  centred = images - jnp.mean(images, of_an_image, keepdims=True)
  centred -= jnp.mean(centred, of_an_image, keepdims=True)  # what the sum of large numbers rounded
  deviation = jnp.sqrt(jnp.mean(jnp.square(centred), of_an_image, keepdims=True))
  return centred / jnp.maximum(deviation, 1 / math.sqrt(math.prod(images.shape[-3:])))


# [-1, 1], the papers' authors' own.
DEFAULT = Normalization("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
# The mean and deviation of ImageNet's training images, as torchvision and others have them.
IMAGENET = Normalization(
  "RGB",
  (0.485 * 255, 0.456 * 255, 0.406 * 255),
  (0.229 * 255, 0.224 * 255, 0.225 * 255),
)
# Of pixel values as they are, as Zhang et al. have it (arXiv 1611.03530, appendix A).
PER_IMAGE = Normalization("RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), per_image_whitening=True)
