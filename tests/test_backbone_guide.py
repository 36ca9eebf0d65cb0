"""docs/backbone.md: its code runs from the first block to the last, and finds what it asserts."""

import re

import jax
import numpy as np
import pytest
import shortened
from commands import ROOT

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.inference import model_directory
from speedpaper_jax.interop import published
from speedpaper_jax.interop.names import implementation
from speedpaper_jax.models import create
from speedpaper_jax.published_weights import table

PATH = ROOT / "docs" / "backbone.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PUBLISHED = "pretrainedmodels/bninception"
CLASSES = 10


@pytest.mark.slow
def test_blocks_run_one_after_the_other(tmp_path, monkeypatch):
  """With a network of fewer modules, which is quicker to compile."""
  shortened.shorten(monkeypatch)
  directory = tmp_path / "model"
  write_model_directory(directory)
  monkeypatch.setattr(published, "of_row", {table.find(PUBLISHED): directory}.__getitem__)
  text = PATH.read_text(encoding="utf-8")
  assert PUBLISHED in text
  namespace = {"__name__": "guide"}
  for block in BLOCK.finditer(text):
    lines_before = text.count("\n", 0, block.start(1))
    code = compile("\n" * lines_before + block[1], str(PATH), "exec")  # errors have their line
    exec(code, namespace)


def write_model_directory(path):
  """Random weights in the place of the published ones, of the same network."""
  network = create("bn_inception", "pretrainedmodels", num_classes=CLASSES)
  shapes = jax.eval_shape(
    lambda: network.init(jax.random.key(0), np.zeros((1, 32, 32, 3), "float32"), train=False)
  )
  generator = np.random.default_rng(0)
  variables = jax.tree.map_with_path(lambda path, leaf: drawn(path, leaf, generator), shapes)
  config = train_config()
  config.model.name, config.model.dialect = "bn_inception", "pretrainedmodels"
  description = model_directory.ModelDescription(
    name="bn_inception",
    dialect="pretrainedmodels",
    num_classes=CLASSES,
    class_names=(),
    preprocessing=implementation("bn_inception", "pretrainedmodels").preprocessing,
    source="a test",
  )
  model_directory.write(path, config, description.to_json(), variables)


def drawn(path, leaf, generator):
  """As after some training on pixels from 0 to 255, in the first layer's statistics."""
  if path[1].key == "conv1" and path[-1].key == "var":
    return np.full(leaf.shape, 100**2, "float32")
  if leaf.ndim > 1:
    return generator.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape).astype("float32")
  return np.full(leaf.shape, path[-1].key in ("scale", "var"), "float32")
