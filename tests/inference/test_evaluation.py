"""Evaluation on a whole split."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data import averaged_crops
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.averaged_crops import AveragedCrops
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT, Normalization
from speedpaper_jax.data.pipeline import train_batches
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.sources import Split
from speedpaper_jax.data.ten_crops import TenCrops
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import evaluation
from speedpaper_jax.inference.evaluation import Answers, Evaluator, divisible_batch_size
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.steps import build

CLASSES = 8
SIZE = 4
TRAIN_COUNT, EVAL_COUNT = 64, 37
DAMAGED = 11
WHOLE = EvaluationCrop(SIZE)


class Network(nn.Module):
  """Normalises the pixels; the softmax layer follows."""

  epsilon: float
  frozen: tuple[str, ...] = ()

  @nn.compact
  def __call__(self, images, *, train):
    batch_norm = BatchNorm(epsilon=self.epsilon, frozen=self.frozen, name="batch_norm")
    x = batch_norm(images, train=train)
    return nn.Dense(CLASSES, name="logits")(x.reshape(x.shape[0], -1))


def make_split(seed, count):
  generator = np.random.default_rng(seed)
  records = [
    {
      "image": generator.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8),
      "label": int(generator.integers(CLASSES)),
    }
    for _ in range(count)
  ]
  return Split(records, num_classes=CLASSES, class_names=tuple("abcdefgh"))


def make_variables(kernel_scale=1.0):
  generator = np.random.default_rng(2)
  return {
    "params": {
      "batch_norm": {"scale": jnp.full(3, 1.5), "bias": jnp.full(3, 0.5)},
      "logits": {
        "kernel": jnp.asarray(
          kernel_scale * generator.normal(size=(SIZE * SIZE * 3, CLASSES)), jnp.float32
        ),
        "bias": jnp.zeros(CLASSES),
      },
    },
    "batch_stats": {"batch_norm": {"mean": jnp.full(3, 0.3), "var": jnp.full(3, 0.1)}},
  }


def as_arrays(split):
  """Images normalised to [-1, 1], and labels."""
  images = np.stack([record["image"] for record in split.records]) / 127.5 - 1
  return images, np.array([record["label"] for record in split.records])


def evaluated_directly(variables, split, epsilon):
  """The metrics, from all images at once, in NumPy."""
  images, labels = as_arrays(split)
  params, stats = variables["params"], variables["batch_stats"]["batch_norm"]
  x = (images - stats["mean"]) / np.sqrt(stats["var"] + epsilon)
  x = x * params["batch_norm"]["scale"] + params["batch_norm"]["bias"]
  logits = np.asarray(x.reshape(len(x), -1) @ params["logits"]["kernel"], np.float64)
  label_logits = logits[np.arange(len(x)), labels]
  rank = np.sum(logits > label_logits[:, None], 1)
  return {
    "loss": np.mean(np.log(np.exp(logits).sum(1)) - label_logits),
    "top1": np.mean(rank < 1),
    "top5": np.mean(rank < 5),
    "count": len(x),
  }


@pytest.fixture
def config():
  config = train_config()
  config.data.image_size = SIZE
  config.batch_size = 16
  config.batch_norm.update(epsilon=1e-3, population_batches=3)
  return config


@pytest.fixture(autouse=True)
def networks(monkeypatch):
  """A small network in place of the config's; the configs that it was built from."""
  configs = []

  def build_model(config, num_classes, mesh):
    configs.append(config)
    return Network(config.batch_norm.epsilon)

  monkeypatch.setattr(build, "build_model", build_model)
  return configs


def cut(crops, image):
  return crops.windows.cut(crops(image))


def make_evaluator(config, split, normalization=DEFAULT, crop=WHOLE, among=None):
  preprocessing = Preprocessing(crop, normalization)
  mesh, train_split = parallel.make_mesh(), make_split(0, TRAIN_COUNT)
  network = build.build_inference_model(config, split.num_classes, mesh)
  return Evaluator(network, config, mesh, preprocessing, split, train_split, among)


def evaluate(config, split, variables=None, normalization=DEFAULT):
  return make_evaluator(config, split, normalization)(variables or make_variables())


@pytest.mark.parametrize("eval_batch_size", [1, 7, 8, 100])
def test_the_batch_size_does_not_matter(config, eval_batch_size):
  split = make_split(1, EVAL_COUNT)
  config.eval_batch_size = eval_batch_size
  expected = evaluated_directly(make_variables(), split, config.batch_norm.epsilon)
  assert 0 < expected["top1"] < expected["top5"] < 1
  assert evaluate(config, split) == pytest.approx(expected, rel=1e-6)


