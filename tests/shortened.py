"""The networks with fewer modules, but with each kind of them: quicker to compile."""

import dataclasses

from speedpaper_jax.models import (
  bn_inception,
  googlenet,
  inception_resnet_v1,
  inception_resnet_v2,
  inception_v3,
  inception_v4,
  small_inception,
)

BN_INCEPTION = ("3b", "3c", "4e", "5b")  # 4e has other widths than 3c, 5b another pool than 3b
GOOGLENET = ("3a", "4a", "4d", "5b")  # auxiliary heads stand on two of them
LEFT_OUT_OF_V3 = ("mixed_5c", "mixed_5d", "mixed_6b", "mixed_6c", "mixed_6d", "mixed_7c")
LEFT_OUT_OF_SMALL = ("inception_1b", "inception_2b", "inception_2c", "inception_2d", "inception_3b")


def bn_inception_rows(table=bn_inception.FIGURE_5):
  return tuple(row for row in table if row.name in BN_INCEPTION)


def shorten(monkeypatch):
  """Every network that is made from here on is short."""
  rows = tuple(row for row in googlenet.TABLE_1 if row.name in GOOGLENET)
  monkeypatch.setattr(googlenet, "TABLE_1", rows)
  parts = tuple(named for named in inception_v3.TABLE_1 if named[0] not in LEFT_OUT_OF_V3)
  monkeypatch.setattr(inception_v3, "TABLE_1", parts)
  rows = tuple(named for named in small_inception.FIGURE_3 if named[0] not in LEFT_OUT_OF_SMALL)
  monkeypatch.setattr(small_inception, "FIGURE_3", rows)
  monkeypatch.setattr(inception_v4, "repeat", last_one)
  change(monkeypatch, bn_inception, lambda each: {"table": bn_inception_rows(each.table)})
  for module in (inception_resnet_v1, inception_resnet_v2):
    change(monkeypatch, module, lambda each: {"counts": (1, 1, 1)})


def last_one(name, times, part):
  """In place of `blocks.repeat`; on the last B an auxiliary head stands."""
  return ((f"{name}_{times}", part),)


def change(monkeypatch, module, changes):
  for name, dialect in module.DIALECTS.items():
    monkeypatch.setitem(module.DIALECTS, name, dataclasses.replace(dialect, **changes(dialect)))
