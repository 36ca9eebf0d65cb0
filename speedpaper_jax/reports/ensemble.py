"""The report of an ensemble: Figure 4 of the BN paper, Table 5 of that on residual connections."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from speedpaper_jax.files import rules
from speedpaper_jax.papers import batch_norm, residual_learning
from speedpaper_jax.papers.networks import NETWORKS
from speedpaper_jax.reports import contents
from speedpaper_jax.reports.drawing import COLORS, draw
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import duration, nats, percent
from speedpaper_jax.storage.run_directory import PROBABILITIES, RunDirectory

_NUMBERS = (
  *("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"),
  *("Eleven", "Twelve"),
)
_MODEL: rules.Rules = {
  "name": rules.IfPresent(rules.one_of(NETWORKS)),
  "initial_scale": rules.IfPresent(rules.ABOVE_ZERO),
  "dropout_rate": rules.IfPresent(rules.FRACTION),
}
_CONFIG: rules.Rules = {
  "base": {"data": {"name": rules.TEXT}, "model": {"name": rules.one_of(NETWORKS)}},
  "members": rules.Each({"model": rules.IfPresent(_MODEL)}),
}
_MEMBER: Mapping[str, Any] = {
  "steps": rules.STEP,
  "seconds": rules.AT_LEAST_ZERO,
  "image_size": rules.IMAGE_SIZE,
  **contents.EVALUATION,
}
_SUMMARY: rules.Rules = {
  "seconds": rules.AT_LEAST_ZERO,
  "members": rules.Each(_MEMBER),
  "ensemble": contents.EVALUATION,
  "by_count": rules.ListOf(
    {
      "count": rules.COUNT,
      "subsets": rules.COUNT,
      "mean": rules.FRACTION,
      "lowest": rules.FRACTION,
      "highest": rules.FRACTION,
    }
  ),
}


def present(directory: RunDirectory) -> Page:
  """Draws the error against the number of members, and sets the papers' numbers beside ours.

  Raises:
    UserError: a file of the ensemble is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  summary = contents.read(directory, "summary.json", _SUMMARY)
  names, curve = list(summary["members"]), summary["by_count"]
  if len(names) < 2:
    raise contents.damaged(directory, "summary.json", "members has not two of them.")
  if [row["count"] for row in curve] != list(range(1, len(names) + 1)):
    raise contents.damaged(directory, "summary.json", "by_count has not each number of members.")
  if missing := [name for name in names if name not in config["members"]]:
    raise contents.damaged(directory, "config.json", f"members lacks '{missing[0]}'.")
  networks = [_network(config, name) for name in names]
  draw(directory, "error", lambda figure: _paint(figure, summary), 7.5, 4.6)
  data = config["base"]["data"]["name"]
  return Page(
    title=f"An ensemble of {len(names)} networks on {data}",
    result=_result(summary),
    sections=[
      Section(
        "Result",
        paragraphs=[
          "The ensemble's probability of a class is the mean of its members', with equal weights.",
        ],
        parts=[
          Figure(
            "error",
            f"Top-1 error on the held-out images of {data} against the number of members: "
            f"{_of_subsets(curve)}. Circles are single members.",
          ),
          _members(config, summary, names, networks),
          *_papers(summary, networks),
        ],
      ),
      Section(
        "To go on",
        paragraphs=[
          f"Each member's network is in `runs/`, and `{PROBABILITIES}` has what each said of each "
          "image: `probabilities`, `labels` and the names of the `members`. Where DIRECTORY is "
          "this run's, the command evaluates them anew, and by its flags on other images, say.",
          "`python -m speedpaper_jax.evaluate DIRECTORY/runs/*`",
        ],
      ),
    ],
  )


def _network(config: Mapping[str, Any], name: str) -> str:
  """Which network a member is."""
  network: str = (
    config["members"][name].get("model", {}).get("name", config["base"]["model"]["name"])
  )
  return network


def _error(found: Mapping[str, Any], top: str = "top1") -> str:
  return f"{100 * (1 - found[top]):.2f}"


def _result(summary: Mapping[str, Any]) -> str:
  single, *_ = summary["by_count"]
  count = len(summary["members"])
  of_members = (
    f"errors of {100 * single['lowest']:.2f} to {percent(single['highest'])}"
    if single["lowest"] < single["highest"]
    else f"errors of {percent(single['lowest'])}"
  )
  return (
    f"{_NUMBERS[count] if count < len(_NUMBERS) else count} networks with {of_members} make an "
    f"ensemble with {percent(1 - summary['ensemble']['top1'])}. Their training took "
    f"{duration(summary['seconds'])}."
  )


def _of_subsets(curve: Sequence[Mapping[str, Any]]) -> str:
  if len(curve) > 1 and all(row["subsets"] == 1 for row in curve):
    return "the first so many of them"
  return "the mean, the lowest and the highest of all ensembles of so many of them"


