"""Numbers in words."""

import pytest

from speedpaper_jax.reports import quantities


@pytest.mark.parametrize(
  ("seconds", "expected"), [(15.4, "15 s"), (162, "2.7 min"), (3600, "1.0 h"), (113400, "31.5 h")]
)
def test_duration(seconds, expected):
  assert quantities.duration(seconds) == expected


def test_percent():
  assert quantities.percent(0.98873) == "98.87 %"
