"""The packages that comparisons are made with.

They are gigabytes, and training needs none of them, so that the README's second command does
without. Where REFERENCES=required is set, as in CI, nothing is skipped for lack of them.
"""

import importlib.util
import os

import pytest


def require(*sources):
  """Skips a test where PyTorch or one of the packages is absent; what is there must work."""
  packages = ["torch", *sources]
  if sources:
    packages.append("torchvision")  # all of them import it
  for package in packages:
    package = {"facenet": "facenet_pytorch"}.get(package, package)
    if importlib.util.find_spec(package) is None:
      message = f"{package} is not installed; requirements-references.txt has it"
      if os.environ.get("REFERENCES") == "required":
        pytest.fail(message)
      pytest.skip(message)
