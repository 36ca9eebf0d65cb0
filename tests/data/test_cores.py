"""How many cores there are to decode with."""

import os

from speedpaper_jax.data import cores


def test_all_that_there_are():
  assert 1 <= cores.usable() <= os.cpu_count()


def test_those_that_a_scheduler_leaves(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
  assert cores.usable() == 2


def test_all_where_the_system_does_not_say(monkeypatch):
  monkeypatch.delattr(os, "sched_getaffinity", raising=False)
  monkeypatch.setattr(os, "cpu_count", lambda: 3)
  assert cores.usable() == 3