def test_images_are_normalised_as_the_preprocessing_says(config):
  split = make_split(1, EVAL_COUNT)
  mirrored = Split(
    [{**record, "image": record["image"][..., ::-1]} for record in split.records],
    CLASSES,
    split.class_names,
  )
  swapped = Normalization("BGR", DEFAULT.mean, DEFAULT.std)
  expected = evaluate(config, split)
  assert evaluate(config, mirrored, normalization=swapped) == pytest.approx(expected, rel=1e-6)
  assert evaluate(config, split, normalization=swapped) != expected


def test_counts_are_exact(config):
  metrics = evaluate(config, make_split(1, EVAL_COUNT))
  for name in ("top1", "top5"):
    hits = round(metrics[name] * EVAL_COUNT)
    assert metrics[name] == hits / EVAL_COUNT
  assert metrics["count"] == EVAL_COUNT
  assert isinstance(metrics["count"], int)


def test_training_images_are_not_augmented(config):
  config.data.augmentation.crop, config.data.augmentation.shift = "shift", 2
  config.data.augmentation.flip = True
  found = make_evaluator(config, make_split(1, EVAL_COUNT)).on_training_images(make_variables())
  expected = evaluated_directly(
    make_variables(), make_split(0, TRAIN_COUNT), config.batch_norm.epsilon
  )
  assert found == pytest.approx(expected, rel=1e-6)


