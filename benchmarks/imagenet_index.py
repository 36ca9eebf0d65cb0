"""What 1.28 million images cost before the first step: `python -m benchmarks.imagenet_index`.

Makes an archive of as many images as ImageNet has, all of them one tiny image, prepares it by the
steps of `data.prepare imagenet2012`, and opens and shuffles the result on several hosts, one after
the other. Prints the seconds of each step and the memory that the process has after it. Takes 4 GB
in the directory for temporary files.
"""

import argparse
import contextlib
import io
import pathlib
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence

from PIL import Image

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.data.imagenet_labels import COUNTS, class_identifiers

_FILES = 1024  # that ImageNet's training images are in
_TAR_END = bytes(2 * 512)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.imagenet_index",
    description="Times the finding, sorting, writing, opening and shuffling of as many images as "
    "ImageNet has, all of them tiny.",
  )
  parser.add_argument(
    "--images",
    type=entry_point.at_least(2 * _FILES, at_most=10**8),
    default=COUNTS["train"],
    metavar="N",
    help=f"images to train on (default: {COUNTS['train']:,})",
  )
  parser.add_argument(
    "--hosts",
    type=entry_point.at_least(1, at_most=1024),
    default=4,
    metavar="N",
    help="that share each batch (default: 4)",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints a line for each step."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.utils import shard_utils

  from speedpaper_jax.data import array_record_writing, imagenet_originals
  from speedpaper_jax.data.augmentation import Augmentation
  from speedpaper_jax.data.original_files import OriginalFiles
  from speedpaper_jax.data.pipeline import train_batches
  from speedpaper_jax.data.sources import open_split

  with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
    directory = pathlib.Path(name)
    with timed("making the archive"):
      write_archive(directory / "ILSVRC2012_img_train.tar", options.images)
    files = OriginalFiles(directory, directory / "unpacked.tar", stack)
    with timed("pass 1: finding the images"):
      (split,) = imagenet_originals.read("imagenet2012", files).splits
    with timed("sorting by hash"):
      split.order  # noqa: B018
    # As many files as of ImageNet's own images, which are a hundred times as large.
    smallest = int(split.record_sizes.sum()) // (_FILES + 1)
    shard_utils.ShardConfig.min_shard_size = smallest
    with timed("cutting into files"):
      number = len(split.shards)
    builder = tfds.builder("imagenet2012", data_dir=directory, file_format="array_record")
    with timed(f"pass 2: writing {number:,} files"), array_record_writing.alone(builder):
      array_record_writing.write(builder, [split])
    with timed("opening"):
      opened = open_split("imagenet2012", "train", str(directory))
    for host in range(options.hosts):
      with timed(f"host {host + 1} of {options.hosts}: the first batch of 1,024 in a new order"):
        batches = train_batches(
          opened,
          image_size=8,
          batch_size=1024,
          seed=0,
          augmentation=Augmentation(crop="none", shift=0, flip=False),
          start=options.images * host,  # another epoch, with an order of its own
          host_index=host,
          host_count=options.hosts,
        )
        next(batches)
        batches.close()
    time.sleep(1)  # until the threads that read ahead have ended


@contextlib.contextmanager
def timed(step: str) -> Iterator[None]:
  """Prints how long something took, and the memory of the process after it."""
  began = time.monotonic()
  yield
  seconds = time.monotonic() - began
  print(f"{step:<62} {seconds:8.2f} s   {resident_bytes() / 2**20:6.0f} MiB", flush=True)


def resident_bytes() -> int:
  """Memory of this process."""
  lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
  (kibibytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
  return int(kibibytes) * 2**10


def write_archive(path: pathlib.Path, images: int) -> None:
  """Writes a tar file of 1,000 tar files, with the images spread evenly."""
  encoded = io.BytesIO()
  Image.new("RGB", (2, 2)).save(encoded, "JPEG", quality=10)
  image = encoded.getvalue()
  padded = image + bytes(-len(image) % 512)
  classes = list(class_identifiers())
  with path.open("wb") as file:
    for number, name in enumerate(classes):
      some = range(images * number // len(classes), images * (number + 1) // len(classes))
      heads = (_head(f"{name}_{index}.JPEG", len(image)) for index in some)
      content = b"".join(head + padded for head in heads) + _TAR_END
      file.write(_head(f"{name}.tar", len(content)) + content)
    file.write(_TAR_END)


def _head(name: str, size: int) -> bytes:
  member = tarfile.TarInfo(name)
  member.size = size
  return member.tobuf()


if __name__ == "__main__":
  entry_point.run(main, parse)
