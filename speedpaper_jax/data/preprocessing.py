"""From an image file to a network's input, as a model directory records it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """What is done to an image in evaluation and prediction.

  Attributes:
    crop: encoded image → pixels, on the host.
    normalization: pixels → input, on the device.
  """

  crop: EvaluationCrop
  normalization: Normalization

  def to_json(self) -> dict[str, Any]:
    """The fields of both, side by side."""
    return {**dataclasses.asdict(self.crop), **self.normalization.to_json()}

  @classmethod
  def from_json(cls, content: Mapping[str, Any]) -> "Preprocessing":
    """Reads what `to_json` gives.

    Raises:
      UserError: a key is missing, or its value is not valid.
    """
    names = [field.name for field in dataclasses.fields(EvaluationCrop)]
    missing = [name for name in names if name not in content]
    if missing:
      raise UserError(f"There is no '{missing[0]}' of the crop.")
    crop = EvaluationCrop(**{name: content[name] for name in names})
    return cls(crop, Normalization.from_json(content))
