"""The packages that comparisons are made with.

They are gigabytes, and training needs none of them, so that the README's second command does
without. Where REFERENCES=required is set, as in CI, nothing is skipped for lack of them; of
TensorFlow, where TENSORFLOW=required is.
"""

import importlib.util
import os
import warnings

import pytest


def require(*sources):
  """Skips a test where PyTorch or one of the packages is absent; what is there must work."""
  packages = ["torch", *sources]
  if sources:
    packages.append("torchvision")  # all of them import it
  for package in packages:
    package = {"facenet": "facenet_pytorch", "pytorch-fid": "pytorch_fid"}.get(package, package)
    if importlib.util.find_spec(package) is None:
      message = f"{package} is not installed; requirements-references.txt has it"
      if os.environ.get("REFERENCES") == "required":
        pytest.fail(message)
      pytest.skip(message)


def require_tensorflow():
  """Skips a test where TensorFlow is absent, with which TFDS's own builders work."""
  if importlib.util.find_spec("tensorflow") is None:
    message = "TensorFlow is not installed; `pip install tensorflow-cpu` brings it"
    if os.environ.get("TENSORFLOW") == "required":
      pytest.fail(message)
    pytest.skip(message)


def saved_by_keras(model, path, num_classes=10):
  """Saves one of Keras's own networks with random weights, in the form that the ending names."""
  os.environ["KERAS_BACKEND"] = "jax"
  import keras

  keras.utils.set_random_seed(0)
  build = {
    "inception_v3": keras.applications.InceptionV3,
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
  }[model]
  network = build(weights=None, input_shape=(75, 75, 3), classes=num_classes)
  save = network.save_weights if path.name.endswith(".weights.h5") else network.save
  with warnings.catch_warnings(action="ignore"):  # it would like its newest format
    save(path)
  return path
