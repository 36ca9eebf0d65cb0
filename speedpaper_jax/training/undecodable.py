"""Training images that cannot be decoded: which they are, how many, and whether they are too many.

A row whose image cannot be decoded has no weight in its step. How many such rows a step had follows
from its metrics, which are the same in all processes: all of them stop after the same step. Which
images they are only the process knows that has read them; where there were some, all processes meet
at the next line of metrics or checkpoint, and the main one writes them down.
"""

import collections
import json

import jax
import ml_collections
import numpy as np

from speedpaper_jax.config.durations import Durations
from speedpaper_jax.data.pipeline import global_row, order
from speedpaper_jax.data.sources import Split
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import printable
from speedpaper_jax.storage import undecodable
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.undecodable import UndecodableImage

# The share is one of the newest rows, so many, and those that are missing at the start count as
# good: a few bad images there stop nothing, and a disk that fails ends a run after a tenth of them,
# however long the run was good. Among 5,000 rows of data with 8 % of bad ones there are more than
# 10 % once in five million times.
_ROWS = 5_000


class UndecodableImages:
  """Those of one session of a run, in each of its processes.

  Each session has a share of its own, since what was broken may have been mended between them; the
  images that are known stay known.
  """

  def __init__(
    self,
    split: Split,
    config: ml_collections.ConfigDict,
    durations: Durations,
    total_steps: int,
    directory: RunDirectory | None,
  ) -> None:
    """Begins with what earlier sessions of the run have written down.

    Args:
      split: that is trained on.
      config: of the run.
      durations: with what was trained before.
      total_steps: of the whole run.
      directory: of the run; None where another process of the run records.

    Raises:
      UserError: the directory cannot be read.
    """
    self._split = split
    self._order = order(split, config.seed)
    self._batch_size = config.batch_size
    self._largest_share = config.data.largest_undecodable_share
    self._durations = durations
    self._directory = directory
    # In whole epochs each image comes equally often, so that their share is that of the images.
    epochs = -(-self._seen_before(total_steps + 1) // durations.epoch_size)
    self._rows = max(min(_ROWS, epochs * durations.epoch_size), self._batch_size)
    self._recent: collections.deque[tuple[int, int]] = collections.deque()  # steps, bad rows
    self._unrecorded: dict[str, UndecodableImage] = {}
    self._is_recorded = True
    known = undecodable.read(directory) if directory is not None else []
    self._known = {image.name: image for image in known}

  @property
  def number(self) -> int:
    """How many different images are known; in the main process, those of earlier sessions, too."""
    return len(self._known)

  def note(self, step: int, mask: np.ndarray) -> None:
    """Notes the images that this process could not decode.

    Args:
      step: that has the rows.
      mask: [n], of this process's rows; 0 for those without an image.
    """
    first = self._seen_before(step)
    for row in np.flatnonzero(mask == 0):
      place = global_row(int(row), len(mask), jax.process_index(), jax.process_count())
      number = int(self._order[first + place])
      name = self._split.records.short_name(number)
      if name not in self._known:
        reason = printable(self._split.undecodable[number])
        self._unrecorded.setdefault(name, UndecodableImage(name, reason, step))

  def too_many(self, step: int, bad_rows: int) -> str | None:
    """Counts the rows of a step that have no image; all processes come here.

    Args:
      step: whose metrics are known, each step once.
      bad_rows: of all processes.

    Returns:
      In a sentence without its end, the same in all processes, that there are more than the config
      allows; None if there are not.

    Raises:
      UserError: the directory cannot be written.
    """
    if not bad_rows:
      return None
    self._is_recorded = False
    self._recent.append((step, bad_rows))
    while (step - self._recent[0][0]) * self._batch_size >= self._rows:
      self._recent.popleft()
    bad = sum(count for _, count in self._recent)
    if bad <= self._largest_share * self._rows:
      return None
    self.record(step)
    rows = min(self._rows, self._batch_size * (step - self._durations.first_step))
    return str(hosts.from_main(lambda: self._told(step, bad, rows)))

  def record(self, step: int) -> None:
    """Writes down which images are bad; all processes come here after the same steps.

    Args:
      step: whose bad rows, and those of the steps before, are counted.

    Raises:
      UserError: the directory cannot be written.
    """
    if self._is_recorded:
      return
    self._is_recorded = True
    due = [image for image in self._unrecorded.values() if image.step <= step]
    for image in due:
      del self._unrecorded[image.name]
    of_all = hosts.gather(json.dumps([(image.step, image.name, image.reason) for image in due]))
    new: dict[str, UndecodableImage] = {}
    for first_step, name, reason in sorted(image for one in of_all for image in json.loads(one)):
      if name not in self._known:
        new.setdefault(name, UndecodableImage(name, reason, first_step))
    self._known |= new

    def write() -> None:
      if self._directory is not None and new:
        undecodable.append(self._directory, new.values())

    hosts.from_main(write)

  def _seen_before(self, step: int) -> int:
    """Examples that the run has seen before a step of this session."""
    durations = self._durations
    return durations.first_examples + (step - 1 - durations.first_step) * self._batch_size

  def _told(self, step: int, bad: int, rows: int) -> str:
    first = next(iter(self._known.values()))
    return (
      f"{bad:,} of the last {rows:,} training images, up to step {step}, cannot be decoded, "
      f"the first of the run being '{first.name}' ({first.reason}), and that is more than "
      f"config.data.largest_undecodable_share={self._largest_share:g} allows"
    )
