"""Layers of a network by their names, as a config chooses them.

A layer is named by the modules that it is in, with slashes, as in "inception_3a/branch_1x1/conv".
A pattern chooses a layer with all that is in it; "*" and "?" stand for any characters.
"""

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from speedpaper_jax.errors import UserError, did_you_mean

PyTree = Any

# All but the heads; no module has this name.
TRUNK = "trunk"
# Names of modules: the softmax layer of a head, and auxiliary heads whole.
SOFTMAX_LAYER = "logits"
AUXILIARY_HEADS = ("aux", "aux1", "aux2")


def read_patterns(text: str) -> tuple[str, ...]:
  """The patterns of a config's field, which has commas between them."""
  return tuple(pattern for part in text.split(",") if (pattern := part.strip()))


def is_chosen(path: Sequence[str], patterns: Iterable[str]) -> bool:
  """Whether one of the patterns chooses what is at a path.

  Args:
    path: names of modules from the network's root on; a parameter's own name may be the last.
    patterns: as of `read_patterns`.
  """
  names = ["/".join(path[: end + 1]) for end in range(len(path))]
  return any(
    not is_of_a_head(path) if pattern == TRUNK else bool(fnmatch.filter(names, pattern))
    for pattern in patterns
  )


def is_of_a_head(path: Sequence[str]) -> bool:
  """Whether a path is that of a softmax layer, or in an auxiliary head."""
  return SOFTMAX_LAYER in path or any(head in path[:1] for head in AUXILIARY_HEADS)


def mask(variables: PyTree, patterns: Iterable[str]) -> PyTree:
  """True for each array of `params` or `batch_stats` that is in a layer that is chosen."""
  patterns = tuple(patterns)
  return jax.tree_util.tree_map_with_path(
    lambda path, _: is_chosen([key.key for key in path], patterns), variables
  )


def check(patterns: Iterable[str], paths: Sequence[Sequence[str]], field: str) -> None:
  """Checks that each pattern chooses something, and that something is left.

  Args:
    patterns: as of `read_patterns`.
    paths: of all parameters.
    field: of the config, for the message.

  Raises:
    UserError: a pattern chooses no layer, or they choose all of them.
  """
  patterns = list(patterns)
  check_known(patterns, paths, field, "layer of the network")
  if patterns and all(is_chosen(path, patterns) for path in paths):
    raise UserError(f"{field} leaves nothing to train; leave one layer out of it at least.")


def check_known(
  patterns: Iterable[str], paths: Sequence[Sequence[str]], field: str, kind: str
) -> None:
  """Checks that each pattern chooses something.

  Args:
    patterns: as of `read_patterns`.
    paths: of all arrays that there are to choose.
    field: of the config, for the message.
    kind: of layer that is to be chosen, for the message.

  Raises:
    UserError: a pattern chooses nothing.
  """
  for pattern in patterns:
    if not any(is_chosen(path, [pattern]) for path in paths):
      layers = dict.fromkeys(path[0] for path in paths)
      raise UserError(
        f"{field} has '{pattern}', which is no {kind}."
        f"{did_you_mean(pattern, [TRUNK, *layers]) if layers else ''}"
      )
