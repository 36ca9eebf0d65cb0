"""The report of one training run, which may still be going on."""

import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
from matplotlib.ticker import MaxNLocator

from speedpaper_jax.files import rules
from speedpaper_jax.papers import expected_accuracies
from speedpaper_jax.papers.networks import NETWORKS, Published
from speedpaper_jax.reports import contents, evaluations, predictions, undecodable, unfinished
from speedpaper_jax.reports.drawing import COLORS, draw, set_log_scale
from speedpaper_jax.reports.expected import ExpectedOfRun
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration, nats, percent
from speedpaper_jax.reports.rendering import show
from speedpaper_jax.storage.run_directory import PREDICTIONS, RunDirectory
from speedpaper_jax.storage.sessions import Session

_LONGEST_LIST_OF_CLASSES = 20

_CONFIG: rules.Rules = {
  "init_from": rules.IfPresent(rules.TEXT),
  "model": {"name": rules.TEXT},
  "data": {
    "name": rules.TEXT,
    "train_split": rules.TEXT,
    "eval_split": rules.TEXT,
    "split_seed": rules.SEED,
    "image_size": rules.IMAGE_SIZE,
  },
  "duration": rules.TEXT,
  "expected_curve": rules.one_of(("", *expected_accuracies.NAMES)),
  "batch_size": rules.ROWS,
  "optimizer": {
    "name": rules.TEXT,
    "learning_rate": rules.ABOVE_ZERO,
    "base_batch_size": rules.ROWS,
  },
}
_SUMMARY: rules.Rules = {
  "steps": rules.STEP,
  "seconds": rules.AT_LEAST_ZERO,
  "eval": rules.IfPresent(contents.EVALUATION),
  "ten_crops": rules.IfPresent(contents.EVALUATION),
  "best": rules.IfPresent({"step": rules.STEP, "top1": rules.FRACTION}),
  "diverged_at": rules.IfPresent(rules.STEP),
}
_IMAGES: rules.Rules = {"split": rules.TEXT, "examples": rules.COUNT}
_OTHER_IMAGES = rules.IfPresent(_IMAGES)
_DATA: rules.Rules = {
  "train": _IMAGES,
  "eval": _IMAGES,
  "changes": rules.ListOf(
    {"until_step": rules.STEP, "train": _OTHER_IMAGES, "eval": _OTHER_IMAGES}
  ),
}
_DESCRIPTION: rules.Rules = {
  "name": rules.TEXT,
  "dialect": rules.TEXT,
  "num_classes": rules.CLASSES,
  "class_names": rules.several(rules.TEXT),
}


def present(directory: RunDirectory) -> Page:
  """Draws loss and accuracy against steps, and gives the result, or how far the run has come.

  Raises:
    UserError: a file of the run is missing or damaged, or it has only just begun.
  """
  config = contents.read_config(directory, _CONFIG)
  entries = directory.metrics()
  ended = directory.has_result()
  if ended:
    summary = contents.read(directory, "summary.json", _SUMMARY)
  else:
    summary = unfinished.so_far(directory, entries)
  description = contents.read(directory, "model.json", _DESCRIPTION)
  counted = unfinished.counted_sessions(directory, summary["steps"])
  expected = ExpectedOfRun.of(config["expected_curve"], counted)
  has_rates = any("learning_rate" in entry for entry in entries)
  for key in ("top1", "loss", *(["learning_rate"] if has_rates else [])):
    draw(directory, key, functools.partial(_paint, entries=entries, key=key, expected=expected))
  network, data = config["model"]["name"], config["data"]["name"]
  title = NETWORKS[network].title if network in NETWORKS else network
  published = NETWORKS[network].published if network in NETWORKS else ()
  return Page(
    title=f"{title} on {data}" if ended else f"{title} on {data}, not ended",
    result=result(summary) if ended else unfinished.result(config, summary, counted),
    sections=[
      Section(
        "Result" if ended else "So far",
        paragraphs=[
          # What has none on ImageNet has them elsewhere.
          *(
            [f"The papers have no numbers on {data}."]
            if published and data != "imagenet2012"
            else []
          ),
          *([] if ended else unfinished.last_end(counted)),
          *evaluations.beside_the_expected(config["expected_curve"], expected, entries),
        ],
        parts=[
          _totals(summary, counted, entries, ended),
          *([_beside_the_papers(published, summary)] if data == "imagenet2012" else []),
          evaluations.table(entries, expected),
        ],
      ),
      Section(
        "Learning curves",
        parts=[
          Figure(
            "top1",
            "Top-1 accuracy against steps, on the batches that were trained on and on held-out "
            f"images of {data}.{evaluations.caption_of(expected)}",
          ),
          Figure(
            "loss",
            "Cross-entropy against steps. On the training batches it is that of the classes "
            "alone, without L2 and auxiliary heads.",
          ),
          *([Figure("learning_rate", "The learning rate of each step.")] if has_rates else []),
        ],
      ),
      *_class_by_class(directory, description),
      Section(
        "What was trained",
        paragraphs=[
          _settings(config, description),
          _classes(description),
          *undecodable.in_words(directory, entries),
        ],
        parts=[
          *_sessions(counted),
          *_other_images(directory),
          *undecodable.table(directory),
        ],
      ),
    ],
  )