def _paint(figure: matplotlib.figure.Figure, summary: Mapping[str, Any]) -> None:
  axes = figure.subplots()
  curve = summary["by_count"]
  counts = [row["count"] for row in curve]
  axes.fill_between(
    counts,
    [row["lowest"] for row in curve],
    [row["highest"] for row in curve],
    color=COLORS[0],
    alpha=0.2,
    linewidth=0,
    label="lowest to highest",
  )
  axes.plot(counts, [row["mean"] for row in curve], "o-", color=COLORS[0], label="mean")
  singles = [1 - member["top1"] for member in summary["members"].values()]
  axes.plot(
    [1] * len(singles),
    singles,
    "o",
    color=COLORS[1],
    markersize=8,
    fillstyle="none",
    label="single members",
    clip_on=False,
    zorder=3,
  )
  axes.set_xlabel("members of the ensemble")
  axes.set_ylabel("top-1 error [%]")
  axes.set_ylim(bottom=0)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  highest = max(*singles, *(row["highest"] for row in curve))
  axes.yaxis.set_major_formatter(
    PercentFormatter(1.0, decimals=0 if highest > 0.05 else 1, symbol="")
  )
  axes.legend()


def _members(
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  names: Sequence[str],
  networks: Sequence[str],
) -> Table:
  rows = [
    (
      name,
      NETWORKS[network].title,
      ", ".join(_changes(config["members"][name])) or "nothing",
      *_numbers(summary["members"][name]),
    )
    for name, network in zip(names, networks, strict=True)
  ]
  pixels = {member["image_size"] for member in summary["members"].values()}
  size = f"{pixels.pop()}" if len(pixels) == 1 else "their own numbers of"
  rows.append(("ensemble", "–", "–", *_numbers(summary["ensemble"])))
  return Table(
    ("member", "network", "changed", "top-1 error [%]", "top-5 error [%]", "loss [nats]"),
    rows,
    f"Each member by itself, and the ensemble, on {summary['ensemble']['count']:,} held-out images "
    f"of {size} pixels, one crop. What is changed is so in comparison with the config's base.",
  )


def _numbers(found: Mapping[str, Any]) -> tuple[str, str, str]:
  return _error(found), _error(found, "top5"), nats(found["loss"])


def _changes(changes: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
  """Fields and values, in words where there are such; the network has a column of its own."""
  for key, value in changes.items():
    field = f"{prefix}{key}"
    if isinstance(value, Mapping):
      yield from _changes(value, f"{field}.")
    elif field == "model.initial_scale":
      yield f"initial weights {value:g} times as large"
    elif field == "model.dropout_rate":
      yield f"dropout {100 * value:g} %"
    elif field == "batch_norm.per_activation":
      yield f"batch normalization of each activation in {value}"
    elif field == "seed":
      yield f"seed {value}"
    elif field != "model.name":
      yield f"{field} = {value}"


def _papers(summary: Mapping[str, Any], networks: Sequence[str]) -> Iterator[Table]:
  """The table beside the paper's, where a paper has such an ensemble."""
  if set(networks) == {"bn_inception"}:
    source, rows = "Figure 4 of the paper on batch normalization", list(_figure_4())
  elif set(networks) == {"inception_v4", "inception_resnet_v2"}:
    source, rows = "Tables 2, 4 and 5 of the paper on residual connections", list(_table_5())
  else:
    return
  count = f"{summary['ensemble']['count']:,} held-out images"
  single = 100 * summary["by_count"][0]["mean"]
  ours = [
    ("here: the members, on average", "1", count, f"{single:.2f}", _mean_top5(summary)),
    (f"here: ensemble of {len(networks)}", "1", count, *_numbers(summary["ensemble"])[:2]),
  ]
  yield Table(
    ("network", "crops", "images", "top-1 error [%]", "top-5 error [%]"),
    [*ours, *rows],
    f"Beside {source}, whose images are ImageNet's. Errors on validation images and on test images "
    "are not to be compared with each other.",
  )


def _mean_top5(summary: Mapping[str, Any]) -> str:
  errors = [1 - member["top5"] for member in summary["members"].values()]
  return f"{100 * sum(errors) / len(errors):.2f}"


_VALIDATION, _TEST = "50,000 validation images", "100,000 test images, by the test server"


def _figure_4() -> Iterator[tuple[str, ...]]:
  for name, row in batch_norm.FIGURE_4.items():
    yield f"paper: {name}", str(row.crops), _VALIDATION, f"{row.top1}", f"{row.top5}"
  yield f"paper: {name}", str(row.crops), _TEST, "–", f"{batch_norm.FIGURE_4_TEST_TOP5}"


def _table_5() -> Iterator[tuple[str, ...]]:
  few = "validation images, without some 1,700"
  for network in ("inception_v4", "inception_resnet_v2"):
    name = f"paper: {NETWORKS[network].title}"
    for crops, images, table in (
      ("1", few, residual_learning.TABLE_2),
      ("144", _VALIDATION, residual_learning.TABLE_4),
    ):
      yield name, crops, images, f"{table[network].top1}", f"{table[network].top5}"
  for name, errors in residual_learning.TABLE_5.items():
    ensemble = " ".join(NETWORKS[word].title if word in NETWORKS else word for word in name.split())
    yield f"paper: {ensemble}", "144", _VALIDATION, f"{errors.top1}", f"{errors.top5}"
  yield f"paper: {ensemble}", "144", _TEST, "–", f"{residual_learning.TABLE_5_TEST_TOP5}"
