"""The same networks of `flax.linen`'s own layers, trained as Flax's examples do it.

Their convolutions are `nn.Conv`, their normalizations `nn.BatchNorm`, their pools `nn.max_pool` and
`nn.avg_pool`: what one gets who writes the networks down without anything of this package.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from speedpaper_jax.benchmarking import jax_programs
from speedpaper_jax.benchmarking.clock import Clock
from speedpaper_jax.benchmarking.work import (
  LEARNING_RATE,
  MOMENTUM,
  NUM_CLASSES,
  Side,
  Work,
  images_and_labels,
)
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.models import ops, registry
from speedpaper_jax.models.layers import LayerSettings


class FlaxBatchNorm(nn.Module):
  """`nn.BatchNorm` in the place of this package's.

  Attributes:
    decay: of the moving averages.
    epsilon: added to the variance.
    use_scale: whether γ is learned.
  """

  decay: float
  epsilon: float
  use_scale: bool = True

  @nn.compact
  def __call__(
    self, x: jax.Array, *, train: bool, max_pool: None = None, packing: None = None
  ) -> jax.Array:
    """[N, ..., C] → the same; the plain form has no max pool before it, and packs nothing."""
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=self.decay,
      epsilon=self.epsilon,
      use_scale=self.use_scale,
      dtype=x.dtype,
    )(x)


def build_side(work: Work, clock: Clock) -> Side:
  """Compiles the step."""
  dialect = registry.find_dialect(work.model, work.dialect)
  batch_norm: Any = None
  if dialect.batch_norm is not None:
    batch_norm = FlaxBatchNorm(dialect.batch_norm.decay, dialect.batch_norm.epsilon)
  settings = LayerSettings(batch_norm, dtype=jnp.dtype(work.dtype), operations=ops.PLAIN)
  network = registry.create(work.model, work.dialect, num_classes=NUM_CLASSES, settings=settings)
  images, labels = images_and_labels(work)
  images = DEFAULT.apply(images)
  init = functools.partial(network.init, train=False)
  variables = jax.jit(init)(jax.random.key(0), images)
  sizes = jax_programs.sizes(variables["params"])
  clock.lap("network")
  if work.mode == "training":
    optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)
    state = (variables, optimizer.init(variables["params"]))
    batch = jax.device_put((images, labels))
    step = jax.jit(_make_train_step(network, optimizer), donate_argnums=0)
    compiled = step.lower(state, batch).compile()
    clock.lap("compiling")
    return jax_programs.training_side(compiled, state, batch, sizes)

  def predict(variables: Any, images: jax.Array) -> jax.Array:
    logits: Any = network.apply(variables, images, train=False)
    return jax.nn.softmax(logits)

  program = jax.jit(predict).lower(variables, images).compile()
  clock.lap("compiling")
  return jax_programs.inference_side(program, variables, images, sizes)


def _make_train_step(network: nn.Module, optimizer: optax.GradientTransformation) -> Any:
  def train_step(state: tuple[Mapping[str, Any], Any], batch: tuple[jax.Array, jax.Array]) -> Any:
    variables, opt_state = state
    images, labels = batch
    statistics = {name: value for name, value in variables.items() if name != "params"}

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
      logits, updated = network.apply(
        {"params": params, **statistics}, images, train=True, mutable=["batch_stats"]
      )
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return jnp.mean(losses), updated

    (loss, updated), grads = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
    updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
    params = optax.apply_updates(variables["params"], updates)
    return ({"params": params, **statistics, **updated}, opt_state), loss

  return train_step