def result(summary: Mapping[str, Any]) -> str:
  """The result in a sentence; of a run that diverged it has no evaluation."""
  if "diverged_at" in summary:
    return (
      f"Training diverged: at step {summary['diverged_at']:,} the loss, the gradient or the "
      f"parameters were not finite."
    )
  metrics = summary["eval"]
  return (
    f"Top-1 accuracy on {metrics['count']:,} held-out images is {percent(metrics['top1'])}, top-5 "
    f"{percent(metrics['top5'])}, after {summary['steps']:,} steps in "
    f"{duration(summary['seconds'])}."
  )


def _class_by_class(directory: RunDirectory, description: Mapping[str, Any]) -> list[Section]:
  """What the network took each held-out image for, where the run was asked for it."""
  if not (directory.path / PREDICTIONS).exists():
    return []
  return [predictions.section(directory, description)]


def _settings(config: Mapping[str, Any], description: Mapping[str, Any]) -> str:
  data, optimizer = config["data"], config["optimizer"]
  by_seed = f", drawn with `split_seed={data['split_seed']}`" if data["split_seed"] else ""
  start = f"the weights in `{config['init_from']}`" if config.get("init_from") else "random weights"
  return (
    f"The network is `{description['name']}` as in `{description['dialect']}`, with images of "
    f"{data['image_size']}×{data['image_size']} pixels. It started from {start} and was trained "
    f"for {config['duration']} on the split `{data['train_split']}` of `{data['name']}`, in "
    f"mini-batches of {config['batch_size']}, by `{optimizer['name']}` with a learning rate that "
    f"starts at {optimizer['learning_rate']:g} for mini-batches of "
    f"{optimizer['base_batch_size']}. Held-out images are those of the split "
    f"`{data['eval_split']}`{by_seed}."
  )


def _classes(description: Mapping[str, Any]) -> str:
  names = description["class_names"]
  if not 0 < len(names) <= _LONGEST_LIST_OF_CLASSES:
    return f"There are {description['num_classes']:,} classes."
  return f"There are {len(names)} classes: {', '.join(names)}."


def _sessions(counted: Sequence[Session]) -> list[Table]:
  """The sessions of the run, where there were several, or the first are not known."""
  if not counted or (len(counted) == 1 and not counted[0].first_step):
    return []
  rows = [
    (
      f"{session.first_step + 1:,} to {session.last_step:,}",
      f"{session.epochs(session.last_step):.2f}",
      session.duration,
      session.devices,
      _changes(session),
    )
    for session in counted
  ]
  if first := counted[0].first_step:
    rows.insert(0, (f"1 to {first:,}", f"{counted[0].epochs(first):.2f}", "not known", "–", "–"))
  return [
    Table(
      ("steps", "epochs at the end", "for", "devices", "changed"),
      rows,
      "The sessions of the run, one after the other. What is said above of lengths, batches and "
      "the learning rate is that of the last.",
    )
  ]


def _other_images(directory: RunDirectory) -> list[Table]:
  """What images the run had before it went on with others."""
  if not (directory.path / "data.json").exists():  # a run of an earlier version
    return []
  data = contents.read(directory, "data.json", _DATA)
  rows = [
    (f"{change['until_step']:,}", name, f"{images['examples']:,}", images["split"])
    for change in data["changes"]
    for purpose, name in (("train", "training images"), ("eval", "held-out images"))
    if (images := change.get(purpose))
  ]
  if not rows:
    return []
  caption = (
    f"Images that the run had until a step, and then went on with others of the same classes: at "
    f"its end it had {data['train']['examples']:,} training images and "
    f"{data['eval']['examples']:,} held-out ones."
  )
  return [Table(("until step", "images", "number", "split"), rows, caption)]


