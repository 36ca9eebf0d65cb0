"""The page docs/pytorch_parity.md, from the results of `compare --all`."""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

_PACKAGES = {
  "timm": "timm",
  "torchvision": "torchvision",
  "pretrainedmodels": "pretrainedmodels",
  "facenet": "facenet-pytorch",
  "pytorchcv": "pytorchcv",
  "pytorch-fid": "pytorch-fid",
  "keras": "keras",
}
# Beginning of a row's quantity → column.
_COLUMNS = {
  "logits": "logits",
  "stages": "stages",
  "loss": "loss",
  "running statistics": "running statistics",
  "gradients (": "gradients",
  "parameters, 1 step of sgd": "1 step SGD",
  "parameters, 10 steps of sgd": "10 steps SGD",
  "parameters, 1 step of rmsprop": "1 step RMSProp",
  "parameters, 10 steps of rmsprop": "10 steps RMSProp",
}

_TOP = """# The networks against PyTorch's and Keras's

Written by `python -m speedpaper_jax.compare --all`; one pair alone is
`python -m speedpaper_jax.compare --model=inception_v4 --reference=timm`.

Both networks get the same weights and the same real images, each through its own preprocessing, in
float64. The weights are random with perturbed γ and β, and the running statistics are those of the
images, so that the logits tell images apart: their standard deviation over images is more than half
of that over images and classes. Dropout is off; auxiliary heads count 0.4 in the loss. Numbers are
the largest differences: of logits in units of their standard deviation over images, of stages in
units of theirs, of gradients and running statistics relative to each tensor's norm, and of
parameters after training relative to how far each tensor has moved, or to 1e-7 of its norm where
that is more. The first step of SGD is 2e-7 as long as all parameters together, since ten longer
ones amplify rounding errors beyond measure.
The limit is 1e-8 everywhere, and top-1 agrees on all images.

Keras's networks run on JAX as well, with its own layers and optimisers; its RMSProp is begun with
ones, as TensorFlow 1's. Its running variances are biased, and are compared times n/(n − 1).

"""


def page(results: Sequence[dict[str, Any]]) -> str:
  """The page's Markdown, from what `--json` has."""
  header = ["network", "reference", "pixels", *_COLUMNS.values()]
  lines = [_line(header), _line(["---"] * len(header)), *map(_result_line, results)]
  zeros = [
    f"{result['model']} of {result['reference']}: {row['quantity']}, at most {row['value']:.1e} of "
    "the largest gradient"
    for result in results
    for row in result["rows"]
    if row["quantity"].startswith("gradients that are zero")
  ]
  sources = sorted({_PACKAGES[result["reference"]] for result in results} | {"torch", "jax"})
  versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sources)
  return (
    _TOP
    + "\n".join(lines)
    + "\n\nLeft out of the gradients, because they are zero but for rounding, are biases that a "
    "later batch normalization takes away again: those of bn_inception's convolutions, and that of "
    "the last residual block, which has no activation and whose sum reaches the next batch "
    "normalization through linear layers alone. "
    + "; ".join(zeros)
    + f".\n\nVersions: {versions}.\n"
  )


def _result_line(result: dict[str, Any]) -> str:
  network = f"{result['model']} ({result['dialect']})"
  cells = [_cell(result["rows"], beginning) for beginning in _COLUMNS]
  return _line([network, result["reference"], str(result["image_size"]), *cells])


def _cell(rows: Sequence[dict[str, Any]], beginning: str) -> str:
  row = next(row for row in rows if row["quantity"].startswith(beginning))
  limit = row["limit"]
  return f"{row['value']:.1e}" if row["value"] <= limit else f"**{row['value']:.1e}**"


def _line(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"
