"""The recipes for ImageNet as a page, docs/recipes.md: `python -m benchmarks.recipes`.

Its chip-hours are those of benchmarks/chip_hours.csv, by `speedpaper_jax.compile_check`. With
`--compile` those that are missing there are asked of the TPU's compiler first, one after the other;
this takes minutes each, and `pip install "jax[tpu]"`.
"""

import argparse
import csv
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from speedpaper_jax import compile_check
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.compilation import chips
from speedpaper_jax.config import files as config_files
from speedpaper_jax.config.bn_recipe import VARIANTS, paper_recipe
from speedpaper_jax.config.imagenet_recipes import RECIPES
from speedpaper_jax.config.recipe import Exponential, Recipe
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.files import output_files
from speedpaper_jax.papers import expected_accuracies

PAGE = pathlib.Path("docs/recipes.md")
CHIP_HOURS = pathlib.Path(__file__).parent / "chip_hours.csv"
# A chip for each replica, so that statistics are a chip's own; the smallest slice has four.
_SLICES = {1: "v5e:2x2", 8: "v5e:2x4", 32: "v5e:4x8"}
_EPOCHS = (1, 2, 3, 5, 10, 30, 50, 100, 150, 200)
_BATCHES = (256, 1024, 8192)
_NOTHING = "–"


class Named(NamedTuple):
  """A recipe of a network, as a config's arguments choose it."""

  network: str
  recipe: str
  numbers: Recipe

  @property
  def arguments(self) -> str:
    """Of the config, after `data=imagenet2012`."""
    return self.recipe.replace(" ", ",") if "=" in self.recipe else f"recipe={self.recipe}"