def log_probabilities(variables, images, epsilon):
  """Of uint8 images, by the network uncompiled, in float64."""
  logits = Network(epsilon).apply(variables, images / np.float32(127.5) - 1, train=False)
  logits = np.asarray(logits, np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("eval_batch_size", [8, 100])
def test_probabilities_of_ten_crops_are_averaged(config, eval_batch_size):
  split, crop = make_split(1, EVAL_COUNT), EvaluationCrop(SIZE, 0.6)
  config.eval_batch_size = eval_batch_size
  variables = make_variables()
  crops = np.stack([cut(TenCrops(crop), record["image"]) for record in split.records])
  log_p = log_probabilities(variables, crops.reshape(-1, SIZE, SIZE, 3), config.batch_norm.epsilon)
  p = np.exp(log_p).reshape(EVAL_COUNT, 10, CLASSES).mean(1)
  labels = np.array([record["label"] for record in split.records])
  of_labels = p[np.arange(EVAL_COUNT), labels]
  rank = np.sum(p > of_labels[:, None], 1)

  found = make_evaluator(config, split, crop=crop).on_ten_crops(variables)
  assert found == pytest.approx(
    {
      "loss": -np.mean(np.log(of_labels)),
      "top1": np.mean(rank < 1),
      "top5": np.mean(rank < 5),
      "count": EVAL_COUNT,
    },
    rel=1e-5,
  )
  assert found != make_evaluator(config, split, crop=crop)(variables)


def test_ten_crops_that_are_one_are_refused_at_the_beginning(config):
  config.evaluate_ten_crops = True
  with pytest.raises(UserError, match="Ten crops of an image that is squashed"):
    make_evaluator(config, make_split(1, EVAL_COUNT))


@pytest.mark.parametrize("eval_batch_size", [8, 100])
def test_answers_are_what_is_said_of_each_image(config, eval_batch_size):
  split = make_split(1, EVAL_COUNT)
  config.eval_batch_size = eval_batch_size
  images = np.stack([record["image"] for record in split.records])
  labels = np.array([record["label"] for record in split.records])
  split.records[DAMAGED]["image"] = b"no image"
  whole = np.delete(np.arange(EVAL_COUNT), DAMAGED)
  p = np.exp(log_probabilities(make_variables(), images, config.batch_norm.epsilon))[whole]

  answers = make_evaluator(config, split).answers(make_variables())
  np.testing.assert_array_equal(answers.numbers, whole)
  np.testing.assert_array_equal(answers.labels, labels[whole])
  np.testing.assert_array_equal(answers.predicted, p.argmax(1))
  np.testing.assert_allclose(answers.probability_of(answers.predicted), p.max(1), rtol=1e-5)
  of_labels = p[np.arange(len(whole)), labels[whole]]
  np.testing.assert_allclose(answers.probability_of(answers.labels), of_labels, rtol=1e-4)


def image_by_image(variables, split, crops, config, numbers):
  """The mean of the crops' probabilities of some images, by the network uncompiled."""
  of_crop = crops.of(EvaluationCrop(SIZE, 0.6))
  for number in numbers:
    image = split.records[number]["image"]
    each = [of_crop(image)] if crops.number == 1 else cut(of_crop, image)
    assert len(each) == crops.number
    yield np.exp(log_probabilities(variables, np.array(each), config.batch_norm.epsilon)).mean(0)


@pytest.mark.parametrize("eval_batch_size", [8, 100])
@pytest.mark.parametrize("number", averaged_crops.NUMBERS)
def test_probabilities_are_those_of_a_loop_over_images_and_crops(config, number, eval_batch_size):
  split, crops = make_split(1, EVAL_COUNT), AveragedCrops(number)
  config.eval_batch_size = eval_batch_size
  labels = np.array([record["label"] for record in split.records])
  whole = np.delete(np.arange(EVAL_COUNT), DAMAGED)
  variables = make_variables(kernel_scale=0.1)  # so that probabilities differ little
  expected = list(image_by_image(variables, split, crops, config, whole))
  split.records[DAMAGED]["image"] = b"no image"

  evaluator = make_evaluator(config, split, crop=EvaluationCrop(SIZE, 0.6))
  pieces = list(evaluator.pieces(variables, crops))
  assert pieces[-1][0] == EVAL_COUNT
  found = Answers.join([piece for _, piece in pieces])
  np.testing.assert_array_equal(found.numbers, whole)
  np.testing.assert_array_equal(found.labels, labels[whole])
  assert found.log_probabilities.dtype == np.float32
  np.testing.assert_allclose(np.exp(found.log_probabilities), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", [1, 144])
def test_an_evaluation_begins_anywhere(config, number):
  """Batches are cut elsewhere then, which makes no difference to an image."""
  split, config.eval_batch_size = make_split(1, EVAL_COUNT), 8
  evaluator = make_evaluator(config, split)
  whole = Answers.join(
    [piece for _, piece in evaluator.pieces(make_variables(), AveragedCrops(number))]
  )
  for start in (1, 29, EVAL_COUNT - 1):
    rest = list(evaluator.pieces(make_variables(), AveragedCrops(number), start))
    found = Answers.join([piece for _, piece in rest])
    np.testing.assert_array_equal(found.numbers, np.arange(start, EVAL_COUNT))
    np.testing.assert_allclose(found.log_probabilities, whole.log_probabilities[start:], rtol=1e-6)


def test_of_some_classes_the_others_are_masked(config):
  split = make_split(1, EVAL_COUNT)
  among = np.isin(np.arange(CLASSES), [1, 2, 5])
  images = np.stack([record["image"] for record in split.records])
  log_p = log_probabilities(make_variables(), images, config.batch_norm.epsilon)
  p = np.where(among, np.exp(log_p), 0)
  expected = p / p.sum(-1, keepdims=True)
  found = make_evaluator(config, split, among=among).answers(make_variables())
  np.testing.assert_allclose(np.exp(found.log_probabilities), expected, rtol=1e-4, atol=1e-7)
  assert (found.log_probabilities[:, ~among] == -np.inf).all()


def test_a_damaged_image_does_not_count_and_is_told(config, capsys):
  split = make_split(1, EVAL_COUNT)
  whole = Split(split.records[:DAMAGED] + split.records[DAMAGED + 1 :], CLASSES, split.class_names)
  split.records[DAMAGED]["image"] = b"no image"
  metrics = evaluate(config, split)
  assert metrics == pytest.approx(evaluate(config, whole), rel=1e-6)
  assert metrics["count"] == EVAL_COUNT - 1
  assert capsys.readouterr().err.splitlines()[-1] == (
    "warning: 1 of the 37 images cannot be decoded, and the evaluation leaves them out."
  )


def test_a_split_without_a_whole_image_is_refused(config):
  split = make_split(1, 3)
  for record in split.records:
    record["image"] = b"no image"
  with pytest.raises(UserError, match="None of the images to evaluate on can be decoded"):
    evaluate(config, split)


def test_population_statistics_take_the_place_of_the_moving_averages(config):
  """Algorithm 2: over three mini-batches of training, E[μ] and E[σ²]·m/(m-1)."""
  split, variables = make_split(1, EVAL_COUNT), make_variables()
  moving_average = evaluate(config, split)
  config.batch_norm.inference = "population"

  batches = train_batches(
    make_split(0, TRAIN_COUNT),
    image_size=SIZE,
    batch_size=config.batch_size,
    seed=config.seed,
    augmentation=Augmentation(),
  )
  images = [batch["image"] / 127.5 - 1 for batch in itertools.islice(batches, 3)]
  batches.close()
  statistics = {
    "mean": np.mean([x.mean((0, 1, 2)) for x in images], 0),
    "var": np.mean([x.var((0, 1, 2), ddof=1) for x in images], 0),
  }
  direct = {**variables, "batch_stats": {"batch_norm": statistics}}
  expected = evaluated_directly(direct, split, config.batch_norm.epsilon)

  population = evaluate(config, split)
  assert population == pytest.approx(expected, rel=1e-5)
  assert abs(population["loss"] - moving_average["loss"]) > 0.1


def test_what_is_frozen_has_its_own_statistics_among_them(config, monkeypatch):
  frozen = Network(config.batch_norm.epsilon, frozen=("batch_norm",))
  monkeypatch.setattr(build, "build_model", lambda *arguments: frozen)
  moving_average = evaluate(config, make_split(1, EVAL_COUNT))
  config.batch_norm.inference = "population"
  assert evaluate(config, make_split(1, EVAL_COUNT)) == moving_average


def test_a_network_without_batch_norm_has_no_population_statistics(config):
  split = make_split(1, EVAL_COUNT)
  expected = evaluate(config, split)
  config.batch_norm.update(enabled=False, inference="population")
  assert evaluate(config, split) == expected


def test_evaluation_runs_under_jit_whatever_training_does(config, networks):
  split = make_split(1, EVAL_COUNT)
  expected = evaluate(config, split)
  config.parallel = "pmap"
  assert evaluate(config, split) == expected
  assert [built.parallel for built in networks] == ["jit", "jit"]
  assert config.parallel == "pmap"


def test_batches_are_rounded_up_to_the_devices():
  mesh = parallel.make_mesh()
  assert jax.device_count() == 8
  assert [divisible_batch_size(size, mesh) for size in (1, 7, 8, 9, 100)] == [8, 8, 8, 16, 104]


@pytest.mark.parametrize(("eval_batch_size", "rows"), [(16, 16), (37, 40), (512, 40)])
def test_batches_are_no_larger_than_what_is_evaluated(config, monkeypatch, eval_batch_size, rows):
  """37 images on eight devices."""
  config.eval_batch_size = eval_batch_size
  asked = []
  batches = evaluation.eval_batches

  def spied(split, *, batch_size, **named):
    asked.append(batch_size)
    return batches(split, batch_size=batch_size, **named)

  monkeypatch.setattr(evaluation, "eval_batches", spied)
  evaluate(config, make_split(1, EVAL_COUNT))
  assert asked == [rows]


class TestWithNormalizationsFolded:
  def answers(self, network, config, variables, folds):
    preprocessing = Preprocessing(WHOLE, DEFAULT)
    split, train_split = make_split(1, EVAL_COUNT), make_split(0, TRAIN_COUNT)
    evaluator = Evaluator(
      network, config, parallel.make_mesh(), preprocessing, split, train_split, folds=folds
    )
    return evaluator.answers(variables).log_probabilities

  @pytest.mark.parametrize("inference", ["moving_average", "population"])
  def test_the_answers_are_the_same_with_the_statistics_that_the_config_asks_for(
    self, config, inference, monkeypatch
  ):
    config.batch_norm.inference = inference
    network = tiny.TinyNetwork(CLASSES, LayerSettings(BatchNorm(epsilon=1e-3)))
    variables = network.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
    moving = {"mean": jnp.full(8, 0.1), "var": jnp.full(8, 0.2)}
    variables = {**variables, "batch_stats": {"conv": {"batch_norm": moving}}}
    expected = self.answers(network, config, variables, folds=False)
    folded = []

    def watched(network, variables, mesh):
      folded.append(variables["batch_stats"]["conv"]["batch_norm"])
      return fold(network, variables, mesh)

    fold = build.fold_batch_norm
    monkeypatch.setattr(build, "fold_batch_norm", watched)
    found = self.answers(network, config, variables, folds=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (statistics,) = folded
    is_moving = np.array_equal(statistics["var"], moving["var"])
    assert is_moving == (inference == "moving_average")
