"""Photographs to try networks on; README.md says where they are from, and that they are free."""

import pathlib

PHOTOGRAPHS = tuple(sorted(pathlib.Path(__file__).parent.glob("*.jpg")))