def all_recipes() -> list[Named]:
  """Network after network; the paper's of BN-Inception once for each variant."""
  found = []
  for network in RECIPES:
    if network == "bn_inception":
      found += [
        Named(network, f"variant={name}", paper_recipe(variant))
        for name, variant in VARIANTS.items()
      ]
    found += [Named(network, name, recipe) for name, recipe in RECIPES[network].items()]
  return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.recipes", description=f"Writes {PAGE} from the recipes' numbers."
  )
  parser.add_argument(
    "--compile",
    action="store_true",
    help="first compile, for a slice of TPU v5e, the recipes whose chip-hours are not known",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Writes the page."""
  if options.compile:
    compile_missing()
  output_files.write(PAGE, page())


def read_chip_hours() -> dict[tuple[str, str], tuple[str, float]]:
  """Slice and chip-hours of each network and recipe that is known.

  Raises:
    UserError: the file is missing or damaged.
  """
  try:
    header, *rows = csv.reader(CHIP_HOURS.read_text(encoding="utf-8").splitlines())
    if header != ["network", "recipe", "slice", "chip_hours"]:
      raise ValueError(f"its first line is {header}")
    return {(network, recipe): (slice_, float(hours)) for network, recipe, slice_, hours in rows}
  except (OSError, ValueError) as error:
    raise UserError(
      f"'{CHIP_HOURS}' is missing or damaged ({error}); `git checkout {CHIP_HOURS.name}` in its "
      "directory restores it."
    ) from error


def compile_missing() -> None:
  """Adds a line to the file for each recipe that is not there."""
  known = read_chip_hours()
  for each in all_recipes():
    if (each.network, each.recipe) in known:
      continue
    config = config_files.load(f"configs/{each.network}.py:data=imagenet2012,{each.arguments}")
    topology = _SLICES[each.numbers.replicas]
    print(f"{each.network}, {each.recipe}, {topology}", flush=True)
    devices = compile_check.slice_devices(topology)
    chip = chips.find(devices[0].device_kind)
    assert chip is not None
    try:
      report = compile_check.check(config, chip, compile_check.slice_shape(topology), devices)
    except UserError as error:  # it does not fit
      warn(str(error))
      continue
    seconds = list(report.step_seconds.values())[-1]
    with CHIP_HOURS.open("a", encoding="utf-8") as file:
      file.write(f"{each.network},{each.recipe},{topology},{report.chip_hours(seconds):.1f}\n")


_TOP = """# Recipes for ImageNet

Written by `python -m benchmarks.recipes` from
[`config/imagenet_recipes.py`](../speedpaper_jax/config/imagenet_recipes.py) and
[`config/bn_recipe.py`](../speedpaper_jax/config/bn_recipe.py). Nothing on this page was measured
here: no network has been trained on ImageNet with it yet.

```sh
python -m speedpaper_jax.main --config=configs/inception_v3.py:data=imagenet2012
python -m speedpaper_jax.main --config=configs/inception_v3.py:data=imagenet2012,recipe=authors
python -m speedpaper_jax.main --config=configs/inception_v3.py:data=imagenet2012,recipe=modern
```

`recipe=paper` is the default: what the network's paper says; of BN-Inception there is one for each
`variant`. `authors` is what the authors published as TensorFlow code, or the nearest of theirs, and
`modern` GluonCV's recipe: a large synchronous batch, a cosine after a warm-up, label smoothing and
mixup.

While such a run trains, each evaluation has the published accuracy of its epoch beside it, where
there is one, and `python -m speedpaper_jax.report DIRECTORY` draws both, before the run has ended,
too. `config.expected_curve` is the name of the curve.

A recipe belongs to its batch. With another one (`--config.batch_size=8192`) the rate grows in
proportion, and the decays follow: `config.decay_batch_size` is the batch that they are of, and
decay^(batch / that) remembers as many images. The statistics stay those of as many images as a
replica has.
"""


def page() -> str:
  """The page's Markdown."""
  recipes, hours = all_recipes(), read_chip_hours()
  sections = [
    _TOP,
    "## The recipes\n\n" + _table(_NUMBERS_HEADER, [_numbers(each, hours) for each in recipes]),
    _AFTER_THE_NUMBERS,
    f"## What is expected on the way\n\n{_EXPECTED.strip()}\n\n{_expected_table(recipes)}",
    f"## Decays at other batches\n\n{_DECAYS}\n\n{_decays_table(recipes)}",
    "## Where the numbers are from\n\n" + "\n\n".join(_sources(recipes)),
  ]
  return "\n".join(f"{section.strip()}\n" for section in sections)


_NUMBERS_HEADER = (
  *("network", "recipe", "batch", "replicas", "optimiser", "rate", "L2", "smoothing, mixup"),
  *("decay of statistics", "of the average", "epochs", "top-1 [%]", "chip-hours"),
)
_AFTER_THE_NUMBERS = """
Each replica normalises its own part of the batch, in groups of batch over replicas, however many
devices there are. RMSProp has decay 0.9, momentum 0.9 and ε = 1; SGD has momentum 0.9. Top-1 is
what others published of one crop, and how far a run of the whole recipe may be from it; "none"
where nobody has published it. Chip-hours are those of the TPU v5e's compiler, without evaluations,
on a slice with a chip for each replica, or four chips for one; `modern` computes in bfloat16, the
others in float32. `compile_check` prints them of any config, and [scaling](scaling.md) says how far
to trust them.
"""
_EXPECTED = """
Top-1 accuracy in percent after so many epochs, where it was published. The curves of the papers
begin where they enter the figures; those of 1602.07261 leave some 1,700 doubtful images out, and
are about 0.3 % better than of all. GluonCV's are one run's, whose evaluations scatter.
"""
_DECAYS = """The decay of statistics and, after the stroke, of the average of the weights."""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  return "\n".join(map(_line, [header, ["---"] * len(header), *rows]))


def _line(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"


def _numbers(each: Named, hours: Mapping[tuple[str, str], tuple[str, float]]) -> Sequence[str]:
  recipe = each.numbers
  expected = recipe.expected
  mixup = recipe.changes.get("data.augmentation.mixup", 0)
  top1 = f"{expected.top1:.1f} ± {expected.tolerance:g}" if expected else "none"
  _, chip_hours = hours.get((each.network, each.recipe), ("", math.nan))
  return (
    f"`{each.network}`",
    f"`{each.recipe}`",
    f"{recipe.batch_size:,}",
    f"{recipe.replicas}",
    "RMSProp" if recipe.optimizer == "rmsprop" else "SGD",
    _rate(recipe),
    f"{recipe.l2:.0e}".replace("e-0", "e-"),
    f"{recipe.label_smoothing:g}, {mixup:g}",
    f"{recipe.batch_norm_decay:g}" if _has_batch_norm(each) else _NOTHING,
    f"{recipe.average_decay:g}" if recipe.average_decay else _NOTHING,
    f"{recipe.epochs:g}",
    top1,
    _NOTHING if math.isnan(chip_hours) else f"{chip_hours:,.0f}",
  )


def _rate(recipe: Recipe) -> str:
  schedule = recipe.schedule
  rate = f"{recipe.learning_rate:.4g}"
  warmup = f", {schedule.warmup:g} epochs of warm-up" if schedule.warmup else ""
  if isinstance(schedule, Exponential):
    return f"{rate} × {schedule.factor:g} every {schedule.interval:.3g} epochs{warmup}"
  return f"{rate}, cosine{warmup}"


def _has_batch_norm(each: Named) -> bool:
  return (each.network, each.recipe) not in (
    ("googlenet", "paper"),
    ("bn_inception", "variant=inception"),
  )


def _expected_table(recipes: Sequence[Named]) -> str:
  rows = []
  for each in recipes:
    if name := each.numbers.expected_curve:
      curve = expected_accuracies.find(name).curve
      published = [curve.at(epoch) for epoch in _EPOCHS]
      cells = [_NOTHING if value is None else f"{100 * value:.1f}" for value in published]
      rows.append((f"`{each.network}`", f"`{each.recipe}`", f"`{name}`", *cells))
  return _table(("network", "recipe", "curve", *map(str, _EPOCHS)), rows)


def _decays_table(recipes: Sequence[Named]) -> str:
  rows = []
  for each in recipes:
    recipe = each.numbers
    cells = []
    for batch in _BATCHES:
      power = batch / recipe.batch_size
      statistics = f"{recipe.batch_norm_decay**power:.5f}" if _has_batch_norm(each) else _NOTHING
      average = f"{recipe.average_decay**power:.5f}" if recipe.average_decay else _NOTHING
      cells.append(f"{statistics} / {average}")
    rows.append((f"`{each.network}`", f"`{each.recipe}`", f"{recipe.batch_size:,}", *cells))
  batches = [f"at {batch:,}" for batch in _BATCHES]
  return _table(("network", "recipe", "own batch", *batches), rows)


def _sources(recipes: Sequence[Named]) -> Iterator[str]:
  """A list for all recipes that have the same."""
  groups: dict[tuple[tuple[str, str], ...], list[Named]] = {}
  for each in recipes:
    groups.setdefault(tuple(each.numbers.sources.items()), []).append(each)
  for sources, same in groups.items():
    names = ", ".join(f"`{each.network}` `{each.recipe}`" for each in same)
    lines = [f"- {of}: {source}" for of, source in sources]
    published: dict[str, list[str]] = {}
    for each in same:
      expected = each.numbers.expected
      source = expected.source if expected else "none published"
      published.setdefault(source, []).append(each.network)
    for source, networks in published.items():
      of = f" of {', '.join(dict.fromkeys(networks))}" if len(published) > 1 else ""
      lines.append(f"- top-1{of}: {source}")
    yield "\n".join([f"**{names}**", "", *lines])


if __name__ == "__main__":
  entry_point.run(main, parse)
