"""Several crops of an image as windows of larger pictures, which are cut on the devices."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
  """Where the crops of an image lie in its sheets, which are pictures of one size.

  Each window is a crop, and so is its mirror image.

  Attributes:
    side: of the square windows, in pixels.
    corners: top and left of each window, int32 `[sheets, windows, 2]`.
  """

  side: int
  corners: np.ndarray

  @property
  def crops(self) -> int:
    """Of an image."""
    return self.corners.shape[0] * self.crops_of_a_sheet

  @property
  def crops_of_a_sheet(self) -> int:
    """Its windows and their mirror images."""
    return 2 * self.corners.shape[1]

  def cut(self, sheets: np.ndarray) -> np.ndarray:
    """Cuts the crops of one image out, as the devices do.

    Args:
      sheets: `[sheets, H, W, 3]`.

    Returns:
      `[crops, side, side, 3]`: of each sheet the windows, then their mirror images.
    """
    crops = []
    for sheet, corners in zip(sheets, self.corners.tolist(), strict=True):
      of_sheet = [sheet[top : top + self.side, left : left + self.side] for top, left in corners]
      crops += [*of_sheet, *(each[:, ::-1] for each in of_sheet)]
    return np.stack(crops)
