"""Two networks side by side."""

from speedpaper_jax.descriptions import differences
from speedpaper_jax.descriptions.differences import Difference
from speedpaper_jax.descriptions.stages import Description, Stage


def network(**parameters):
  """Stages by name; a stage has ten times as many multiply-adds as parameters."""
  stages = [Stage(name, (1, 1, 1), (), count, 10 * count, 0) for name, count in parameters.items()]
  return Description("network", "paper", 8, 10, tuple(stages), {})


def test_shared_stages_others_and_the_total():
  one = network(conv=1, pool=0, a=2, logits=3)
  other = network(conv=10, pool=0, b=20, c=40, logits=30)
  assert differences.compare(one, other) == [
    Difference("conv", (1, 10), (10, 100)),
    Difference("logits", (3, 30), (30, 300)),
    Difference("other stages", (2, 60), (20, 600)),
    Difference("total", (6, 100), (60, 1000)),
  ]
