"""Distortions of colours, and the mirror image: drawn on the host, done there or on the devices.

A. Howard, "Some improvements on deep convolutional neural network based image classification",
section 2: brightness, contrast and saturation in random order, each by a factor in [0.5, 1.5], then
lighting noise. What is drawn are whole numbers, and so is all arithmetic: `on_host`, with Pillow,
and `on_device`, compiled, give the same pixels to the bit.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  import jax
  from PIL import Image

# Of an image: three distortions in their order, their factors, what is then added to red, green and
# blue, and whether it is mirrored left to right.
NUMBERS = 10
MIRRORED = 9
_KINDS, _FACTORS, _LIGHTING = slice(0, 3), slice(3, 6), slice(6, 9)

_BRIGHTNESS, _CONTRAST, _SATURATION = range(3)
# Factors are whole multiples of 1/2¹⁵. Then the largest number in `_blended`, 1.5 · 255 · 2¹⁵, fits
# an integer of 32 bits, and Pillow's float32 is exact, too.
_UNIT_BITS = 15
_UNIT = 1 << _UNIT_BITS

# Krizhevsky et al. 2012, section 4.1: principal components of ImageNet's RGB values, one a column,
# each added to the whole image times its eigenvalue times a normal draw of this deviation.
_LIGHTING_DEVIATION = 0.1
_EIGENVALUES = 255 * np.array([0.2175, 0.0188, 0.0045])
_PRINCIPAL_COMPONENTS = np.array(
  [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
# Pillow's of grey, of ITU-R 601-2, in 1/2¹⁶.
_GREY_BITS = 16
_GREY_WEIGHTS = (19595, 38470, 7471)
# Of red, green and blue.
_LEVELS = np.tile(np.arange(256), (3, 1))


def none() -> np.ndarray:
  """The numbers that leave an image as it is, int32 [NUMBERS]."""
  numbers = np.zeros(NUMBERS, np.int32)
  numbers[_FACTORS] = _UNIT
  return numbers


def draw(strength: float, rng: np.random.Generator) -> np.ndarray:
  """Draws the distortions of one image's colours.

  Args:
    strength: from 0 to 1, the original's: factors lie in [1 − strength / 2, 1 + strength / 2], and
      the noise is so many times as large.
    rng: the only source of randomness.

  Returns:
    int32 [NUMBERS]; the image is not mirrored.
  """
  numbers = none()
  numbers[_KINDS] = rng.permutation(3)
  numbers[_FACTORS] = np.rint(_UNIT * rng.uniform(1 - strength / 2, 1 + strength / 2, 3))
  draws = rng.normal(0, strength * _LIGHTING_DEVIATION, 3)
  numbers[_LIGHTING] = np.rint(_PRINCIPAL_COMPONENTS @ (draws * _EIGENVALUES))
  return numbers


def on_host(rgb: "Image.Image", numbers: np.ndarray) -> "Image.Image":
  """Distorts one image.

  Args:
    rgb: of any size, which the result has too.
    numbers: int32 [NUMBERS], from `draw` or `none`.
  """
  from PIL import Image  # not for a step on a device, which needs no images of Pillow's

  if (numbers[:MIRRORED] != none()[:MIRRORED]).any():
    rgb = _recoloured(rgb, numbers)
  return rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if numbers[MIRRORED] else rgb


def _recoloured(rgb: "Image.Image", numbers: np.ndarray) -> "Image.Image":
  """What depends on a level alone is looked up, together with what comes next where that does."""
  from PIL import Image

  table = _LEVELS
  for kind, factor in zip(numbers[_KINDS], numbers[_FACTORS], strict=True):
    if kind == _BRIGHTNESS:
      table = _blended(0, table, factor)
      continue
    rgb, table = rgb.point(table.ravel().tolist()), _LEVELS
    grey = rgb.convert("L")
    if kind == _CONTRAST:
      mean = _mean(np.array(grey.histogram()) @ _LEVELS[0], grey.width * grey.height)
      table = _blended(mean, table, factor)
    else:
      rgb = Image.blend(grey.convert("RGB"), rgb, factor / _UNIT)
  table = (table + numbers[_LIGHTING][:, np.newaxis]).clip(0, 255)
  return rgb.point(table.ravel().tolist())


def on_device(images: "jax.Array", numbers: "jax.Array") -> "jax.Array":
  """Distorts images, as a part of a compiled program.

  Args:
    images: RGB, uint8 [N, H, W, 3].
    numbers: int32 [N, NUMBERS], of each image from `draw` or `none`.

  Returns:
    uint8 [N, H, W, 3].
  """
  import jax.numpy as jnp  # not for those who ask no more than what a config may hold

  pixels = images.astype(jnp.int32)
  of_image = numbers[:, :, jnp.newaxis, jnp.newaxis, jnp.newaxis]
  for step in range(3):
    kind, factor = of_image[:, _KINDS][:, step], of_image[:, _FACTORS][:, step]
    red, green, blue = (weight * pixels[..., index] for index, weight in enumerate(_GREY_WEIGHTS))
    grey = ((red + green + blue + (1 << _GREY_BITS - 1)) >> _GREY_BITS)[..., jnp.newaxis]
    total = jnp.sum(grey.astype(jnp.uint32), (1, 2, 3), keepdims=True)
    mean = _mean(total, grey.shape[1] * grey.shape[2]).astype(jnp.int32)
    start = jnp.where(kind == _SATURATION, grey, jnp.where(kind == _CONTRAST, mean, 0))
    pixels = _blended(start, pixels, factor)
  lighting = numbers[:, jnp.newaxis, jnp.newaxis, _LIGHTING]
  lit = jnp.clip(pixels + lighting, 0, 255).astype(jnp.uint8)
  return jnp.where(of_image[:, MIRRORED] > 0, lit[:, :, ::-1], lit)


# Of NumPy's arrays or JAX's.
def _blended(start: Any, end: Any, factor: Any) -> Any:
  """As Pillow's `blend`: what lies `factor` of the way from `start` to `end`, cut to 0 … 255."""
  return ((start << _UNIT_BITS) + factor * (end - start)).clip(0, 255 << _UNIT_BITS) >> _UNIT_BITS


def _mean(total: Any, count: int) -> Any:
  """Rounded, a half up."""
  return (total + count // 2) // count
