"""The small inputs that batch normalization is explained on."""

import dataclasses

import numpy as np

_MINI_BATCHES = 5
_LAYER_INPUTS = 3
_SCALE = (1.5, 0.5)
_BIAS = (0.2, -0.4)


@dataclasses.dataclass(frozen=True)
class Inputs:
  """All that the explanation computes from; C is 2.

  Attributes:
    mini_batches: x, [5, m, C]; the first is the one that Algorithm 1 is followed on.
    d_y: ∂ℓ/∂y, [m, C], what the layers above would give.
    scale: γ, [C].
    bias: β, [C].
    epsilon: added to variances.
    u: [m, 3], input of a layer.
    weights: W, [C, 3], that layer's.
    targets: [m], positive numbers.
    wide: [m, m + 2], more features than examples.
    long: [4 · (m + 2), m + 2], the same features of enough examples.
  """

  mini_batches: np.ndarray
  d_y: np.ndarray
  scale: np.ndarray
  bias: np.ndarray
  epsilon: float
  u: np.ndarray
  weights: np.ndarray
  targets: np.ndarray
  wide: np.ndarray
  long: np.ndarray

  @property
  def x(self) -> np.ndarray:
    """The first mini-batch, [m, C]."""
    return self.mini_batches[0]


def draw(examples: int, seed: int, epsilon: float) -> Inputs:
  """Random inputs.

  Args:
    examples: m, 2 to 20.
    seed: of the generator.
    epsilon: added to variances.
  """
  generator = np.random.default_rng(seed)

  def tenths(low: int, high: int) -> np.ndarray:
    # All differ, so that no variance is zero, and they are easily typed into a calculator.
    return generator.choice(np.arange(low, high + 1), examples, replace=False) / 10

  def hundredths(low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    return generator.integers(low, high, shape, endpoint=True) / 100

  features = examples + 2
  return Inputs(
    mini_batches=np.stack(
      [np.stack([tenths(0, 30), tenths(-20, 60)], axis=1) for _ in range(_MINI_BATCHES)]
    ),
    d_y=np.stack([tenths(-10, 10), tenths(-10, 10)], axis=1),
    scale=np.array(_SCALE),
    bias=np.array(_BIAS),
    epsilon=epsilon,
    u=generator.permuted(np.tile(np.arange(examples) / 1, (_LAYER_INPUTS, 1)), axis=1).T,
    # One input outweighs the others, so that these features do not vanish, whatever the seed.
    weights=np.eye(len(_SCALE), _LAYER_INPUTS) + hundredths(-20, 20, (len(_SCALE), _LAYER_INPUTS)),
    targets=tenths(1, 30),
    wide=generator.normal(size=(examples, features)),
    long=generator.normal(size=(4 * features, features)),
  )
