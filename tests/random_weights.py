"""Files of random networks in the place of published ones, which a server of this machine has."""

import contextlib
import dataclasses
import hashlib
import io
import os
import pathlib
import zipfile

import numpy as np
import pytest
from serving import served

from benchmarks import beside_preprocessing
from speedpaper_jax.interop import files, images, references
from speedpaper_jax.interop.names import implementations
from speedpaper_jax.interop.pair import make_pair
from speedpaper_jax.published_weights import table
from speedpaper_jax.published_weights.table import Checksum

CLASSES = 10


@contextlib.contextmanager
def publishing(monkeypatch):
  """A function that has a row's file come from this machine; the server is its attribute."""
  with served() as (address, handler):

    def publish(name, content, num_classes=CLASSES, classes="of this test"):
      row = table.find(name)
      handler.contents[f"/{row.file_name}"] = content
      checksum = Checksum("sha256", hashlib.sha256(unzipped(content)).hexdigest())
      row = dataclasses.replace(
        row,
        url=f"{address}/{row.file_name}",
        checksum=checksum,
        num_classes=num_classes,
        classes=classes,
      )
      monkeypatch.setattr(table, "ROWS", (row,))
      return row

    publish.handler = handler
    yield publish


def unzipped(content):
  """The one file of an archive that is no file of PyTorch's, which are archives too."""
  if not zipfile.is_zipfile(io.BytesIO(content)):
    return content
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    names = archive.namelist()
    return archive.read(names[0]) if len(names) == 1 else content


def names_of(row):
  """The names of a row's tensors in its package, which is one of PyTorch's."""
  (names,) = (
    names
    for names in implementations(row.model, row.dialect)
    if names.source == row.package and names.in_torch
  )
  return names


def sure_network(model, names, classes=CLASSES):
  """A package's network whose statistics are a photograph's, and which is sure of its classes."""
  torch = references.import_package("torch")
  pair = make_pair(model, names, classes, names.image_size)
  if model == "inception_v4" or names.dialect == "fid":
    # With random weights timm's own float32 is 9e-4 off. Fewer units at 0 amplify rounding less.
    with torch.no_grad():
      for part in pair.reference.module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
          part.bias.add_(1)
  pair.reference.calibrate(images.of_photograph(4, names.image_size))
  module = pair.reference.module.float()
  with torch.no_grad():
    module.get_submodule(names.layers["logits"]).weight.mul_(3)
  return module


def sure_keras_network(classes=CLASSES):
  """Keras's Inception-v3, likewise."""
  os.environ["KERAS_BACKEND"] = "jax"
  import keras

  keras.utils.set_random_seed(0)
  network = keras.applications.InceptionV3(weights=None, classes=classes)
  inputs = keras.applications.inception_v3.preprocess_input(
    images.of_photograph(4, 299).astype("float32")
  )
  normalizations = [
    layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)
  ]
  for layer in normalizations:
    layer.momentum = 0.0
    layer.beta.assign(layer.beta + 1)  # fewer units at 0 amplify rounding less
  network(inputs, training=True)
  last = network.get_layer("predictions")
  kernel, bias = (np.asarray(variable.value) for variable in last.weights)
  last.activation = keras.activations.linear
  logits = np.asarray(network(inputs, training=False))
  scale = 3 / logits.std(0).mean()
  last.set_weights([kernel * scale, (bias - logits.mean(0)) * scale])
  last.activation = keras.activations.softmax
  return keras, network


def own_transform(row, module):
  """What the package does with a PIL image, up to the logits [1, classes]."""
  if row.package == "pytorch-fid":
    return pytorch_fid_logits(module)
  transform = beside_preprocessing.of_pytorch(row)
  return lambda image: module(transform(image)[None])


def pytorch_fid_logits(module):
  """Its features, which are what the package is for, through the softmax layer of its file."""
  inception = references.import_package("pytorch_fid.inception")
  to_tensor = references.import_package("torchvision.transforms").ToTensor()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(inception, "fid_inception_v3", lambda: module)
    features = inception.InceptionV3([inception.InceptionV3.DEFAULT_BLOCK_INDEX]).eval()
  return lambda image: module.fc(features(to_tensor(image)[None])[0][..., 0, 0])


def file_of(row, module, tmp_path):
  """As the package publishes it."""
  state_dict = {name: values.numpy() for name, values in module.state_dict().items()}
  path = tmp_path / f"it{pathlib.Path(row.file_name.removesuffix('.zip')).suffix}"
  files.write(path, state_dict)
  if not row.file_name.endswith(".zip"):
    return path.read_bytes()
  archive = io.BytesIO()
  with zipfile.ZipFile(archive, "w") as file:
    file.write(path)
  return archive.getvalue()
