"""The papers' errors by networks and crops."""

from speedpaper_jax.papers import printed_errors
from speedpaper_jax.papers.networks import NETWORKS


def found(networks, crops):
  return [
    (row.images, row.top1, row.top5, row.source) for row in printed_errors.of(networks, crops)
  ]


def test_of_one_network():
  assert found(["inception_v4"], 1) == [(48_238, 20.0, 5.0, "1602.07261, Table 2")]
  assert found(["inception_v4"], 12) == [(50_000, 18.7, 4.2, "1602.07261, Table 3")]
  assert found(["inception_v4"], 144) == [(50_000, 17.7, 3.8, "1602.07261, Table 4")]
  assert found(["googlenet"], 10) == [(50_000, None, 9.15, "1409.4842, Table 3")]


def test_two_papers_on_one_network():
  assert found(["inception_v3"], 144) == [
    (50_000, 18.77, 4.2, "1512.00567, Table 4"),
    (50_000, 18.9, 4.3, "1602.07261, Table 4"),
  ]


def test_of_ensembles_in_whatever_order():
  networks = ["inception_v4", *["inception_resnet_v2"] * 3]
  expected = [(50_000, 16.5, 3.1, "1602.07261, Table 5")]
  assert found(networks, 144) == found(networks[::-1], 144) == expected
  assert found(["bn_inception"] * 6, 144) == [(50_000, 20.1, 4.9, "1502.03167, Figure 4")]
  assert found(["googlenet"] * 7, 1) == [(50_000, None, 8.09, "1409.4842, Table 3")]


def test_of_others_there_are_none():
  assert found(["inception_v4"], 10) == []
  assert found(["inception_v4", "inception_v3"], 144) == []
  assert found(["small_inception"], 1) == []


def test_more_crops_and_more_members_are_better():
  rows = {(row.networks, row.crops, row.source[:10]): row for row in printed_errors.PRINTED_ERRORS}
  assert len(rows) == len(printed_errors.PRINTED_ERRORS)
  for (networks, crops, paper), row in rows.items():
    fewer = [other for other in rows if other[::2] == (networks, paper) and other[1] < crops]
    fewer += [other for other in rows if other[1:] == (crops, paper) and other[0] == networks[:1]]
    assert all(rows[other].top5 >= row.top5 for other in fewer)
    assert set(networks) <= NETWORKS.keys()
