"""One of those that benchmarks/input.py compares, in a process of its own.

It makes batches when it is told to, and answers with images per second of processor time. Nothing
but what it measures is imported, so that the interpreter may be one that lacks this package's.
"""

import io
import itertools
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

# On one core each has one thread. What it makes is taken at once, so that nothing lies ready then.
_BATCHES_BEFORE = 3
_FRACTION = 0.875  # of the short side, in evaluation
_STRENGTH = 0.5  # of brightness, contrast and saturation, to either side


class Task(NamedTuple):
  """What is done to images.

  Attributes:
    transform: "crop", the random patch of training and the mirror image; "distort", the same and
      brightness, contrast and saturation; or "evaluate", the middle.
    image_size: in pixels.
    batch_size: images of a batch.
  """

  transform: str
  image_size: int
  batch_size: int


def ours(images: Sequence[bytes], task: Task, on_device: bool = False) -> Iterator[Any]:
  """This package's batches.

  Args:
    images: JPEGs.
    task: what is done to them.
    on_device: whether distortions are left to a device, and their numbers drawn here.
  """
  from speedpaper_jax.data import pipeline
  from speedpaper_jax.data.augmentation import Augmentation
  from speedpaper_jax.data.crop import EvaluationCrop
  from speedpaper_jax.data.sources import Split

  records: Any = _Repeated(images)
  split = Split(records, num_classes=1, class_names=("any",))
  if task.transform == "evaluate":
    crop = EvaluationCrop(task.image_size, _FRACTION, "short_side")
    return pipeline.eval_batches(split, crop=crop, batch_size=task.batch_size)
  photometric = 2 * _STRENGTH if task.transform == "distort" else 0.0
  return pipeline.train_batches(
    split,
    image_size=task.image_size,
    batch_size=task.batch_size,
    seed=0,
    augmentation=Augmentation("area", flip=True, photometric=photometric),
    distort_on_device=on_device,
  )


def ours_before_a_device(images: Sequence[bytes], task: Task) -> Iterator[Any]:
  """This package's batches, of which a device distorts the images."""
  return ours(images, task, on_device=True)


class _Repeated:
  """Records of the images, again and again."""

  def __init__(self, images: Sequence[bytes]) -> None:
    self._images = images

  def __len__(self) -> int:
    return 2**20

  def __getitem__(self, index: int) -> dict[str, Any]:
    return {"image": self._images[index % len(self._images)], "label": 0}


def torchvision(images: Sequence[bytes], task: Task) -> Iterator[Any]:
  """Batches of a `DataLoader` without worker processes, which passing batches on would cost."""
  from speedpaper_jax.interop import references

  torch: Any = references.import_package("torch")
  transforms: Any = references.import_package("torchvision").transforms
  from PIL import Image

  torch.set_num_threads(1)
  size = task.image_size
  if task.transform == "evaluate":
    steps = [transforms.Resize(int(size / _FRACTION)), transforms.CenterCrop(size)]
  else:
    steps = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
  if task.transform == "distort":
    steps.append(transforms.ColorJitter(_STRENGTH, _STRENGTH, _STRENGTH))
  transform = transforms.Compose([*steps, transforms.PILToTensor()])

  class Images(torch.utils.data.Dataset):
    def __len__(self) -> int:
      return 2**20

    def __getitem__(self, index: int) -> Any:
      encoded = io.BytesIO(images[index % len(images)])
      return transform(Image.open(encoded).convert("RGB")), 0

  return iter(torch.utils.data.DataLoader(Images(), batch_size=task.batch_size, shuffle=True))


def tensorflow(images: Sequence[bytes], task: Task) -> Iterator[Any]:
  """Batches of tf.data, which decodes no more than the patch."""
  import tensorflow as tf

  def cropped(encoded: Any) -> Any:
    if task.transform == "evaluate":
      return tf.image.central_crop(tf.io.decode_jpeg(encoded, channels=3), _FRACTION)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
      tf.io.extract_jpeg_shape(encoded),
      tf.zeros((1, 0, 4)),
      aspect_ratio_range=(3 / 4, 4 / 3),
      area_range=(0.08, 1.0),
      max_attempts=10,
      use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], 0)
    return tf.image.random_flip_left_right(tf.image.decode_and_crop_jpeg(encoded, window, 3))

  def transform(encoded: Any) -> Any:
    pixels = tf.image.resize(cropped(encoded), (task.image_size, task.image_size))
    if task.transform == "distort":
      pixels = tf.image.random_brightness(pixels, 255 * _STRENGTH)
      pixels = tf.image.random_saturation(pixels, 1 - _STRENGTH, 1 + _STRENGTH)
      pixels = tf.image.random_contrast(pixels, 1 - _STRENGTH, 1 + _STRENGTH)
    return tf.saturate_cast(pixels, tf.uint8), 0

  options = tf.data.Options()
  options.threading.private_threadpool_size = options.threading.max_intra_op_parallelism = 1
  data = tf.data.Dataset.from_tensor_slices(list(images)).repeat().shuffle(len(images))
  return iter(
    data.map(transform, num_parallel_calls=1).batch(task.batch_size).with_options(options)
  )


CONTESTANTS: dict[str, Callable[[Sequence[bytes], Task], Iterator[Any]]] = {
  "ours": ours,
  "ours before a device": ours_before_a_device,
  "torchvision": torchvision,
  "tf.data": tensorflow,
}


def rate(name: str, images: Sequence[bytes], task: Task, count: int) -> float:
  """Images per second of processor time, of all threads, over so many batches."""
  batches = CONTESTANTS[name](images, task)
  for _ in itertools.islice(batches, _BATCHES_BEFORE):
    pass
  began = time.process_time()
  for _ in itertools.islice(batches, count):
    pass
  seconds = time.process_time() - began
  if hasattr(batches, "close"):
    batches.close()
  return count * task.batch_size / seconds


def serve(name: str, folder: str) -> None:
  """Answers each line of standard input, "TRANSFORM IMAGE_SIZE BATCH_SIZE BATCHES", with a number.

  Args:
    name: one of `CONTESTANTS`.
    folder: of the JPEGs.
  """
  answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
  os.dup2(2, 1)  # what packages print is no answer
  images = [path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())]
  for line in sys.stdin:
    transform, *numbers = line.split()
    image_size, batch_size, count = map(int, numbers)
    print(rate(name, images, Task(transform, image_size, batch_size), count), file=answers)
