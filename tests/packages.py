"""The packages that comparisons are made with, which need not be installed."""

import importlib.util

import pytest


def require(*sources):
  """Skips a test where PyTorch or one of the packages is absent; what is there must work."""
  packages = ["torch", *sources]
  if sources:
    packages.append("torchvision")  # all of them import it
  for package in packages:
    package = {"facenet": "facenet_pytorch"}.get(package, package)
    if importlib.util.find_spec(package) is None:
      pytest.skip(f"{package} is not installed; requirements-references.txt has it")
