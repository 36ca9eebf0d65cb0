"""How many crops of an image are averaged: 1, 10, 12 or 144."""

import dataclasses
from typing import Protocol

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.pipeline import Crop
from speedpaper_jax.data.square_crops import SquareCrops
from speedpaper_jax.data.ten_crops import TenCrops
from speedpaper_jax.data.windows import Windows

NUMBERS = (1, 10, 12, 144)


class Sheets(Crop, Protocol):
  """What makes of an image the sheets `[sheets, H, W, 3]` that several crops lie on."""

  windows: Windows


@dataclasses.dataclass(frozen=True)
class AveragedCrops:
  """Crops whose probabilities are averaged.

  Attributes:
    number: one of `NUMBERS`.
    scales: of 12 and 144 crops, one of `square_crops.SCALES`.
  """

  number: int = 1
  scales: str = "proportional"

  def of(self, crop: EvaluationCrop) -> EvaluationCrop | Sheets:
    """What is done to an image where the central crop alone is `crop`.

    Raises:
      UserError: ten crops are all the same.
    """
    if self.number == 1:
      return crop
    return TenCrops(crop) if self.number == 10 else SquareCrops(crop, self.number, self.scales)

  def in_words(self, image_size: int) -> str:
    """Such as `144 crops, scales 342, 384, 427, 470 (proportional)`."""
    if self.number == 1:
      return "one crop"
    if self.number == 10:
      return "10 crops"
    found = SquareCrops(EvaluationCrop(image_size), self.number, self.scales).sides
    listed = ", ".join(map(str, found))
    return f"{self.number} crops, scale{'s' * (len(found) > 1)} {listed} ({self.scales})"


ONE = AveragedCrops()