def _changes(session: Session) -> str:
  changes = [
    f"{field}: {show(before)} → {show(now)}" for field, (before, now) in session.changes.items()
  ]
  if session.learning_rates:
    before, now = session.learning_rates
    changes.append(f"the learning rate at this step: {before:.3g} → {now:.3g}")
  return "; ".join(changes) or "–"


def _totals(
  summary: Mapping[str, Any],
  counted: Sequence[Session],
  entries: Sequence[Mapping[str, Any]],
  ended: bool,
) -> Table:
  rows = []
  if metrics := summary.get("eval"):
    rows = [
      ("top-1 accuracy", percent(metrics["top1"])),
      ("top-5 accuracy", percent(metrics["top5"])),
      ("cross-entropy", f"{nats(metrics['loss'])} nats"),
      ("held-out images", f"{metrics['count']:,}"),
    ]
  if metrics := summary.get("ten_crops"):
    rows += [
      ("top-1 accuracy, ten crops", percent(metrics["top1"])),
      ("cross-entropy, ten crops", f"{nats(metrics['loss'])} nats"),
    ]
  rows += [
    ("steps", f"{summary['steps']:,}"),
    *([("epochs", f"{counted[-1].epochs(summary['steps']):.2f}")] if counted else []),
    ("time, evaluations and checkpoints included", duration(summary["seconds"])),
  ]
  if "best" in summary:
    best = summary["best"]
    rows.append(("best top-1 accuracy", f"{percent(best['top1'])} after step {best['step']:,}"))
  when = "After the last step." if ended else "After the last step that is recorded so far."
  return Table(("quantity", "this run"), rows + _speed(entries), when)


def _speed(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
  """Medians over the log lines of what the run has measured."""

  def median(name: str) -> float | None:
    values = [entry[name] for entry in entries if name in entry]
    return statistics.median(values) if values else None

  rows = [
    ("speed of training", median("images_per_second"), "{:,.0f} images/s"),
    ("speed of a device", median("images_per_second_per_chip"), "{:,.1f} images/s"),
    ("time of a step", median("step_seconds"), "{:.3g} s"),
    ("of that, waiting for data", median("data_wait_seconds"), "{:.2g} s"),
    ("used part of the device's peak (MFU)", median("mfu"), "{:.1%}"),
  ]
  shown = [
    (f"{name}, median", form.format(value)) for name, value, form in rows if value is not None
  ]
  if memory := max((entry.get("memory_bytes", 0) for entry in entries), default=0):
    shown.append(("memory of a device, at most", f"{memory / 2**30:.1f} GiB"))
  return shown


def _beside_the_papers(published: Sequence[Published], summary: Mapping[str, Any]) -> Table:
  this = ("this run", "–", "–", "")
  if metrics := summary.get("eval"):
    this = ("this run", f"{100 * metrics['top1']:.2f}", f"{100 * metrics['top5']:.2f}", "")
  return Table(
    ("network", "top-1 [%]", "top-5 [%]", "arXiv"),
    [this, *published],
    "Beside the papers' networks on ImageNet's validation images: one network, one crop. Table 2 "
    "leaves out some 1,700 images whose labels are doubtful, which is worth about 0.3 % in top-1.",
  )


def _paint(
  figure: matplotlib.figure.Figure,
  entries: Sequence[Mapping[str, Any]],
  key: str,
  expected: ExpectedOfRun | None,
) -> None:
  axes = figure.subplots()
  factor, label = {
    "top1": (100, "top-1 accuracy [%]"),
    "loss": (1, "cross-entropy [nats]"),
    "learning_rate": (1, "learning rate"),
  }[key]
  for split, name, color, marker in (
    ("train", "training batches", COLORS[0], ""),
    ("eval", "held-out images", COLORS[1], "o"),
  ):
    points = [entry for entry in entries if entry["split"] == split and key in entry]
    if not points and key == "learning_rate":
      continue
    axes.plot(
      [point["step"] for point in points],
      [factor * point[key] for point in points],
      label=name,
      color=color,
      marker=marker,
    )
  if key == "top1" and expected and entries:
    steps, values = expected.line(max(entry["step"] for entry in entries))
    axes.plot(steps, factor * values, "--", label="expected", color=COLORS[2], zorder=3)
  if key == "loss":
    set_log_scale(axes)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
  axes.set_xlabel("step")
  axes.set_ylabel(label)
  if key != "learning_rate":
    axes.legend()
