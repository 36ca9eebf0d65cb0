"""How the networks of the experiments with small networks are named and coloured."""

from speedpaper_jax.reports.drawing import COLORS

LABELS = {
  "without": "without BN",
  "with": "with BN",
  "fixed": "with BN, γ = 1, β = 0",
}
NETWORK_COLORS = dict(zip(LABELS, COLORS, strict=False))
TWO_NETWORKS = ("without", "with")
