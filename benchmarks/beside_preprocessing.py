"""Preprocessing beside that of the packages that weights are from.

  python -m benchmarks.beside_preprocessing FOLDER

Each image of the folder is read, cropped, resized and normalised twice: as a row of the table of
published weights says, and by the package itself. It needs PyTorch, Keras and the packages of
requirements-references.txt. It prints a table in Markdown: the mean of the absolute difference, and
the largest one, in grey levels from 0 to 255.
"""

import argparse
import dataclasses
import io
import itertools
import math
import os
import pathlib
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks.images import encoded_images
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import references
from speedpaper_jax.published_weights import table
from speedpaper_jax.published_weights.table import PublishedWeights

Transform = Callable[[bytes], np.ndarray]  # an encoded image → the network's input, [H, W, 3]

# Of float32, which each rounds in its own way.
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A package's preprocessing beside ours.

  Attributes:
    row: of the published weights.
    theirs: what the package does.
    how: what is special about it, in words; or "".
  """

  row: PublishedWeights
  theirs: Transform
  how: str = ""

  @property
  def name(self) -> str:
    """Of the weights, and what is special about the comparison."""
    return f"{self.row.name}, {self.how}" if self.how else self.row.name


@dataclasses.dataclass(frozen=True)
class Difference:
  """Of two inputs of a network, over all pixels and channels, in grey levels from 0 to 255.

  Attributes:
    mean: of the absolute difference.
    largest: the same.
  """

  mean: float
  largest: float


def difference(
  preprocessing: Preprocessing, theirs: Transform, images: Iterable[bytes]
) -> Difference:
  """How far a package's input of a network is from that of our preprocessing, over some images."""
  of_each = []
  std = np.array(preprocessing.normalization.std)
  for content in images:
    pixels = preprocessing.crop(content)
    ours = np.asarray(preprocessing.normalization.apply(pixels))
    of_each.append(np.abs(ours - theirs(content)) * std)
  return Difference(
    float(np.mean([np.mean(each) for each in of_each])), float(max(map(np.max, of_each)))
  )


def comparisons() -> list[Comparison]:
  """Every row of the table; Keras's, too, as those have it who leave `load_img` its default."""
  found = []
  for row in table.ROWS:
    found.append(Comparison(row, transform_of(row)))
    if row.package == "keras":
      found.append(
        Comparison(row, _of_keras(row, "nearest"), "`load_img` with its default, nearest")
      )
  return found


def transform_of(row: PublishedWeights) -> Transform:
  """What the package of some weights does, up to the network.

  Raises:
    UserError: it is not installed.
  """
  if row.package == "keras":
    return _of_keras(row, row.preprocessing.crop.interpolation)
  own, first = of_pytorch(row), _first_in_network(row)

  def transform(content: bytes) -> np.ndarray:
    tensor = own(Image.open(io.BytesIO(content)).convert("RGB"))
    return np.asarray(first(tensor[None])[0].permute(1, 2, 0))

  return transform


def of_pytorch(row: PublishedWeights) -> Callable[[Image.Image], Any]:
  """The same of one of PyTorch's packages: from an RGB image to a tensor, float32 [3, H, W].

  Raises:
    UserError: the package is not installed.
  """
  own: Callable[[Image.Image], Any] = _OF_PYTORCH[row.package](row)
  return own


def _first_in_network(row: PublishedWeights) -> Callable[[Any], Any]:
  """Networks of torchvision's change the normalization themselves, with published weights."""
  if row.package != "torchvision":
    return lambda tensor: tensor
  module = references.import_package(f"torchvision.models.{row.model.replace('_v3', '')}")
  network = {"googlenet": "GoogLeNet", "inception_v3": "Inception3"}[row.model]
  as_published = types.SimpleNamespace(transform_input=True)
  return lambda tensor: getattr(module, network)._transform_input(as_published, tensor)


def _of_timm(row: PublishedWeights) -> Any:
  data = references.import_package("timm.data")
  name = row.name.partition("/")[2]
  config = references.import_package("timm").models.get_pretrained_cfg(name)
  return data.create_transform(**data.resolve_data_config(config.to_dict()))


def _of_torchvision(row: PublishedWeights) -> Any:
  weights = references.import_package("torchvision.models").get_model_weights(row.model)
  return weights.IMAGENET1K_V1.transforms()


