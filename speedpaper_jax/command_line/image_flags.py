"""Flags of commands that show images to a network."""

from speedpaper_jax.command_line import entry_point


def add_image_size(parser: entry_point.ArgumentParser) -> None:
  """Adds `--image_size`; None for the weights' own."""
  parser.add_argument(
    "--image_size",
    type=entry_point.at_least(1, at_most=4096),
    metavar="N",
    help="pixels of the network's input (default: the weights' own)",
  )


def add_batch_size(parser: entry_point.ArgumentParser, default: int = 32) -> None:
  """Adds `--batch_size`."""
  parser.add_argument(
    "--batch_size",
    type=entry_point.at_least(1, at_most=2**20),
    default=default,
    metavar="N",
    help=f"images at a time (default: {default})",
  )
