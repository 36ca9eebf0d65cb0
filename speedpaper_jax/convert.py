"""Converts weights: `python -m speedpaper_jax.convert --model=NAME --weights=FILE --out=DIR`.

`--to=torch --weights=DIR --out=FILE` goes the other way.
"""

import argparse
import pathlib
from collections.abc import Sequence

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.files import regular_files

_BACKGROUND = 1001  # ImageNet's classes with a background class first, as TensorFlow had them


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.convert",
    description="Converts weights between PyTorch's files and model directories.",
  )
  parser.add_argument(
    "--to", choices=("jax", "torch"), default="jax", help="whose form to write (default: jax)"
  )
  parser.add_argument("--model", metavar="NAME", help="such as inception_v4")
  parser.add_argument(
    "--dialect", metavar="NAME", help="whose implementation (default: the only one in PyTorch)"
  )
  parser.add_argument(
    "--weights",
    required=True,
    type=pathlib.Path,
    metavar="PATH",
    help="a checkpoint of PyTorch's, .safetensors, or Keras's .h5 or .keras; with --to=torch a "
    "model directory",
  )
  parser.add_argument(
    "--weights_key",
    metavar="NAME",
    help="of several state dicts in a checkpoint, such as state_dict_ema (default: the one that "
    "was trained, not its moving average)",
  )
  parser.add_argument(
    "--out",
    required=True,
    type=pathlib.Path,
    metavar="PATH",
    help="model directory to write; with --to=torch a .pth or .safetensors",
  )
  parser.add_argument(
    "--num_classes",
    type=entry_point.at_least(0, at_most=2**20),
    metavar="N",
    help="1000 drops the background class of a file of 1001, 0 the softmax layer (default: the "
    "file's, but 1000 for 1001)",
  )
  parser.add_argument(
    "--class_names", type=pathlib.Path, metavar="FILE", help="one a line (default: ImageNet's)"
  )
  parser.add_argument(
    "--image_size",
    type=entry_point.at_least(1, at_most=4096),
    metavar="N",
    help="pixels (default: the published weights')",
  )
  parser.add_argument("--channels", metavar="RGB|BGR", help="of the input it was trained with")
  for name in ("mean", "std"):
    parser.add_argument(
      f"--{name}",
      type=float,
      nargs=3,
      metavar="X",
      help=f"{name} of its input's channels, in pixel values from 0 to 255",
    )
  parser.add_argument(
    "--source",
    metavar="PACKAGE",
    help="with --to=torch: whose names, where several packages have the network",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Converts in the direction that the flags name."""
  if options.to != "torch" and options.model is None:
    raise UserError("Name the network that the weights are of, as in --model=inception_v4.")
  entry_point.set_up_jax()
  if options.to == "torch":
    _to_torch(options)
  else:
    _to_jax(options)


def _to_jax(options: argparse.Namespace) -> None:
  import dataclasses

  from speedpaper_jax.data.normalization import Normalization
  from speedpaper_jax.inference import model_directory
  from speedpaper_jax.interop import conversion, directories, files

  model_directory.check_vacant(options.out)
  class_names = _read_class_names(options.class_names) if options.class_names else None
  state_dict = files.read(options.weights, options.weights_key)
  weights = conversion.read_weights(
    options.model,
    options.dialect,
    state_dict,
    options.num_classes,
    options.image_size,
    str(options.weights),
  )
  for note in weights.notes:
    print(f"Note: {note}")
  names = weights.names
  normalization = Normalization(
    options.channels or names.normalization.channels,
    tuple(options.mean or names.normalization.mean),
    tuple(options.std or names.normalization.std),
  )
  directories.write(
    options.out,
    options.model,
    weights,
    dataclasses.replace(names.preprocessing, normalization=normalization),
    _fit_class_names(class_names, weights.num_classes, options.class_names),
    f"{options.weights.name}, SHA-256 {directories.sha256(options.weights)}",
  )
  classes = f"{weights.num_classes} classes" if weights.num_classes else "no classes"
  dropped = ", background class dropped" if weights.dropped_background else ""
  print(
    f"{options.model} ({names.dialect}), {len(state_dict)} tensors, {classes}{dropped}\n"
    f"input: {normalization.channels}, mean {list(normalization.mean)}, std "
    f"{list(normalization.std)}, {names.image_size}×{names.image_size}\nwritten to {options.out}"
  )


def _to_torch(options: argparse.Namespace) -> None:
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import model_directory
  from speedpaper_jax.interop import conversion, files

  files.check(options.out)
  loaded = model_directory.load(options.weights, parallel.make_mesh())
  state_dict = conversion.state_dict_of(loaded, options.source)
  files.write(options.out, state_dict)
  print(f"{loaded.description.name} ({loaded.description.dialect}), {len(state_dict)} tensors")
  print(f"written to {options.out}")


def _read_class_names(path: pathlib.Path) -> list[str]:
  """One a line of UTF-8; white space around them does not count, nor do empty lines at the end."""
  try:
    text = regular_files.read(path).decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise UserError(f"{path} is not in UTF-8 ({error.reason}); save it in UTF-8.") from error
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}.") from error
  lines: dict[int, str] = dict(enumerate((line.strip() for line in text.rstrip().split("\n")), 1))
  for number, name in lines.items():
    if not name:
      raise UserError(f"Line {number} of {path} is empty; put the name of a class there.")
    if not name.isprintable():
      raise UserError(f"Line {number} of {path} is no text ({name!r:.40}); save it in UTF-8.")
  names = list(lines.values())
  repeated = sorted({name for name in names if names.count(name) > 1})
  if repeated:
    warn(
      f"{path} gives several classes one name, '{repeated[0]}', so that images in folders of that "
      f"name cannot be distinguished."
    )
  return names


def _fit_class_names(
  names: list[str] | None, num_classes: int, path: pathlib.Path | None
) -> list[str]:
  """As many names as there are classes: those that were given, ImageNet's, or none."""
  if names is not None:
    if len(names) != num_classes:
      raise UserError(f"{path} has {len(names)} names, but there are {num_classes} classes.")
    return names
  from speedpaper_jax.data.imagenet_classes import class_names

  imagenet: dict[int, list[str]] = {
    1000: class_names(),
    _BACKGROUND: ["background", *class_names()],
  }
  return imagenet.get(num_classes, [])


if __name__ == "__main__":
  entry_point.run(main, parse)
