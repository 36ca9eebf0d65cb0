"""What a command imports before it knows that it has work to do; see `benchmarks.start_up`."""

import json

from commands import MODULES, run

# Each of these takes a quarter of a second, or brings one that does.
HEAVY = (
  "flax",
  "grain",
  "jax",
  "matplotlib",
  "optax",
  "orbax",
  "tensorboard",
  "tensorflow_datasets",
)
# The table that its `NAME` is one of has each data set's features, in TFDS's words.
ALLOWED = {"speedpaper_jax.data.prepare": ["tensorflow_datasets"]}
CONFIG = "--config=configs/bn_inception.py"
PHOTOGRAPH = "speedpaper_jax/data/photographs/cat.jpg"
MISTAKES = {
  "main": "Name an experiment",
  "main --config=configs/bn_incepton.py": "There is no config file",
  f"main {CONFIG}:data=digit": "The config has no data 'digit'",
  f"main {CONFIG} x": "'x' is no flag",
  f"main {CONFIG} --config.rate=1": "The config has no key 'rate'",
  f"main {CONFIG} --config.batch_size=x": "flag --config.batch_size=x: invalid",
  f"main {CONFIG} --config.batch_size=0": "config.batch_size is 0",
  f"main {CONFIG} --config.duration=3": "config.duration is '3'",
  f"main {CONFIG} --config.model.name=vgg": "config.model.name='vgg' is unknown",
  f"main {CONFIG} --config.aux_weight=0.3": "config.aux_weight is 0.3, but",
  f"main {CONFIG} --profile=3": "--profile=3 does not name steps",
  f"compile_check {CONFIG}": "Name a TPU slice",
  "compare": "Name a network and a package",
  "convert --weights=a --out=b": "Name the network",
  "describe": "Name a network",
  "evaluate": "Name one directory or several",
  "evaluate run --scales=grown": "--scales is of 12 and 144 crops",
  "evaluate run --step=last": "--step=last is none of",
  "explain bm": "There is no explanation of 'bm'",
  f"features nowhere {PHOTOGRAPH} --out=x.npz": "'nowhere' is not the directory of a run",
  "fid a": "Name two sets",
  f"predict nowhere {PHOTOGRAPH}": "'nowhere' is not the directory of a run",
  f"predict --weights=timm/inception_v5 {PHOTOGRAPH}": "There are no published weights",
  "reproduce timm/inception_v5": "There are no published weights",
  "weights timm/inception_v5": "There are no published weights",
}
PROGRAM = f"""
import contextlib, importlib, io, json, sys
from speedpaper_jax.errors import UserError

told = []
for module, *arguments in json.loads(sys.argv[1]):
  before = set(sys.modules)
  with contextlib.redirect_stdout(io.StringIO()) as output:
    try:
      command = importlib.import_module(module)
      command.main(command.parse([module, *arguments]))
      message = output.getvalue()
    except SystemExit:
      message = output.getvalue()
    except UserError as error:
      message = str(error)
  told.append((message, sorted((set(sys.modules) - before) & {set(HEAVY)!r})))
print(json.dumps(told))
"""


def answers(scratch, commands):
  """What each command says, and which of `HEAVY` it is the first to import."""
  output = run(scratch, "-c", PROGRAM, json.dumps(commands))
  return dict(zip(map(tuple, commands), json.loads(output), strict=True))


def test_help_imports_nothing_heavy(scratch):
  last = [module for module in MODULES if module in ALLOWED]  # or others would not be the first
  others = [module for module in MODULES if module not in ALLOWED]
  for (module, _), (text, imported) in answers(
    scratch, [[module, "--help"] for module in others + last]
  ).items():
    assert text.startswith(f"usage: python -m {module}")
    assert imported == ALLOWED.get(module, []), module


def test_mistakes_are_told_before_anything_heavy_is_imported(scratch):
  commands = [
    [f"speedpaper_jax.{command.split()[0]}", *command.split()[1:]] for command in MISTAKES
  ]
  for expected, (command, (message, imported)) in zip(
    MISTAKES.values(), answers(scratch, commands).items(), strict=True
  ):
    assert message.startswith(expected), command
    assert imported == [], command
