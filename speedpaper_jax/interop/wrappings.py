"""What training scripts wrap around a state dict: entries of a checkpoint, and prefixes of names.

Such as `{"state_dict": {"module.conv1.weight": …}, "state_dict_ema": …, "optimizer": …}`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from speedpaper_jax.errors import UserError, did_you_mean, inform

# Entries and prefixes that hold the weights as they were trained; the first one that is there.
_TRAINED = (
  "state_dict",
  "model_state_dict",
  "model_state",
  "model",
  "network",
  "net",
  "module",
  "_orig_mod",
  "backbone",
)
# Their moving average, which the file has beside them.
_AVERAGED = re.compile(r"(^|_)(ema|swa|avg|averaged?)(_|$)")
# More than anything nests.
_DEEPEST = 8


def unwrap(content: Mapping[str, Any], key: str | None, source: str) -> dict[str, Any]:
  """Finds the state dict in a checkpoint, and takes off what wrappers put before its names.

  What is left out that looks like weights is reported.

  Args:
    content: of the checkpoint; a state dict itself is returned as it is.
    key: of the entry or prefix to take, such as "state_dict_ema", at any depth; None for the
      weights as they were trained, rather than their moving average.
    source: what the checkpoint is called in messages.

  Returns:
    Name → tensor, but whatever stands among the tensors comes with them.

  Raises:
    UserError: there is no such key, or several state dicts of which none is the usual one.
  """
  seen: dict[str, None] = {}
  found = key is None
  for _ in range(_DEEPEST):
    parts = _parts(content, None if found else key)
    seen |= dict.fromkeys(parts)
    if not parts:
      break
    if not found and key in parts:
      choice, found = str(key), True
    else:
      choice = _usual(parts, source)
    _report_others(content, parts, choice, source)
    content = parts[choice]
  if not found:
    way_out = did_you_mean(str(key), seen) if seen else " Leave --weights_key out."
    raise UserError(f"{source} has no weights under '{key}'.{way_out}")
  return dict(content)


def _parts(content: Mapping[str, Any], key: str | None) -> dict[str, Mapping[str, Any]]:
  """The state dicts in a mapping: its entries, and tensors whose names share a prefix."""
  parts: dict[str, Any] = {}
  for name, value in content.items():
    prefix, dot, rest = name.partition(".") if isinstance(name, str) else ("", "", "")
    if dot and _is_tensor(value) and (prefix == key or _is_wrapper(prefix)):
      parts.setdefault(prefix, {})[rest] = value
  return parts | {name: value for name, value in content.items() if _holds_weights(value)}


def _holds_weights(value: Any) -> bool:
  """Whether there is a state dict in a value; an optimizer numbers its tensors, and has no names.

  It looks no deeper than anything nests, and at each mapping once, as one may contain itself.
  """
  level, seen = [value], set[int]()
  for _ in range(_DEEPEST):
    mappings = [each for each in level if isinstance(each, Mapping) and id(each) not in seen]
    seen |= set(map(id, mappings))
    named = [
      (name, part)
      for mapping in mappings
      for name, part in mapping.items()
      if isinstance(name, str)
    ]
    if any("." in name and _is_tensor(part) for name, part in named):
      return True
    level = [part for _, part in named]
  return False


def _usual(parts: Mapping[str, Any], source: str) -> str:
  trained = [name for name in _TRAINED if name in parts]
  others = [name for name in parts if name not in trained and not _AVERAGED.search(name)]
  if trained:
    return trained[0]
  if len(others) > 1:
    listed = ", ".join(f"'{name}'" for name in others)
    raise UserError(f"{source} holds several state dicts, {listed}; choose with --weights_key.")
  return next(iter(others or parts))


def _report_others(
  content: Mapping[str, Any], parts: Mapping[str, Any], choice: str, source: str
) -> None:
  others = [name for name in parts if name != choice]
  if others:
    inform(
      f"Note: the weights under '{choice}' of {source} are taken; those under {_listed(others)} "
      f"are left out, and --weights_key={others[0]} takes them."
    )
  elif _AVERAGED.search(choice):
    inform(f"Note: the weights under '{choice}' of {source} are a moving average.")
  beside = [
    name
    for name, value in content.items()
    if _is_tensor(value) and str(name).partition(".")[0] not in parts
  ]
  if beside:
    inform(
      f"Note: {_listed(beside)} of {source} {'is' if len(beside) == 1 else 'are'} left out, "
      f"beside the weights under '{choice}'."
    )


def _is_wrapper(prefix: str) -> bool:
  return prefix in _TRAINED or bool(_AVERAGED.search(prefix))


def _is_tensor(value: Any) -> bool:
  return hasattr(value, "shape") and hasattr(value, "dtype")


def _listed(names: Iterable[str]) -> str:
  first, *more = names
  if not more:
    return f"'{first}'"
  return f"'{first}', '{more[0]}'" if len(more) == 1 else f"'{first}' and {len(more)} more"
