"""The evaluations of a training run in its report, beside what is expected of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from speedpaper_jax.reports.expected import ExpectedOfRun
from speedpaper_jax.reports.page import Table
from speedpaper_jax.reports.quantities import nats, percent

_LONGEST_TABLE = 20
_EVALUATED = {"top1", "top5", "loss"}
_NOTHING = "–"


def whole(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """Evaluations that have all their results, of which top-1 is a number."""
  return [
    entry
    for entry in entries
    if entry["split"] == "eval" and entry.keys() >= _EVALUATED and not math.isnan(entry["top1"])
  ]


def beside_the_expected(
  name: str, expected: ExpectedOfRun | None, entries: Sequence[Mapping[str, Any]]
) -> list[str]:
  """The newest evaluation of which an accuracy is expected, in a sentence."""
  if not name:
    return []
  if expected is None:
    return [f"The curve `{name}` is left out: in which epoch each step was is not known."]
  for entry in reversed(whole(entries)):
    if (published := expected.at(entry["step"])) is not None:
      more = entry["top1"] - published
      return [
        f"At epoch {expected.epoch(entry['step']):.2f} top-1 accuracy is "
        f"{percent(entry['top1'])}, and {percent(published)} is expected by "
        f"{expected.expectation.source}: this run is {percent(abs(more))} "
        f"{'above' if more >= 0 else 'below'} it."
      ]
  first, last = expected.expectation.curve.positions[[0, -1]]
  return [
    f"Top-1 accuracy is expected by {expected.expectation.source}, which goes from epoch "
    f"{first:.0f} to {last:.0f}; there is no evaluation in these."
  ]


def caption_of(expected: ExpectedOfRun | None) -> str:
  """Where what is expected was published, for captions."""
  return f" Expected: {expected.expectation.source}." if expected else ""


def table(entries: Sequence[Mapping[str, Any]], expected: ExpectedOfRun | None) -> Table:
  """The evaluations, or some of them where there are many."""
  evaluations = [
    entry for entry in entries if entry["split"] == "eval" and entry.keys() >= _EVALUATED
  ]
  shown = evenly_spaced(evaluations, _LONGEST_TABLE)
  which = "Evaluations" if len(shown) == len(evaluations) else "Some of the evaluations"
  columns = ["step", "top-1 [%]", "top-5 [%]", "cross-entropy [nats]"]
  if expected:
    columns[1:2] = ["epoch", "top-1 [%]", "expected [%]", "difference [%]"]
  return Table(
    columns,
    [
      (
        f"{entry['step']:,}",
        *(_epoch(entry, expected) if expected else ()),
        f"{100 * entry['top1']:.2f}",
        *(_difference(entry, expected) if expected else ()),
        f"{100 * entry['top5']:.2f}",
        nats(entry["loss"]),
      )
      for entry in shown
    ],
    f"{which} on held-out images.{caption_of(expected)}",
  )


def _epoch(entry: Mapping[str, Any], expected: ExpectedOfRun) -> tuple[str]:
  return (f"{expected.epoch(entry['step']):.2f}",)


def _difference(entry: Mapping[str, Any], expected: ExpectedOfRun) -> tuple[str, str]:
  """The expected accuracy, and how far the run's is above it."""
  published = expected.at(entry["step"])
  if published is None:
    return _NOTHING, _NOTHING
  return f"{100 * published:.2f}", f"{100 * (entry['top1'] - published):+.2f}"


def evenly_spaced(values: Sequence[Any], count: int) -> list[Any]:
  """At most `count` of the values, the first and the last among them."""
  if len(values) <= count:
    return list(values)
  return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]
