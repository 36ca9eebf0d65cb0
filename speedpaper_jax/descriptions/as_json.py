"""Descriptions as what JSON can hold."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from speedpaper_jax.descriptions.changes import Changes, Claim
from speedpaper_jax.descriptions.differences import Difference
from speedpaper_jax.descriptions.stages import Description


def network(description: Description) -> dict[str, Any]:
  """A network with its totals and its stages."""
  return {
    "model": description.model,
    "dialect": description.dialect,
    "image_size": description.image_size,
    "num_classes": description.num_classes,
    "parameters": description.parameters,
    "multiply_adds": description.multiply_adds,
    "activations": description.activations,
    "auxiliary_heads": dict(description.auxiliary_heads),
    "stages": [dataclasses.asdict(stage) for stage in description.stages],
  }


def differences(rows: Sequence[Difference]) -> list[dict[str, Any]]:
  """Stages of two networks, each quantity as [from, to]."""
  return [row._asdict() for row in rows]


def changes(counted: Changes) -> dict[str, Any]:
  """The way from GoogLeNet to BN-Inception."""
  return {
    "steps": [
      {
        "number": step.number,
        "name": step.name,
        "before": step.before._asdict(),
        "after": step.after._asdict(),
        "bn_inception_without_it": None if step.without is None else step.without._asdict(),
      }
      for step in counted.steps
    ],
    "googlenet_with_dense_stem": counted.googlenet_with_dense_stem._asdict(),
    "bn_inception_with_dense_stem": counted.bn_inception_with_dense_stem._asdict(),
  }


def claims(compared: Sequence[Claim]) -> list[dict[str, Any]]:
  """The paper's claims; growths are relative but for layers."""
  return [{**claim._asdict(), "verdict": claim.verdict} for claim in compared]
