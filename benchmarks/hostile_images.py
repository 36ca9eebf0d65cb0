"""Damages images in many ways, and looks at who notices.

  python -m benchmarks.hostile_images --count=2000

Small images of every format, mode and kind are changed again and again: bits flipped, ends cut off,
pieces of other files put in, other sizes and depths written into headers, PNGs given odd chunks or
robbed of theirs. Then each is read as evaluation and training read it. A damaged image is to raise
a `DecodeError`, and the same image in all of them that Pillow itself, asked for all pixels at once,
refuses. At the end all lie in one folder, which is evaluated, predicted and trained on.
The exit status is 1 if anything else is raised, if one of them accepts what Pillow or evaluation
refuses, if a warning reaches the user that is none of ours, if the folder's readers leave out
others, or if memory grows by more than `MOST_MEMORY`.
"""

import argparse
import collections
import contextlib
import io
import itertools
import pathlib
import random
import resource
import struct
import sys
import tempfile
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from PIL import Image

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.data.augment import augment
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.decode import DecodeError, decode

MOST_MEMORY = 1.5 * 2**30

_SIZE = 24
# What a header may claim, from nothing to more than can be.
_SIDES = (0, 1, 3, 255, 4_000, 13_000, 65_535, 2**31 - 1, 2**32 - 1)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNKS = (
  (b"acTL", b"\0\0\0\2\0\0\0\0"),
  (b"acTL", b"\0"),
  (b"fcTL", bytes(26)),
  (b"fdAT", bytes(8)),
  (b"PLTE", b""),
  (b"PLTE", b"\1\2\3\4"),
  (b"tRNS", b""),
  (b"tRNS", b"\1"),
  (b"tRNS", bytes(300)),
  (b"iCCP", b"a\0\7x"),
  (b"iCCP", b"\xff" * 90),
  (b"tEXt", b""),
  (b"tEXt", b"\0\0\0"),
  (b"tEXt", "é日".encode()),
  (b"zTXt", b"a"),
  (b"zTXt", b"a\0\1x"),
  (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))),
  (b"iTXt", b"a\0"),
  (b"iTXt", b"a\0\1\0\0\0x"),
  (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0tiff:Orientation>6"),
  (b"tEXt", b"Raw profile type exif\0\n\n\nzz"),
  (b"eXIf", b""),
  (b"eXIf", b"II*\0\xff\xff\xff\xff"),
  (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x06\0\0\0\0\0\0"),
  (b"pHYs", b"\0"),
  (b"gAMA", b""),
  (b"cHRM", b"\0"),
  (b"sRGB", b""),
  (b"IDAT", b""),
  (b"IEND", b"x"),
  (b"\xff\xff\xff\xff", b""),
)


class Mutation(NamedTuple):
  """A change of an image.

  Attributes:
    what: was done, to which image, in words.
    content: the bytes now.
  """

  what: str
  content: bytes


def originals() -> dict[str, bytes]:
  """Images of every format that is read, by format and what is special about them."""
  noise = np.random.default_rng(0).integers(0, 256, (_SIZE, _SIZE, 4), np.uint8)
  rgba = Image.fromarray(noise)
  rgb, grey = rgba.convert("RGB"), rgba.convert("L")
  palette = rgb.quantize(16)
  exif = Image.Exif()
  exif[0x0112] = 6
  animation = {"save_all": True, "append_images": [rgb.rotate(90)]}
  return {
    "JPEG": _encoded(rgb, "JPEG", exif=exif),
    "JPEG progressive": _encoded(rgb, "JPEG", progressive=True),
    "JPEG grey": _encoded(grey, "JPEG"),
    "JPEG CMYK": _encoded(rgb.convert("CMYK"), "JPEG"),
    "PNG": _encoded(rgb, "PNG", exif=exif),
    "PNG transparent": _encoded(rgba, "PNG"),
    "PNG palette": _encoded(palette, "PNG", transparency=3),
    "PNG 16 bits": _encoded(Image.fromarray(noise[..., 0] * np.uint16(257)), "PNG"),
    "PNG black and white": _encoded(grey.convert("1"), "PNG"),
    "PNG animated": _encoded(rgb, "PNG", **animation),
    "PNG one pixel": _encoded(rgb.crop((0, 0, 1, 1)), "PNG"),
    "WEBP": _encoded(rgb, "WEBP", exif=exif),
    "WEBP lossless": _encoded(rgba, "WEBP", lossless=True),
    "WEBP animated": _encoded(rgb, "WEBP", **animation),
    "GIF": _encoded(palette, "GIF", transparency=3),
    "GIF animated": _encoded(rgb, "GIF", **animation),
    "BMP": _encoded(rgb, "BMP"),
    "BMP palette": _encoded(palette, "BMP"),
  }


def _encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
  encoded = io.BytesIO()
  image.save(encoded, image_format, **options)
  return encoded.getvalue()


def mutations(seed: int) -> Iterator[Mutation]:
  """Endless changes, of one original after the other; a seed gives the same ones each time."""
  generator = random.Random(seed)
  images = originals()
  for name in itertools.cycle(images):
    content = images[name]
    kinds: list[Callable[[random.Random, bytes], bytes]] = [_flipped, _cut, _overwritten, _resized]
    if name.startswith("PNG"):
      kinds += [_with_chunk, _without_chunk, _with_header] * 2
    kind = generator.choice(kinds)
    if kind is _overwritten and generator.random() < 0.5:
      changed = _spliced(generator, content, generator.choice(list(images.values())))
    else:
      changed = kind(generator, content)
    yield Mutation(f"{name}: {kind.__name__.strip('_')}", changed)


def _flipped(generator: random.Random, content: bytes) -> bytes:
  """One bit, or several."""
  changed = bytearray(content)
  for _ in range(generator.choice((1, 1, 2, 20))):
    changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
  return bytes(changed)


def _cut(generator: random.Random, content: bytes) -> bytes:
  return content[: generator.randrange(len(content))]


def _overwritten(generator: random.Random, content: bytes) -> bytes:
  place, length = generator.randrange(len(content)), generator.choice((1, 2, 4, 50))
  filling = generator.choice((b"\0", b"\xff", generator.randbytes(1))) * length
  return content[:place] + filling + content[place + length :]


def _spliced(generator: random.Random, content: bytes, other: bytes) -> bytes:
  """A piece of another file in the place of a piece of this."""
  places = sorted(generator.choices(range(len(content)), k=2))
  start, end = sorted(generator.choices(range(len(other)), k=2))
  return content[: places[0]] + other[start:end] + content[places[1] :]


def _resized(generator: random.Random, content: bytes) -> bytes:
  """Another number in the place of the first one or two that could be a height or width."""
  number = generator.choice(_SIDES)
  for layout in (">I", "<I", ">H", "<H"):
    written = struct.pack(layout, number % 2 ** (8 * struct.calcsize(layout)))
    size = struct.pack(layout, _SIZE)
    if size in content:
      content = content.replace(size, written, generator.choice((1, 2)))
      break
  return _with_checksums(content) if content.startswith(_SIGNATURE) else content


def _with_chunk(generator: random.Random, content: bytes) -> bytes:
  chunks = _chunks(content)
  chunks.insert(generator.randrange(1, len(chunks) + 1), generator.choice(_CHUNKS))
  return _joined(chunks)


def _without_chunk(generator: random.Random, content: bytes) -> bytes:
  chunks = _chunks(content)
  del chunks[generator.randrange(len(chunks))]
  return _joined(chunks)


def _with_header(generator: random.Random, content: bytes) -> bytes:
  """Other depth, colours, compression, filter or interlacing."""
  chunks = _chunks(content)
  header = bytearray(chunks[0][1])
  header[generator.randrange(8, 13)] = generator.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
  return _joined([(b"IHDR", bytes(header)), *chunks[1:]])


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
  """Name and data of a PNG's chunks."""
  chunks, place = [], len(_SIGNATURE)
  while place + 8 <= len(content):
    length, name = struct.unpack(">I4s", content[place : place + 8])
    chunks.append((name, content[place + 8 : place + 8 + length]))
    place += length + 12
  return chunks


def _joined(chunks: list[tuple[bytes, bytes]]) -> bytes:
  return _SIGNATURE + b"".join(
    struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    for name, data in chunks
  )


def _with_checksums(content: bytes) -> bytes:
  return _joined(_chunks(content))


def _pillow(image: bytes) -> None:
  """Pillow's own opinion, whatever it raises."""
  try:
    Image.open(io.BytesIO(image), formats=("JPEG", "PNG", "WEBP", "GIF", "BMP")).load()
  except Exception as error:
    raise DecodeError from error


def _train(crop: str) -> Callable[[bytes], np.ndarray]:
  augmentation = Augmentation(crop, shift=1, flip=True, photometric=1.0)
  return lambda image: augment(image, 8, augmentation, np.random.default_rng(0))


# In this order: those of evaluation before those of training.
READERS: dict[str, Callable[[bytes], object]] = {
  "Pillow": _pillow,
  "decode": decode,
  "evaluation, squash": EvaluationCrop(8, 0.875),
  "evaluation, short_side": EvaluationCrop(8, 0.875, "short_side", "bicubic"),
  "training, none": _train("none"),
  "training, shift": _train("shift"),
  "training, area": _train("area"),
}


def outcomes(image: bytes) -> dict[str, str]:
  """What each reader makes of an image: "accepted", "refused" or what it raises."""
  found = {}
  for reader, read in READERS.items():
    try:
      read(image)
      found[reader] = "accepted"
    except DecodeError:
      found[reader] = "refused"
    except Exception as error:
      found[reader] = f"{type(error).__name__}: {error!s:.80}"
  return found


def attack(count: int, seed: int) -> tuple[collections.Counter[str], list[str]]:
  """Reads `count` damaged images.

  Returns:
    How often images of each format were accepted and refused; and in words what went otherwise.
  """
  counts: collections.Counter[str] = collections.Counter()
  wrong = []
  with _noticing_warnings() as seen:
    for mutation in itertools.islice(mutations(seed), count):
      found = outcomes(mutation.content)
      what = f"{mutation.what} ({zlib.crc32(mutation.content):08x})"
      if set(found.values()) - {"accepted", "refused"}:
        wrong.append(f"{what}: {found}")
      elif any(
        "refused" in (found["Pillow"], found["decode"]) and outcome == "accepted"
        for reader, outcome in found.items()
        if reader != "Pillow"
      ):
        wrong.append(f"{what} is taken for whole: {found}")
      counts[f"{mutation.what.partition(' ')[0].rstrip(':')}: {found['decode']}"] += 1
      wrong += [f"{what} is warned of: {warning}" for warning in seen]
      seen.clear()
  return counts, wrong


def attack_folder(count: int, seed: int, folder: pathlib.Path) -> list[str]:
  """Reads the same images as files of one folder, as the commands do.

  Args:
    count: at least two.
    seed: of `mutations`.
    folder: that is empty.

  Returns:
    In words which commands leave out others than those that cannot be decoded.
  """
  attacked = list(itertools.islice(mutations(seed), count))
  refused = set()
  with _noticing_warnings() as seen:
    for number, mutation in enumerate(attacked):
      path = folder / f"class {number % 2}" / f"{number}.png"
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(mutation.content)
      try:
        decode(mutation.content)
      except DecodeError:
        refused.add(number)
    left_out = _left_out(folder)
  wrong = [f"a folder's images are warned of: {warning}" for warning in seen]
  for command, numbers in left_out.items():
    if differing := numbers ^ refused:
      what = attacked[min(differing)].what
      wrong.append(f"{command} of a folder differs in {len(differing)} images, such as {what}")
  return wrong


def _left_out(folder: pathlib.Path) -> dict[str, set[int]]:
  """What each command leaves out of a folder, by the numbers that the files have for names."""
  from speedpaper_jax.data.pipeline import eval_batches, train_batches
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.inference import image_batches

  crop, rows = EvaluationCrop(8, 0.875), 32
  files = folder.rglob("*.png")
  others = set(threading.enumerate())
  with contextlib.redirect_stderr(io.StringIO()):  # each of them is named there
    predicted = {int(file.stem) for file in files if image_batches.read_image(file, crop) is None}
    split = open_split("folder", "train+test", str(folder))
    numbers = [int(pathlib.PurePath(split.records.name(index)).stem) for index in range(len(split))]
    with contextlib.closing(eval_batches(split, crop=crop, batch_size=rows)) as batches:
      mask = np.concatenate([batch["mask"] for batch in batches])[: len(split)]
    split.undecodable.clear()
    with contextlib.closing(
      train_batches(split, image_size=8, batch_size=rows, seed=0, augmentation=Augmentation("area"))
    ) as batches:
      for _ in range(-(-len(split) // rows)):
        next(batches)
    for thread in set(threading.enumerate()) - others:  # they read ahead, and the files go
      thread.join()
  return {
    "prediction": predicted,
    "evaluation": {numbers[index] for index in np.flatnonzero(mask == 0)},
    "training": {numbers[index] for index in split.undecodable},
  }


@contextlib.contextmanager
def _noticing_warnings() -> Iterator[list[str]]:
  """Gathers the warnings that would be shown."""
  seen: list[str] = []

  def show(message: Warning | str, *_: object, **__: object) -> None:
    seen.append(str(message))

  with mock.patch.object(warnings, "showwarning", show):
    yield seen


def peak_memory() -> int:
  """The most bytes that this process has had in memory."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
    1 if sys.platform == "darwin" else 1024
  )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.hostile_images",
    description="Damages images in many ways, and looks at who notices. The exit status is 1 where "
    "one is not noticed, or in another way than it should be.",
  )
  parser.add_argument(
    "--count",
    type=entry_point.at_least(2),
    default=2000,
    metavar="N",
    help="damaged images (default: 2000)",
  )
  parser.add_argument(
    "--seed", type=int, default=0, metavar="N", help="of the damages (default: 0)"
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints how many images of each format were accepted and refused, and what went otherwise."""
  before = peak_memory()
  counts, wrong = attack(options.count, options.seed)
  with tempfile.TemporaryDirectory() as folder:
    wrong += attack_folder(options.count, options.seed, pathlib.Path(folder))
  grown = peak_memory() - before
  for line, count in sorted(counts.items()):
    print(f"{count:6d}  {line}")
  print(f"{grown / 2**20:6.0f}  MiB of memory at most")
  if grown > MOST_MEMORY:
    wrong.append(f"Memory grew by {grown:,} bytes.")
  for line in wrong:
    print(f"wrong  {line}")
  if wrong:
    sys.exit(1)
  print("nothing raised but DecodeError, and nothing damaged taken for whole")


if __name__ == "__main__":
  entry_point.run(main, parse)