def _of_pretrainedmodels(row: PublishedWeights) -> Any:
  utils = references.import_package("pretrainedmodels.utils")
  name = row.name.partition("/")[2]
  file = references.import_package(f"pretrainedmodels.models.{name}")
  settings = file.pretrained_settings[name]["imagenet"]
  return utils.TransformImage(types.SimpleNamespace(**settings))


def _of_pytorchcv(row: PublishedWeights) -> Any:
  """As its author's evaluation scripts have it; it is not in the package."""
  transforms = references.import_package("torchvision.transforms")
  image_size = row.preprocessing.crop.image_size
  return transforms.Compose(
    [
      transforms.Resize(math.ceil(image_size / 0.875)),
      transforms.CenterCrop(image_size),
      transforms.ToTensor(),
      transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
  )


def _of_facenet(row: PublishedWeights) -> Any:
  """Of a whole image: a face that has been found is cut out before."""
  crop_resize = references.import_package("facenet_pytorch.models.utils.detect_face").crop_resize
  standardize = references.import_package("facenet_pytorch").fixed_image_standardization
  torch = references.import_package("torch")

  def transform(image: Image.Image) -> Any:
    face = crop_resize(image, (0, 0, *image.size), row.preprocessing.crop.image_size)
    return standardize(torch.from_numpy(np.array(face, np.float32)).permute(2, 0, 1))

  return transform


def _of_pytorch_fid(row: PublishedWeights) -> Any:
  """What the first layer of its network gets: resizing and normalization are inside."""
  inception = references.import_package("pytorch_fid.inception")
  torch = references.import_package("torch")
  to_tensor = references.import_package("torchvision.transforms").ToTensor()
  layers = types.SimpleNamespace(
    **dict.fromkeys(("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"), torch.nn.Identity())
  )
  with mock.patch.object(inception, "fid_inception_v3", return_value=layers):
    network = inception.InceptionV3([0])
  network.blocks[0] = torch.nn.Identity()

  def transform(image: Image.Image) -> Any:
    return network(to_tensor(image)[None])[0][0]

  return transform


_OF_PYTORCH: dict[str, Callable[[PublishedWeights], Any]] = {
  "timm": _of_timm,
  "torchvision": _of_torchvision,
  "pretrainedmodels": _of_pretrainedmodels,
  "pytorchcv": _of_pytorchcv,
  "facenet-pytorch": _of_facenet,
  "pytorch-fid": _of_pytorch_fid,
}


def _of_keras(row: PublishedWeights, interpolation: str) -> Transform:
  os.environ.setdefault("KERAS_BACKEND", "jax")
  keras = references.import_package("keras")
  preprocess_input = getattr(keras.applications, row.model).preprocess_input
  side = row.preprocessing.crop.image_size

  def transform(content: bytes) -> np.ndarray:
    image = keras.utils.load_img(
      io.BytesIO(content), target_size=(side, side), interpolation=interpolation
    )
    return np.asarray(preprocess_input(keras.utils.img_to_array(image)))

  return transform


def in_words(preprocessing: Preprocessing) -> str:
  """Of a crop, as a table has it."""
  crop = preprocessing.crop
  if crop.resize == "squash":
    return f"all of it to {crop.image_size}², {crop.interpolation}"
  return (
    f"short side to {crop.resized_side}, {crop.interpolation}, the middle {crop.image_size}² of it"
  )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.beside_preprocessing",
    description="Compares what becomes of images before a network with what each package of "
    "published weights makes of them.",
  )
  parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="of images")
  parser.add_argument(
    "--images",
    type=entry_point.at_least(1),
    default=32,
    metavar="N",
    help="the first so many, in order of their names (default: 32)",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints a row for each of the published weights."""
  images = list(itertools.islice(encoded_images(options.folder), options.images))
  if not images:
    raise UserError(f"No image in '{options.folder}' can be decoded; name another folder.")
  print("| weights | transform | mean difference | largest difference |\n|---|---|---|---|")
  for each in comparisons():
    found = difference(each.row.preprocessing, each.theirs, images)
    print(
      f"| {each.name} | {in_words(each.row.preprocessing)} | {_levels(found.mean)} | "
      f"{_levels(found.largest)} |",
      flush=True,
    )
  print(f"\nGrey levels of 255, over {len(images):,} images; differences below {_ROUNDING} are 0.")


def _levels(value: float) -> str:
  return f"{value:.2f}" if value >= _ROUNDING else "0"


if __name__ == "__main__":
  entry_point.run(main, parse)
