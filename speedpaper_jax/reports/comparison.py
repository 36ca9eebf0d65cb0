"""The page that sets several runs side by side."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.figure
from matplotlib.ticker import MaxNLocator

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import COLORS, draw, set_log_scale
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration, percent
from speedpaper_jax.reports.rendering import flatten, show
from speedpaper_jax.storage import sessions
from speedpaper_jax.storage.run_directory import RunDirectory

_NOTHING = "–"
_CONFIG: rules.Rules = {
  "experiment": rules.IfPresent(rules.TEXT),
  "data": rules.IfPresent(
    {
      "name": rules.IfPresent(rules.TEXT),
      "eval_split": rules.IfPresent(rules.TEXT),
      "split_seed": rules.IfPresent(rules.SEED),
    }
  ),
}
_SUMMARY: rules.Rules = {
  "steps": rules.IfPresent(rules.STEP),
  "seconds": rules.IfPresent(rules.AT_LEAST_ZERO),
  "eval": rules.IfPresent(contents.EVALUATION),
  "diverged_at": rules.IfPresent(rules.STEP),
  "command": rules.IfPresent(rules.TEXT),
}
_STYLES = list(itertools.product(("-", "--", ":", "-."), COLORS))


@dataclasses.dataclass(frozen=True)
class _Run:
  """One of the runs; `summary` is None before its end, and there is no command."""

  label: str
  config: Mapping[str, Any]
  summary: Mapping[str, Any] | None
  entries: Sequence[Mapping[str, Any]]
  commands: Sequence[str]

  @classmethod
  def read(cls, directory: RunDirectory, label: str) -> "_Run":
    ended = directory.has_result()
    summary = contents.read(directory, "summary.json", _SUMMARY) if ended else {}
    counted = sessions.that_count(sessions.read(directory))
    return cls(
      label,
      dict(flatten(contents.read_config(directory, _CONFIG))),
      summary if ended else None,
      directory.metrics(),
      sessions.commands(counted, summary.get("command", "")) if ended else (),
    )

  def curve(self, split: str, name: str) -> list[tuple[int, float]]:
    return [
      (entry["step"], entry[name])
      for entry in self.entries
      if entry.get("split") == split and name in entry
    ]

  @property
  def evaluation(self) -> Mapping[str, Any]:
    """The last one; empty where there was none."""
    if self.summary is not None:
      return self.summary.get("eval", {})
    evaluations = [entry for entry in self.entries if entry.get("split") == "eval"]
    return evaluations[-1] if evaluations else {}

  @property
  def has_diverged(self) -> bool:
    return self.summary is not None and "diverged_at" in self.summary

  @property
  def evaluated_on(self) -> tuple[Any, ...]:
    """Equal for runs whose evaluations can be set against each other."""
    fields = ("experiment", "data.name", "data.eval_split", "data.split_seed")
    return (*(self.config.get(field) for field in fields), self.evaluation.get("count"))

  def last(self, name: str) -> Any:
    """Of the summary, or of the last line that a run which has not ended has written."""
    if self.summary is not None:
      return self.summary.get(name)
    return next((entry[name] for entry in reversed(self.entries) if name in entry), None)


def present(directories: Sequence[RunDirectory], drawings: RunDirectory) -> Page:
  """Sets runs side by side.

  Args:
    directories: of two runs or more, of the same experiment or not; a run that has not ended is
      shown as far as it has come.
    drawings: where the figures are drawn.

  Raises:
    UserError: a run is named twice, or a file of a run is missing or damaged.
  """
  paths = [directory.path for directory in directories]
  for path, other in itertools.combinations(paths, 2):
    if path.resolve() == other.resolve():
      raise UserError(f"'{other}' is named twice; name each run once.")
  names = [path.resolve().name for path in paths]
  labels = names if len(set(names)) == len(names) else list(map(str, paths))
  runs = [_Run.read(*pair) for pair in zip(directories, labels, strict=True)]
  return Page(
    title=f"Comparison of {len(runs)} runs",
    result=_result(runs),
    sections=[
      Section("Results", parts=[_results(runs)]),
      *_curves(runs, drawings),
      _differences(runs),
      *_commands(runs),
    ],
  )


def _result(runs: Sequence[_Run]) -> str:
  """The best run, or why there is none."""
  unfinished = [run.label for run in runs if run.summary is None]
  if unfinished:
    return f"Not all runs have ended: {', '.join(unfinished)}."
  ranked = [run for run in runs if not run.has_diverged]
  if not ranked:
    return "All runs have diverged."
  if any("top1" not in run.evaluation for run in ranked):
    return "Not every run has one accuracy as its result; their results are side by side."
  if len({run.evaluated_on for run in ranked}) > 1:
    return "The runs have not been evaluated on the same images; their results are side by side."
  best = max(ranked, key=lambda run: run.evaluation["top1"])
  metrics = best.evaluation
  equal = [run.label for run in ranked if run.evaluation["top1"] == metrics["top1"]]
  return (
    f"{' and '.join(equal)} {'has' if len(equal) == 1 else 'have'} the highest top-1 accuracy on "
    f"{metrics['count']:,} held-out images, {percent(metrics['top1'])}."
  )


def _results(runs: Sequence[_Run]) -> Table:
  def cells(run: _Run) -> list[str]:
    metrics = run.evaluation
    return [
      f"{run.label}{_remark(run)}",
      str(run.config.get("experiment", _NOTHING)),
      _format(run.last("steps") if run.summary is not None else run.last("step"), "{:,}".format),
      _format(run.last("seconds"), duration),
      *(_format(metrics.get(name), percent) for name in ("top1", "top5")),
      _format(metrics.get("loss"), "{:.4f}".format),
      _format(metrics.get("count"), "{:,}".format),
    ]

  return Table(
    ("run", "experiment", "steps", "time", "top-1", "top-5", "loss [nats]", "images"),
    list(map(cells, runs)),
    "Accuracy and cross-entropy on held-out images in the last evaluation.",
  )


def _remark(run: _Run) -> str:
  if run.summary is None:
    return " (not ended)"
  return " (diverged)" if run.has_diverged else ""


def _format(value: Any, form: Callable[[Any], str]) -> str:
  return _NOTHING if value is None else form(value)


def _curves(runs: Sequence[_Run], drawings: RunDirectory) -> list[Section]:
  figures = []
  for name, split, key, factor, label, caption in (
    ("top1", "eval", "top1", 100, "top-1 accuracy [%]", "Top-1 accuracy on held-out images"),
    ("loss", "train", "loss", 1, "cross-entropy [nats]", "Cross-entropy on training batches"),
  ):
    curves = {run.label: run.curve(split, key) for run in runs}
    if any(curves.values()):
      _draw_curves(drawings, name, curves, factor, label)
      figures.append(Figure(name, f"{caption} against steps."))
  return [Section("Learning curves", parts=figures)] if figures else []


def _draw_curves(
  drawings: RunDirectory,
  name: str,
  curves: Mapping[str, Sequence[tuple[int, float]]],
  factor: float,
  label: str,
) -> None:
  columns = 2 if max(map(len, curves)) < 36 else 1
  lines_of_legend = -(-len(curves) // columns)

  def paint(figure: matplotlib.figure.Figure) -> None:
    axes = figure.subplots()
    for (style, color), curve in zip(itertools.cycle(_STYLES), curves.values(), strict=False):
      axes.plot(
        [step for step, _ in curve],
        [factor * value for _, value in curve],
        style,
        color=color,
        marker="o" if len(curve) <= 30 else "",
        label="run",
      )
    if name == "loss":
      set_log_scale(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    legend = figure.legend(loc="outside lower center", ncols=columns)
    for text, run in zip(legend.get_texts(), curves, strict=True):
      text.set_parse_math(False)  # a directory's name may hold any character
      text.set_text(run)

  draw(drawings, name, paint, height=4.2 + 0.26 * lines_of_legend)


def _differences(runs: Sequence[_Run]) -> Section:
  fields = dict.fromkeys(field for run in runs for field in run.config)
  rows = []
  for field in fields:
    cells = [show(run.config[field]) if field in run.config else _NOTHING for run in runs]
    if len(set(cells)) > 1:
      rows.append((field, *cells))
  if not rows:
    return Section("Configs", paragraphs=["The configs are the same in every field."])
  table = Table(
    ("field", *(run.label for run in runs)),
    rows,
    f"The fields of the config in which the runs differ; the other {len(fields) - len(rows)} are "
    f"the same.",
  )
  return Section("Configs", parts=[table])


def _commands(runs: Sequence[_Run]) -> list[Section]:
  paragraphs = [
    text
    for run in runs
    if run.commands
    for text in (f"{run.label}:", *(f"`{command}`" for command in run.commands))
  ]
  return [Section("How to repeat them", paragraphs=paragraphs)] if paragraphs else []
