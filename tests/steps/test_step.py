"""One step of training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from PIL import Image
from step_network import CLASSES, Network, assert_close, make_batch, make_step

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data import distortions
from speedpaper_jax.data.normalization import DEFAULT, PER_IMAGE
from speedpaper_jax.distributed import parallel
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.steps import optim
from speedpaper_jax.steps.evaluation import make_moments_step
from speedpaper_jax.steps.mixing import Mixing, mix
from speedpaper_jax.steps.step import (
  example_metrics,
  make_train_step,
)

# Images are normalised in float32, which compiled and uncompiled code round differently.
FLOAT32 = 1e-6
NHWC = ("NHWC", "HWIO", "NHWC")


def differs(one, other):
  return any(
    (a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  )


def metrics_of(logits, labels, mask=None, label_smoothing=0.0):
  batch = {
    "label": jnp.asarray(labels, jnp.int32),
    "mask": jnp.ones(len(labels)) if mask is None else jnp.asarray(mask, jnp.float32),
  }
  return jax.tree.map(float, example_metrics(jnp.asarray(logits), batch, label_smoothing))


class TestExampleMetrics:
  @pytest.mark.parametrize("classes", [3, 5, 12])
  def test_they_are_sums_over_the_rows_that_count(self, classes):
    generator = np.random.default_rng(classes)
    logits = generator.integers(-3, 4, (200, classes)).astype(np.float32)  # full of ties
    labels = generator.integers(0, classes, 200)
    mask = generator.integers(0, 2, 200)

    loss = top1 = top5 = 0
    for row, label, counts in zip(logits, labels, mask, strict=True):
      if counts:
        loss += np.log(np.exp(row.astype(np.float64)).sum()) - row[label]
        best = sorted(range(classes), key=lambda c: (-row[c], c))  # of equals the first, as `top_k`
        top1 += best[0] == label
        top5 += label in best[:5]

    actual = metrics_of(logits, labels, mask)
    assert (actual["top1"], actual["top5"], actual["count"]) == (top1, top5, mask.sum())
    np.testing.assert_allclose(actual["loss"], loss, rtol=1e-6)

  @pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
  def test_label_smoothing_is_that_of_torch(self, label_smoothing):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (40, 9)).astype(np.float32)
    labels = generator.integers(0, 9, 40)
    expected = torch.nn.functional.cross_entropy(
      torch.from_numpy(logits),
      torch.from_numpy(labels),
      label_smoothing=label_smoothing,
      reduction="sum",
    )
    actual = metrics_of(logits, labels, label_smoothing=label_smoothing)
    np.testing.assert_allclose(actual["loss"], float(expected), rtol=1e-6)

  @pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
  @pytest.mark.parametrize("weighted", [False, True])
  def test_class_weights_and_mixed_images_are_those_of_torch(self, weighted, label_smoothing):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (40, 9)).astype(np.float32)
    label, other_label = generator.integers(0, 9, (2, 40)).astype(np.int32)
    share = generator.uniform(0.5, 1, 40).astype(np.float32)
    weights = generator.uniform(0, 3, 9).astype(np.float32) if weighted else None
    one_hot = np.eye(9, dtype=np.float32)
    expected = torch.nn.functional.cross_entropy(
      torch.from_numpy(logits),
      torch.from_numpy(
        share[:, None] * one_hot[label] + (1 - share[:, None]) * one_hot[other_label]
      ),
      weight=torch.from_numpy(weights) if weighted else None,
      label_smoothing=label_smoothing,
      reduction="sum",
    )
    batch = {"label": label, "other_label": other_label, "share": share, "mask": np.ones(40)}
    actual = example_metrics(jnp.asarray(logits), batch, label_smoothing, weights)
    np.testing.assert_allclose(float(actual["loss"]), float(expected), rtol=1e-5)
    assert float(actual["top1"]) == np.sum(np.argmax(logits, -1) == label)

  def test_a_masked_row_does_not_count_even_with_infinite_loss(self):
    logits = np.zeros((3, 4), np.float32)
    logits[1] = [np.inf, 0, 0, 0]
    logits[2] = np.nan
    assert metrics_of(logits, [0, 1, 0], mask=[1, 0, 0]) == pytest.approx(
      {"loss": np.log(4), "top1": 1, "top5": 1, "count": 1}
    )

  @pytest.mark.parametrize("nan_classes", [[0], [1], [0, 1, 2]])
  def test_a_row_with_a_nan_is_wrong_and_its_loss_nan(self, nan_classes):
    logits = np.array([[3.0, 2.0, 1.0]], np.float32)
    logits[0, nan_classes] = np.nan
    actual = metrics_of(logits, [0])
    assert np.isnan(actual["loss"])
    assert (actual["top1"], actual["top5"], actual["count"]) == (0, 0, 1)


@pytest.mark.usefixtures("float64")
class TestTrainStep:
  def test_the_gradient_is_that_of_the_mean_loss(self):
    network = Network()
    step, state = make_step(network, optimizer=optax.sgd(1.0), label_smoothing=0.1)
    batch = make_batch(8)

    def mean_loss(params):
      logits = network.apply({"params": params}, DEFAULT.apply(batch["image"]), train=True)
      targets = 0.9 * jax.nn.one_hot(batch["label"], CLASSES) + 0.1 / CLASSES
      return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), -1))

    loss, gradient = jax.value_and_grad(mean_loss)(state.params)
    after, metrics = step(state, batch)
    assert_close(after.params, jax.tree.map(jnp.subtract, state.params, gradient), FLOAT32)
    assert_close(metrics["loss"] / 8, loss, FLOAT32)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    assert_close(metrics["gradient_norm"], norm, FLOAT32)

  def test_a_masked_row_has_no_part_in_the_gradient(self):
    step, state = make_step(Network())
    batch, other = make_batch(8), make_batch(8, seed=1)
    batch["mask"][[2, 7]] = 0
    changed = {name: rows.copy() for name, rows in batch.items()}
    for name in ("image", "label"):
      changed[name][[2, 7]] = other[name][[2, 7]]
    without = {name: np.delete(rows, [2, 7], 0) for name, rows in batch.items()}

    after, metrics = step(state, batch)
    assert metrics["count"] == 6
    assert_close(after.params, step(state, changed)[0].params, tolerance=0)
    assert_close(after.params, step(state, without)[0].params)

  @pytest.mark.parametrize("batch_norm", [None, BatchNorm(decay=0.9)], ids=["plain", "bn"])
  @pytest.mark.parametrize("aux_heads", [(), ("aux1",)], ids=["", "aux"])
  def test_a_masked_row_has_no_part_in_anything(self, batch_norm, aux_heads):
    step, state = make_step(Network(batch_norm, aux_heads=aux_heads), aux_weight=0.3, average=True)
    batch = make_batch(8)
    batch["mask"][[2, 7]] = 0
    without = {name: np.delete(rows, [2, 7], 0) for name, rows in batch.items()}
    after, metrics = step(state, batch)
    expected, expected_metrics = step(state, without)
    assert_close(after.replace(examples=expected.examples), expected, 1e-10)
    assert_close(metrics, expected_metrics, 1e-10)

  def test_a_masked_row_with_infinite_logits_leaves_the_gradient_finite(self):
    class Overflowing(nn.Module):
      @nn.compact
      def __call__(self, images, *, train):
        x = images.reshape(images.shape[0], -1).astype(jnp.float64)
        logits = nn.Dense(CLASSES, dtype=jnp.float64)(x)
        return logits + jnp.where(x[:, :1] == -1, jnp.inf, 0.0)  # black images' are infinite

    step, state = make_step(Overflowing())
    batch = make_batch(8)
    batch["image"][3], batch["mask"][3] = 0, 0
    without = {name: np.delete(rows, 3, 0) for name, rows in batch.items()}
    after, metrics = step(state, batch)
    expected, expected_metrics = step(state, without)
    assert np.isfinite(metrics["gradient_norm"])
    assert_close(after.params, expected.params)
    assert_close(metrics, expected_metrics)

  def test_a_batch_without_a_row_that_counts_changes_no_parameter(self):
    step, state = make_step(Network())
    batch = make_batch(8)
    batch["mask"][:] = 0
    after, metrics = step(state, batch)
    assert_close(after.params, state.params, tolerance=0)
    assert metrics["count"] == metrics["loss"] == metrics["gradient_norm"] == 0

  def test_nor_does_it_move_batch_statistics(self):
    step, state = make_step(Network(BatchNorm()))
    batch = make_batch(8)
    batch["mask"][:] = 0
    after, _ = step(state, batch)
    assert_close(after.params, state.params, tolerance=0)
    assert_close(after.batch_stats, state.batch_stats, tolerance=0)

  def test_it_counts_steps_and_all_rows_it_was_given(self):
    step, state = make_step(Network())
    batch = make_batch(8)
    batch["mask"][3] = 0  # a row that cannot be decoded takes its place in the data all the same
    for _ in range(3):
      state, _ = step(state, batch)
    assert (state.step, state.examples) == (3, 24)
    assert (state.step.dtype, state.examples.dtype) == (jnp.int32, jnp.uint32)

  def test_it_keeps_every_dtype(self):
    step, state = make_step(Network(BatchNorm()), average=True)
    after, _ = step(state, make_batch(8))
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)

  def test_the_same_state_and_batch_give_the_same_bits(self):
    step, state = make_step(Network(BatchNorm(), dropout_rate=0.5), average=True)
    assert_close(step(state, make_batch(8)), step(state, make_batch(8)), tolerance=0)

  def test_dropout_depends_on_the_step_and_on_the_seed(self):
    network, batch = Network(dropout_rate=0.5), make_batch(8)
    step, state = make_step(network)
    first = step(state, batch)[0].params
    later = step(state.replace(step=jnp.int32(1)), batch)[0].params
    assert differs(first, later)
    other_seed = make_train_step(network, optax.sgd(0.1, momentum=0.9), seed=6)
    assert differs(first, other_seed(state, batch)[0].params)

  def test_without_dropout_nothing_is_random(self):
    step, state = make_step(Network())
    first = step(state, make_batch(8))[0].params
    assert_close(
      first, step(state.replace(step=jnp.int32(1)), make_batch(8))[0].params, tolerance=0
    )


@pytest.mark.usefixtures("float64")
class TestAuxiliaryHeads:
  NETWORK = Network(aux_heads=("aux1", "aux2"))

  def test_their_cross_entropies_are_added_with_the_weight(self):
    step, state = make_step(
      self.NETWORK, optimizer=optax.sgd(1.0), label_smoothing=0.1, aux_weight=0.3
    )
    batch = make_batch(8)
    batch["mask"][2] = 0

    def cross_entropy(logits):
      targets = 0.9 * jax.nn.one_hot(batch["label"], CLASSES) + 0.1 / CLASSES
      return -jnp.sum(targets * jax.nn.log_softmax(logits), -1) @ batch["mask"] / 7

    def loss(params):
      logits, left = self.NETWORK.apply(
        {"params": params}, batch["image"] / 127.5 - 1, train=True, mutable=["aux_logits"]
      )
      one, other = left["aux_logits"]["aux1"], left["aux_logits"]["aux2"]
      return cross_entropy(logits) + 0.3 * (cross_entropy(one) + cross_entropy(other))

    expected, gradient = jax.value_and_grad(loss)(state.params)
    after, metrics = step(state, batch)
    assert_close(metrics["loss"] / 7, expected, FLOAT32)
    assert_close(after.params, jax.tree.map(jnp.subtract, state.params, gradient), FLOAT32)
    assert differs(after.params["aux1"], state.params["aux1"])

  def test_hits_are_the_main_heads_alone(self):
    batch = make_batch(8)
    step, state = make_step(self.NETWORK)
    weighted_step, _ = make_step(self.NETWORK, aux_weight=0.3)
    plain, weighted = step(state, batch)[1], weighted_step(state, batch)[1]
    assert weighted["loss"] > plain["loss"]
    assert (weighted["top1"], weighted["top5"]) == (plain["top1"], plain["top5"])

  def test_micro_batches_and_devices_make_no_difference(self):
    batch = make_batch(32)
    batch["mask"][[1, 20]] = 0
    at_once, state = make_step(self.NETWORK, aux_weight=0.3)
    in_parts, _ = make_step(self.NETWORK, aux_weight=0.3, accumulation_steps=2)
    mesh = parallel.make_mesh()
    on_each_device = parallel.jit_train_step(
      make_train_step(
        self.NETWORK,
        optax.sgd(0.1, momentum=0.9),
        seed=5,
        aux_weight=0.3,
        axis_name=parallel.axis_name("pmap"),
      ),
      mesh,
      "pmap",
    )
    expected = at_once(state, batch)
    assert_close(in_parts(state, batch), expected)
    copies = parallel.replicate(mesh, state)
    assert_close(on_each_device(copies, parallel.shard_batch(mesh, batch)), expected)

  def test_population_statistics_have_all_their_batch_norms(self):
    network = Network(BatchNorm(), aux_heads=("aux1", "aux2"))
    _, state = make_step(network, aux_weight=0.3)
    moments = make_moments_step(network)(state.evaluated, make_batch(8))
    assert jax.tree.structure(moments) == jax.tree.structure(state.batch_stats)
    assert moments.keys() == {"conv", "aux1_conv", "aux2_conv"}


@pytest.mark.usefixtures("float64")
class TestFrozen:
  FROZEN = ("conv",)
  NETWORK = Network(BatchNorm(decay=0.9, frozen=FROZEN), aux_heads=("aux1",))

  def steps(self, parallel_mode=None, **options):
    """The states before and after three steps with L2, momentum and an average."""
    config = train_config().optimizer
    config.l2 = 0.1
    optimizer = optim.make_optimizer(config, lambda _: 0.1, self.FROZEN)
    options |= {"frozen": self.FROZEN, "aux_weight": 0.3, "average_decay": 0.3}
    step, state = make_step(self.NETWORK, optimizer=optimizer, average=True, **options)
    # A running average rounds 0.1 away, and x + 0 changes the sign of a zero.
    kernel = state.params["conv"]["conv"]["kernel"].at[0].set(-0.0)
    state.params["conv"]["conv"]["kernel"] = kernel
    state.average["params"]["conv"]["conv"]["kernel"] = jnp.copy(kernel)
    for part in (state.batch_stats, state.average["batch_stats"]):
      part["conv"]["batch_norm"]["mean"] += 0.1
    before = jax.device_get(state)
    if parallel_mode is not None:
      mesh = parallel.make_mesh()
      axis_name = parallel.axis_name(parallel_mode)
      step = parallel.jit_train_step(
        make_train_step(self.NETWORK, optimizer, seed=5, axis_name=axis_name, **options),
        mesh,
        parallel_mode,
      )
      state = parallel.replicate(mesh, state)
    for seed in range(3):
      batch = make_batch(16, seed)
      state, _ = step(state, parallel.shard_batch(mesh, batch) if parallel_mode else batch)
    return before, jax.device_get(state)

  @pytest.mark.parametrize(
    "how", [{}, {"accumulation_steps": 2}, {"parallel_mode": "jit"}, {"parallel_mode": "pmap"}]
  )
  def test_parameters_statistics_and_average_stay_to_the_bit(self, how):
    before, after = self.steps(**how)

    def bits(state):
      kept = [state.params["conv"], state.batch_stats["conv"]]
      kept += [state.average[part]["conv"] for part in ("params", "batch_stats")]
      return [leaf.tobytes() for leaf in jax.tree.leaves(kept)]

    assert bits(after) == bits(before)
    for part in ("logits", "aux1", "aux1_conv"):
      assert differs(after.params[part], before.params[part])
    assert differs(after.batch_stats["aux1_conv"], before.batch_stats["aux1_conv"])
    assert differs(after.average["params"]["logits"], before.average["params"]["logits"])

  def test_the_rest_is_trained_on_what_inference_gives(self):
    network = Network(BatchNorm(decay=0.9, frozen=self.FROZEN))
    step, state = make_step(network, optimizer=optax.sgd(1.0), frozen=self.FROZEN)
    state.batch_stats["conv"]["batch_norm"]["mean"] += 0.5
    batch = make_batch(8)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    _, captured = network.apply(
      variables, batch["image"] / 127.5 - 1, train=False, capture_intermediates=True
    )
    inputs = captured["intermediates"]["conv"]["__call__"][0].reshape(8, -1)

    def loss(layer):
      logits = inputs @ layer["kernel"] + layer["bias"]
      return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]))

    gradient = jax.grad(loss)(state.params["logits"])
    expected = jax.tree.map(jnp.subtract, state.params["logits"], gradient)
    after, metrics = step(state, batch)
    assert_close(after.params["logits"], expected, FLOAT32)
    # What is frozen has no gradient that could be clipped, or shown.
    assert_close(metrics["gradient_norm"], optax.tree.norm(gradient), FLOAT32)

  def test_no_gradient_is_computed_for_it(self):
    def multiplications(frozen):
      step, state = make_step(Network(BatchNorm(frozen=frozen)), frozen=frozen)
      return step.lower(state, make_batch(8)).compile().as_text().count(" convolution(")

    assert multiplications(()) == 2  # forward, and the kernel's gradient
    assert multiplications(self.FROZEN) == 1

  def test_population_statistics_are_of_the_rest(self):
    _, state = make_step(self.NETWORK)
    moments = make_moments_step(self.NETWORK)(state.evaluated, make_batch(8))
    assert moments.keys() == {"aux1_conv"}
    network = Network(BatchNorm(frozen=("conv",)))
    _, state = make_step(network)
    assert make_moments_step(network)(state.evaluated, make_batch(8)) == {}


@pytest.mark.usefixtures("float64")
class TestDistortion:
  """Where the batch has the numbers of it; as if the host had distorted the images."""

  @staticmethod
  def both_sides(rows):
    """A batch of images that are distorted, and one with the numbers of it."""
    batch = make_batch(rows)
    numbers = [distortions.draw(1.0, np.random.default_rng(row)) for row in range(rows)]
    images = map(Image.fromarray, batch["image"])
    distorted = [
      np.asarray(distortions.on_host(*pair)) for pair in zip(images, numbers, strict=True)
    ]
    return {**batch, "image": np.stack(distorted)}, {**batch, "distortion": np.stack(numbers)}

  @pytest.mark.parametrize("accumulation_steps", [1, 2])
  def test_the_step_is_that_of_distorted_images(self, accumulation_steps):
    step, state = make_step(Network(), accumulation_steps=accumulation_steps)
    distorted, with_numbers = self.both_sides(8)
    assert_close(step(state, with_numbers), step(state, distorted), FLOAT32)
    assert differs(step(state, make_batch(8))[0].params, step(state, distorted)[0].params)

  @pytest.mark.parametrize("mode", parallel.MODES)
  def test_devices_make_no_difference(self, mode):
    distorted, with_numbers = self.both_sides(16)
    once, state = make_step(Network())
    mesh, optimizer = parallel.make_mesh(), optax.sgd(0.1, momentum=0.9)
    step = make_train_step(Network(), optimizer, seed=5, axis_name=parallel.axis_name(mode))
    compiled = parallel.jit_train_step(step, mesh, mode)
    expected = once(state, distorted)
    batch = parallel.shard_batch(mesh, with_numbers)
    assert_close(compiled(parallel.replicate(mesh, state), batch), expected, FLOAT32)


@pytest.mark.usefixtures("float64")
class TestMixing:
  @pytest.mark.parametrize("normalization", [DEFAULT, PER_IMAGE], ids=["default", "per_image"])
  def test_the_loss_is_that_of_the_mixed_images_and_classes(self, normalization):
    """Each image is normalised before it is mixed."""
    network, mixing = Network(), Mixing(mixup=0.5, cutmix=1.0)
    step, state = make_step(
      network, optimizer=optax.sgd(1.0), mixing=mixing, normalization=normalization
    )
    batch = make_batch(8)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 0), 2**31)
    images, mixed = mix(normalization.apply(batch["image"]), batch, mixing, key)
    one_hot = np.eye(CLASSES)
    share = mixed["share"][:, None]
    targets = share * one_hot[mixed["label"]] + (1 - share) * one_hot[mixed["other_label"]]

    def loss(params):
      logits = network.apply({"params": params}, images, train=True)
      return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), -1))

    gradient = jax.grad(loss)(state.params)
    expected = jax.tree.map(jnp.subtract, state.params, gradient)
    assert_close(step(state, batch)[0].params, expected, FLOAT32)

  def test_devices_make_no_difference(self):
    batch, mixing = make_batch(32), Mixing(mixup=0.5, cutmix=1.0)
    batch["mask"][[1, 20]] = 0
    at_once, state = make_step(Network(), mixing=mixing)
    mesh = parallel.make_mesh()
    optimizer, axis_name = optax.sgd(0.1, momentum=0.9), parallel.axis_name("pmap")
    step = make_train_step(Network(), optimizer, seed=5, mixing=mixing, axis_name=axis_name)
    on_each_device = parallel.jit_train_step(step, mesh, "pmap")
    expected = at_once(state, batch)
    copies = parallel.replicate(mesh, state)
    assert_close(on_each_device(copies, parallel.shard_batch(mesh, batch)), expected, FLOAT32)

  def test_each_step_and_micro_batch_has_its_own(self):
    half = make_batch(4)
    doubled = {name: np.repeat(rows, 2, axis=0) for name, rows in half.items()}
    step, state = make_step(Network(), mixing=Mixing(mixup=1.0), accumulation_steps=2)
    once, _ = make_step(Network(), mixing=Mixing(mixup=1.0))
    after = step(state, doubled)[0].params
    assert differs(after, once(state, half)[0].params)
    assert differs(after, step(state.replace(step=jnp.int32(1)), doubled)[0].params)


@pytest.mark.usefixtures("float64")
class TestAccumulation:
  @pytest.mark.parametrize("accumulation_steps", [2, 4])
  def test_without_batch_norm_it_equals_one_large_step(self, accumulation_steps):
    batch = make_batch(8)
    batch["mask"][1] = 0  # micro-batches of unequal weight
    at_once, state = make_step(Network())
    in_parts, _ = make_step(Network(), accumulation_steps=accumulation_steps)
    for _ in range(3):
      expected, expected_metrics = at_once(state, batch)
      actual, metrics = in_parts(state, batch)
      assert_close(actual, expected)
      assert_close(metrics, expected_metrics)
      state = expected

  def test_micro_batches_are_normalised_as_virtual_batches_are(self):
    """Micro-batch j is the rows j, j + k, …; virtual batches are runs of rows."""
    batch = make_batch(12)
    runs = {name: np.concatenate([rows[j::3] for j in range(3)]) for name, rows in batch.items()}
    at_once, state = make_step(Network(BatchNorm(virtual_batch_size=4)))
    in_parts, _ = make_step(Network(BatchNorm()), accumulation_steps=3)
    other = state
    for _ in range(3):
      state, expected_metrics = at_once(state, runs)
      other, metrics = in_parts(other, batch)
      assert_close(other.params, state.params)
      assert_close(metrics, expected_metrics)

  def test_running_statistics_move_once_a_micro_batch(self):
    network = Network(BatchNorm(decay=0.9))
    in_parts, state = make_step(network, accumulation_steps=2)
    batch = make_batch(8)
    expected = state
    frozen, _ = make_step(network, optimizer=optax.set_to_zero())
    expected = expected.replace(opt_state=optax.set_to_zero().init(state.params))
    for j in range(2):
      expected, _ = frozen(expected, {name: rows[j::2] for name, rows in batch.items()})
    assert_close(in_parts(state, batch)[0].batch_stats, expected.batch_stats)

  def test_each_micro_batch_has_its_own_dropout(self):
    """Equal halves, dropped out differently, give another gradient than one half twice."""
    half = make_batch(4)
    doubled = {name: np.repeat(rows, 2, axis=0) for name, rows in half.items()}
    network = Network(dropout_rate=0.5)
    step, state = make_step(network, optimizer=optax.sgd(1.0), accumulation_steps=2)
    key = jax.random.fold_in(jax.random.key(5), 0)

    def loss(params, key):
      logits = network.apply(
        {"params": params},
        DEFAULT.apply(half["image"]),
        train=True,
        rngs={"dropout": key},
      )
      return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, half["label"]))

    gradients = [jax.grad(loss)(state.params, jax.random.fold_in(key, j)) for j in range(2)]
    assert differs(*gradients)
    expected = jax.tree.map(lambda p, a, b: p - (a + b) / 2, state.params, *gradients)
    assert_close(step(state, doubled)[0].params, expected, FLOAT32)


@pytest.mark.usefixtures("float64")
class TestAverage:
  def test_it_follows_parameters_and_statistics_with_a_decay_that_warms_up(self):
    step, state = make_step(Network(BatchNorm(decay=0.9)), average=True, average_decay=0.25)
    expected = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    for n in range(6):
      state, _ = step(state, make_batch(8, seed=n))
      decay = min(0.25, (1 + n) / (10 + n))  # reaches its limit after two steps
      current = {"params": state.params, "batch_stats": state.batch_stats}
      expected = jax.tree.map(lambda a, x, d=decay: d * a + (1 - d) * x, expected, current)
      assert_close(state.average, expected, FLOAT32)
    assert differs(state.average["batch_stats"], state.batch_stats)

  def test_it_is_what_evaluation_uses_where_there_is_one(self):
    step, state = make_step(Network(BatchNorm()), average=True, average_decay=0.9)
    state, _ = step(state, make_batch(8))
    assert state.evaluated is state.average
    _, state = make_step(Network(BatchNorm()))
    assert state.average is None
    assert state.evaluated == {"params": state.params, "batch_stats": state.batch_stats}

  def test_it_shares_no_buffer_with_the_parameters(self):
    """A donated buffer may be given away once only."""
    _, state = make_step(Network(BatchNorm()), average=True)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.usefixtures("float64")
def test_batch_normalization_per_activation_in_the_layers_that_are_chosen():
  """Gradients and statistics of a whole network against one that is written out."""
  batch_norm = BatchNorm(decay=0.9, per_activation_layers=("conv",))
  step, state = make_step(Network(batch_norm, aux_heads=("aux",)), optimizer=optax.sgd(1.0))
  generator = np.random.default_rng(1)
  state = state.replace(
    params=jax.tree.map(lambda x: x + generator.normal(0, 0.3, x.shape), state.params)
  )
  batch = make_batch(8)
  shapes = jax.tree.map(jnp.shape, state.params)
  assert shapes["conv"]["batch_norm"] == {"scale": (3, 3, 6), "bias": (3, 3, 6)}
  assert shapes["aux_conv"]["batch_norm"] == {"scale": (5,), "bias": (5,)}

  def linear(params):
    images = jnp.asarray(batch["image"] / np.float32(127.5) - 1, jnp.float64)
    return lax.conv_general_dilated(
      images, params["conv"]["conv"]["kernel"], (2, 2), "SAME", dimension_numbers=NHWC
    )

  def loss(params):
    x = linear(params)
    x_hat = (x - x.mean(0)) / jnp.sqrt(x.var(0) + batch_norm.epsilon)
    y = x_hat * params["conv"]["batch_norm"]["scale"] + params["conv"]["batch_norm"]["bias"]
    x = 1 / (1 + jnp.exp(-y)).reshape(8, -1)
    logits = x @ params["logits"]["kernel"] + params["logits"]["bias"]
    of_labels = logits[jnp.arange(8), batch["label"]]
    return jnp.mean(jnp.log(jnp.exp(logits).sum(-1)) - of_labels)

  gradient = jax.jit(jax.grad(loss))(state.params)
  x = np.asarray(linear(state.params))
  after, _ = step(state, batch)
  for layer in ("conv", "logits"):
    expected = jax.tree.map(jnp.subtract, state.params[layer], gradient[layer])
    assert_close(after.params[layer], expected, FLOAT32)
  expected = {"mean": 0.1 * x.mean(0), "var": 0.9 + 0.1 * x.var(0, ddof=1)}
  assert_close(after.batch_stats["conv"]["batch_norm"], expected, FLOAT32)
