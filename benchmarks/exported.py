"""An exported program beside the network itself: `python -m benchmarks.exported [NAME…]`.

Of each network, with random weights and images of its paper's size: the program's file, and how
long it takes to load and to compile; and milliseconds an image of the network as it was trained,
with its batch normalizations folded, as `predict` runs it, and of the program. These three take
turns in one process on CPUs, and count processor time, so that other work on the machine has little
part in it.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import chosen_networks
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.papers.networks import NETWORKS

if TYPE_CHECKING:
  import flax.linen as nn

  from speedpaper_jax.inference.model_directory import LoadedModel

_CLASSES = 1000
_HEADER = """\
| network | MB | s to load | s to the first answer | ms as trained | folded | program | folded / \
as trained | program / folded |
|---|---|---|---|---|---|---|---|---|"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  description = "Times exported programs beside the networks themselves, by turns."
  return chosen_networks.parser("exported", description, turns=9).parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints a row for each network."""
  # JAX's cache of compiled programs stays off: the first answer of a new program is what is timed.
  names = chosen_networks.check(options.names)
  print(_HEADER)
  for name in names:
    print(row_of(random_model(name), options.batch_size, options.turns), flush=True)


def random_model(name: str) -> "LoadedModel":
  """The paper's network, with random weights."""
  import jax

  from speedpaper_jax.config.defaults import train_config
  from speedpaper_jax.data.crop import EvaluationCrop
  from speedpaper_jax.data.normalization import DEFAULT
  from speedpaper_jax.data.preprocessing import Preprocessing
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription
  from speedpaper_jax.models import registry
  from speedpaper_jax.steps import build

  config, size = train_config(), NETWORKS[name].image_size
  config.model.update(name=name, dialect=registry.dialects(name)[0])
  config.batch_norm.enabled = registry.find_dialect(name).batch_norm is not None
  config.data.image_size = size
  network = build.build_inference_model(config, _CLASSES, parallel.make_mesh())
  images = np.zeros((1, size, size, 3), np.float32)
  variables = jax.jit(lambda: network.init(jax.random.key(0), images, train=False))()
  preprocessing = Preprocessing(EvaluationCrop(size), DEFAULT)
  description = ModelDescription(
    name, config.model.dialect, _CLASSES, (), preprocessing, "random weights"
  )
  return LoadedModel(0, config, description, network, variables)


def row_of(model: "LoadedModel", rows: int, turns: int) -> str:
  """A network's row of the table."""
  import jax
  import jax.export

  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import exported
  from speedpaper_jax.steps import build

  size = model.description.preprocessing.crop.image_size
  images = np.random.default_rng(0).integers(0, 256, (rows, size, size, 3), np.uint8)
  file, _ = exported.export(model)
  began = time.monotonic()
  program = jax.jit(jax.export.deserialize(bytearray(file)).call)
  loaded = time.monotonic()
  jax.block_until_ready(program(images))
  answered = time.monotonic()
  folded = build.fold_batch_norm(model.network, model.variables, parallel.make_mesh())
  ways: dict[str, Callable[[np.ndarray], Any]] = {
    "as trained": predicting(model.network, model.variables),
    "folded": predicting(*folded),
    "program": program,
  }
  milliseconds: dict[str, list[float]] = {way: [] for way in ways}
  for turn in range(1 + turns):  # the first compiles
    for way, call in ways.items():
      started = time.process_time()
      jax.block_until_ready(call(images))
      if turn:
        milliseconds[way].append(1000 * (time.process_time() - started) / rows)
  cells = [f"{len(file) / 1e6:.1f}", f"{loaded - began:.2f}", f"{answered - loaded:.1f}"]
  cells += [f"{statistics.median(each):.1f}" for each in milliseconds.values()]
  for way, other in (("folded", "as trained"), ("program", "folded")):
    pairs = zip(milliseconds[way], milliseconds[other], strict=True)
    cells.append(f"{statistics.median(one / another for one, another in pairs):.2f}")
  return f"| {model.description.name}, {size} | {' | '.join(cells)} |"


def predicting(network: "nn.Module", variables: Any) -> Callable[[np.ndarray], Any]:
  """Pixels → probabilities, compiled when it is first called."""
  import jax

  from speedpaper_jax.steps.evaluation import make_predict_step

  step = jax.jit(make_predict_step(network))
  return lambda images: step(variables, {"image": images})


if __name__ == "__main__":
  entry_point.run(main, parse)
