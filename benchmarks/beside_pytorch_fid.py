"""FID beside pytorch-fid's: `python -m benchmarks.beside_pytorch_fid --folder=FOLDER`.

The images of a folder are divided into two halves, every other one in order of their names. Both
take the same network, with random weights and the batch statistics of a photograph's parts: neither
fetches the published file. It needs PyTorch and the packages of requirements-references.txt.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.errors import UserError

_SIZE = 299
_FEWEST = 4  # a covariance takes two images


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.beside_pytorch_fid",
    description="Computes the Fréchet inception distance of two halves of a folder's images, and "
    "pytorch-fid's of the same.",
  )
  parser.add_argument("--folder", type=pathlib.Path, required=True, metavar="DIR", help="of images")
  parser.add_argument(
    "--images",
    type=entry_point.at_least(_FEWEST),
    metavar="N",
    help="the first so many, in order of their names (default: all)",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints both numbers, their relative difference, and the seconds that each takes."""
  entry_point.set_up_jax()
  found = find_images([options.folder])[: options.images]
  if len(found) < _FEWEST:
    raise UserError(f"'{options.folder}' has {len(found)} images; two halves take {_FEWEST}.")
  from speedpaper_jax.interop import files, published

  module = network()
  with tempfile.TemporaryDirectory() as name:
    scratch = pathlib.Path(name)
    os.environ["XDG_CACHE_HOME"] = name  # where the converted weights go
    halves = [linked(scratch / str(half), found[half::2]) for half in range(2)]
    files.write(scratch / "it.pth", {k: v.numpy() for k, v in module.state_dict().items()})
    directory = published.of_file(scratch / "it.pth", "inception_v3", "fid")
    began = time.monotonic()
    out = scratch / "fid.json"
    flags = [f"--weights={directory}", f"--json={out}"]
    subprocess.run([sys.executable, "-m", "speedpaper_jax.fid", *halves, *flags], check=True)
    ours, of_ours = json.loads(out.read_text(encoding="utf-8"))["fid"], time.monotonic() - began
    began = time.monotonic()
    theirs, of_theirs = pytorch_fid(module, halves), time.monotonic() - began
  print(f"{len(found[::2]):,} and {len(found[1::2]):,} images")
  print(f"ours: {ours:.6f}, in {of_ours:.0f} s")
  print(f"pytorch-fid: {theirs:.6f}, in {of_theirs:.0f} s")
  print(f"relative difference: {abs(ours / theirs - 1):.1e}")


def network() -> Any:
  """pytorch-fid's, in float32."""
  from speedpaper_jax.interop import images
  from speedpaper_jax.interop.names import implementation
  from speedpaper_jax.interop.pair import make_pair

  names = implementation("inception_v3", "pytorch-fid")
  pair = make_pair("inception_v3", names, 1008, _SIZE)
  reference: Any = pair.reference
  reference.calibrate(images.of_photograph(4, _SIZE))
  return reference.module.float()


def linked(folder: pathlib.Path, paths: Sequence[pathlib.Path]) -> pathlib.Path:
  """A folder of links to the images."""
  folder.mkdir()
  for number, path in enumerate(paths):
    (folder / f"{number:06}{path.suffix}").symlink_to(path.resolve())
  return folder


def pytorch_fid(module: Any, halves: Sequence[pathlib.Path]) -> float:
  """Its distance; it takes images of several sizes one by one."""
  from speedpaper_jax.interop import references

  inception: Any = references.import_package("pytorch_fid.inception")
  fid_score = references.import_package("pytorch_fid.fid_score")
  inception.fid_inception_v3 = lambda: module
  distance = fid_score.calculate_fid_given_paths(
    [str(half) for half in halves], batch_size=1, device="cpu", dims=2048, num_workers=1
  )
  return float(distance)


if __name__ == "__main__":
  entry_point.run(main, parse)
