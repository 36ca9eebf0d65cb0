"""Checkpoints: whole ones come back bit for bit, damaged ones never come back at all."""

import contextlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.storage.checkpoint import Checkpoints, digests


@pytest.fixture
def directory(tmp_path):
  return tmp_path / "checkpoints"


def open_checkpoints(directory, **options):
  return contextlib.closing(Checkpoints(directory, **options))


def make_values(step):
  """Kernel and velocity are large enough to get a file of their own from Orbax."""
  generator = np.random.default_rng(step)
  return {
    "params": {"kernel": generator.standard_normal((200, 300)).astype(np.float32)},
    "batch_stats": {},
    "step": np.int32(step),
    "opt_state": {
      "velocity": generator.standard_normal((200, 300)).astype(np.float32),
      "half": generator.standard_normal(7).astype(jnp.bfloat16),
    },
  }


def make_state(step):
  return parallel.replicate(parallel.make_mesh(), make_values(step))


def save_all(directory, *steps, **options):
  with open_checkpoints(directory, **options) as checkpoints:
    for step in steps:
      checkpoints.save(step, make_state(step), {"seconds": step / 7})


def restore(directory, template=None, **options):
  with open_checkpoints(directory, **options) as checkpoints:
    return checkpoints.restore(make_state(0) if template is None else template)


def assert_restored(restored, step):
  found_step, state, record = restored
  assert found_step == step
  assert record == {"seconds": step / 7}
  assert jax.tree.structure(state) == jax.tree.structure(make_state(step))
  for leaf, expected in zip(jax.tree.leaves(state), jax.tree.leaves(make_state(step)), strict=True):
    assert leaf.dtype == expected.dtype
    assert np.asarray(leaf).tobytes() == np.asarray(expected).tobytes()


def array_file(directory, step, item="weights"):
  """The largest file, which holds the bytes of the arrays."""
  files = (path for path in (directory / str(step) / item).rglob("*") if path.is_file())
  return max(files, key=lambda path: path.stat().st_size)


def record_file(directory, step):
  return directory / str(step) / "record" / "metadata"


def flip_bit(path, position):
  content = bytearray(path.read_bytes())
  content[position // 8] ^= 1 << position % 8
  path.write_bytes(content)


def files(directory):
  return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


class TestWhole:
  def test_nothing_saved(self, directory):
    assert restore(directory) is None

  def test_newest_comes_back(self, directory):
    save_all(directory, 3, 10)
    assert_restored(restore(directory), 10)

  def test_shapes_are_template_enough(self, directory):
    save_all(directory, 3)
    template = parallel.replicated_template(
      parallel.make_mesh(), jax.tree.map(jnp.asarray, make_values(0))
    )
    _, state, _ = restore(directory, template)
    assert state["params"]["kernel"].sharding == template["params"]["kernel"].sharding

  def test_restores_to_the_shardings_of_the_template(self, directory):
    save_all(directory, 3)
    mesh = parallel.make_mesh()
    by_rows = NamedSharding(mesh, PartitionSpec(parallel.AXIS))
    template = make_state(0)
    template["params"]["kernel"] = jax.device_put(template["params"]["kernel"], by_rows)
    _, state, _ = restore(directory, template)
    assert state["params"]["kernel"].sharding == by_rows
    np.testing.assert_array_equal(state["params"]["kernel"], make_state(3)["params"]["kernel"])

  def test_arrays_may_be_donated_at_once(self, directory):
    state = make_state(3)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda x: -x, tree), donate_argnums=0)
    with open_checkpoints(directory) as checkpoints:
      checkpoints.save(3, state, {"seconds": 3 / 7})
      overwrite({"params": state["params"], "opt_state": state["opt_state"]})
      assert state["params"]["kernel"].is_deleted()
    assert_restored(restore(directory), 3)

  def test_only_the_newest_are_kept(self, directory):
    save_all(directory, 1, 2, 3, keep=2)
    assert sorted(path.name for path in directory.iterdir()) == ["2", "3"]

  def test_a_step_is_saved_once(self, directory):
    save_all(directory, 3)
    with open_checkpoints(directory) as checkpoints:
      checkpoints.save(3, make_state(5), {"seconds": 0.0})
    assert_restored(restore(directory), 3)


# Orbax leaves coroutines behind that were never awaited when a file cannot be read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
class TestDamage:
  """Checkpoints 3 and 10 are there, and something has happened to 10."""

  @pytest.fixture(autouse=True)
  def saved(self, directory):
    save_all(directory, 3, 10)

  @pytest.fixture(
    params=[
      "bit flipped in a weight",
      "bit flipped in the optimiser's state",
      "array file cut off",
      "array file empty",
      "array file gone",
      "bit flipped in the record",
      "record is no JSON",
      "record gone",
      "weights gone",
      "training gone",
      "empty directory",
    ]
  )
  def damaged(self, directory, request):
    newest, array = directory / "10", array_file(directory, 10)
    match request.param:
      case "bit flipped in a weight":
        flip_bit(array, 4 * array.stat().st_size)
      case "bit flipped in the optimiser's state":
        velocity = array_file(directory, 10, "training")
        flip_bit(velocity, 4 * velocity.stat().st_size)
      case "array file cut off":
        array.write_bytes(array.read_bytes()[: array.stat().st_size // 2])
      case "array file empty":
        array.write_bytes(b"")
      case "array file gone":
        array.unlink()
      case "bit flipped in the record":
        record = record_file(directory, 10).read_text()
        record_file(directory, 10).write_text(record.replace("seconds", "secondr"))
      case "record is no JSON":
        record_file(directory, 10).write_text("{")
      case "record gone":
        shutil.rmtree(newest / "record")
      case "weights gone":
        shutil.rmtree(newest / "weights")
      case "training gone":
        shutil.rmtree(newest / "training")
      case "empty directory":
        shutil.rmtree(newest)
        newest.mkdir()

  def test_the_one_before_comes_back(self, directory, damaged, capsys):
    assert_restored(restore(directory), 3)
    assert capsys.readouterr().err.startswith("warning: checkpoint 10 is damaged and left out: ")

  def test_it_is_set_aside_and_its_step_saved_again(self, directory, damaged):
    assert_restored(restore(directory), 3)
    assert (directory.parent / "damaged" / "10").is_dir()
    save_all(directory, 10)
    assert_restored(restore(directory), 10)

  def test_reading_changes_nothing(self, directory, damaged):
    before = files(directory.parent)
    assert_restored(restore(directory, read_only=True), 3)
    assert files(directory.parent) == before

  def test_the_same_step_damaged_again(self, directory):
    for _ in range(3):
      array_file(directory, 10).unlink()
      assert_restored(restore(directory), 3)
      save_all(directory, 10)
    names = sorted(path.name for path in (directory.parent / "damaged").iterdir())
    assert names == ["10", "10-2", "10-3"]

  def test_all_are_damaged(self, directory, capsys):
    array_file(directory, 3).unlink()
    flip_bit(array_file(directory, 10), 500_000)
    before = files(directory.parent)
    with pytest.raises(UserError, match=r"None of the checkpoints .* \(2 damaged\)"):
      restore(directory)
    assert "checkpoint 10 is damaged" in capsys.readouterr().err
    assert files(directory.parent) == before

  def test_half_written(self, directory):
    """What a process leaves behind that is killed while it writes."""
    (directory / "10").rename(directory / "10.orbax-checkpoint-tmp")
    assert_restored(restore(directory, read_only=True), 3)
    assert_restored(restore(directory), 3)
    save_all(directory, 10)
    assert sorted(path.name for path in directory.iterdir()) == ["10", "3"]

  def test_a_flipped_bit_anywhere_is_found_or_does_no_harm(self, directory, tmp_path, capsys):
    generator = np.random.default_rng(0)
    found = 0
    for path in sorted((directory / "10").rglob("*")):
      for _ in range(3 if path.is_file() else 0):
        whole = path.read_bytes()
        flip_bit(path, int(generator.integers(8 * len(whole))))
        restored = restore(directory, read_only=True)
        assert_restored(restored, restored[0])
        found += restored[0] == 3
        path.write_bytes(whole)
    assert found >= 3
    assert capsys.readouterr().err.count("warning: checkpoint 10 is damaged") == found

  def test_only_the_digest_finds_a_flipped_bit_in_an_array(self, directory, capsys):
    flip_bit(array_file(directory, 10), 4 * array_file(directory, 10).stat().st_size)
    with ocp.StandardCheckpointer() as checkpointer:
      kernel = checkpointer.restore(directory / "10" / "weights")["params"]["kernel"]
    assert not np.array_equal(kernel, make_state(10)["params"]["kernel"])
    assert_restored(restore(directory), 3)
    assert "the digest of params/kernel differs (1 leaves in all)" in capsys.readouterr().err


class TestAnotherConfig:
  """A checkpoint that holds other arrays is not damaged."""

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      (
        {"params": {"kernel": np.zeros((200, 301), np.float32)}},
        r"params/kernel is float32\[200,300\], not float32\[200,301",
      ),
      (
        {"params": {"kernel": np.zeros((200, 300), np.int32)}},
        r"params/kernel is float32\[200,300\], not int32\[200,300\]",
      ),
      ({"other": np.zeros(3, np.float32)}, r"other is absent, not float32\[3\]"),
    ],
  )
  def test_is_refused_and_stays(self, directory, change, message):
    save_all(directory, 3, 10)
    before = files(directory.parent)
    with pytest.raises(UserError, match=f"Checkpoint 10 .*{message}"):
      restore(directory, {**make_state(0), **change})
    assert files(directory.parent) == before

  def test_an_array_more(self, directory):
    save_all(directory, 3)
    template = make_state(0)
    del template["opt_state"]
    with pytest.raises(UserError, match=r"opt_state/half is bfloat16\[7\], not absent"):
      restore(directory, template)


def test_a_step_below_the_newest_is_refused_and_told(directory):
  """Orbax leaves it out without a word."""
  save_all(directory, 3, 10)
  message = r"Checkpoint 4 was not written .* later one, of step 10;"
  with open_checkpoints(directory) as checkpoints, pytest.raises(UserError, match=message):
    checkpoints.save(4, make_state(4), {"seconds": 0.0})
  assert sorted(path.name for path in directory.iterdir()) == ["10", "3"]


class TestAnotherForm:
  """Of the optimiser's state, and of the average; see `resuming`."""

  def save(self, directory, state):
    with open_checkpoints(directory) as checkpoints:
      checkpoints.save(3, parallel.replicate(parallel.make_mesh(), state), {"seconds": 3 / 7})

  def restore(self, directory, template):
    return restore(directory, parallel.replicate(parallel.make_mesh(), template))[1]

  def test_the_velocity_goes_over_to_another_place_of_the_chain(self, directory):
    velocity = {"trace": {"kernel": np.float32([1, 2])}}
    self.save(directory, {"opt_state": ((velocity, {"count": np.int32(7)}),)})
    zeros = jax.tree.map(np.zeros_like, (velocity, {"count": np.int32(0)}))
    state = self.restore(directory, {"opt_state": ({}, {}, zeros)})
    assert state["opt_state"][2][1]["count"] == 7
    np.testing.assert_array_equal(state["opt_state"][2][0]["trace"]["kernel"], [1, 2])

  def test_a_velocity_begins_at_zero_and_ends(self, directory):
    with_velocity = {
      "opt_state": (({"trace": {"kernel": np.float32([1, 2])}}, {"n": np.int32(7)}),)
    }
    without = {"opt_state": (({}, {"n": np.int32(3)}),)}
    self.save(directory / "with", with_velocity)
    self.save(directory / "without", without)
    state = self.restore(directory / "with", without)
    assert jax.tree.leaves(state) == [7]
    velocity, number = jax.tree.leaves(self.restore(directory / "without", with_velocity))
    assert not velocity.any()
    assert number == 3

  def test_an_average_begins_as_a_copy(self, directory):
    params = {"kernel": np.float32([1, 2])}
    step = {"step": np.int32(3)}
    self.save(directory, {"params": params, **step})
    state = self.restore(directory, {"params": params, "average": {"params": params}, **step})
    negate = jax.jit(lambda tree: jax.tree.map(lambda x: -x, tree), donate_argnums=0)
    negated = negate(state)
    np.testing.assert_array_equal(negated["params"]["kernel"], [-1, -2])
    np.testing.assert_array_equal(negated["average"]["params"]["kernel"], [-1, -2])


TRAINED = {
  "params": {"kernel": np.float32([1, 2])},
  "batch_stats": {"mean": np.float32([3])},
  "opt_state": {"trace": np.float32([4])},
}
VARIABLES = {name: TRAINED[name] for name in ("params", "batch_stats")}


class TestWeights:
  """What inference takes of a checkpoint, and nothing else."""

  def save(self, directory, state):
    with open_checkpoints(directory) as checkpoints:
      for step in (3, 10):
        checkpoints.save(step, parallel.replicate(parallel.make_mesh(), state), {"seconds": 1.0})

  def restore(self, directory, template=VARIABLES, **options):
    template = parallel.replicate(parallel.make_mesh(), template)
    with open_checkpoints(directory, read_only=True) as checkpoints:
      return checkpoints.restore_weights(template, **options)

  def test_of_training(self, directory):
    self.save(directory, TRAINED)
    step, variables, record = self.restore(directory)
    assert (step, record) == (10, {"seconds": 1.0})
    assert jax.tree.map(np.ndarray.tolist, jax.device_get(variables)) == {
      "params": {"kernel": [1, 2]},
      "batch_stats": {"mean": [3]},
    }
    assert self.restore(directory, step=3)[0] == 3

  def test_the_average_where_there_is_one(self, directory):
    average = {"params": {"kernel": np.float32([5, 6])}, "batch_stats": {"mean": np.float32([7])}}
    self.save(directory, {**TRAINED, "average": average})
    _, variables, _ = self.restore(directory)
    np.testing.assert_array_equal(variables["params"]["kernel"], [5, 6])
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], [7])

  def test_what_the_average_is_of(self, directory):
    self.save(directory, {**TRAINED, "average": jax.tree.map(np.negative, VARIABLES)})
    _, variables, _ = self.restore(directory, averaged=False)
    np.testing.assert_array_equal(variables["params"]["kernel"], [1, 2])
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], [3])

  def test_of_a_network_without_batch_normalization(self, directory):
    self.save(directory, {**TRAINED, "batch_stats": {}})
    _, variables, _ = self.restore(directory, {**VARIABLES, "batch_stats": {}})
    assert variables["batch_stats"] == {}

  def test_damage_to_the_rest_does_not_matter(self, directory):
    self.save(directory, TRAINED)
    shutil.rmtree(directory / "10" / "training")
    assert self.restore(directory)[0] == 10

  @pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
  def test_damage_to_them_does(self, directory, capsys):
    self.save(directory, TRAINED)
    shutil.rmtree(directory / "10" / "weights")
    assert self.restore(directory)[0] == 3
    assert "warning: checkpoint 10 is damaged and left out" in capsys.readouterr().err

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      (
        {"params": {"kernel": np.zeros(3, np.float32)}},
        r"params/kernel is float32\[2\], not float",
      ),
      ({"params": {}}, r"params/kernel is float32\[2\], not absent"),
      ({"batch_stats": {"var": np.float32([1])}}, r"batch_stats/var is absent, not float32\[1\]"),
    ],
  )
  def test_of_another_network(self, directory, change, message):
    self.save(directory, TRAINED)
    with pytest.raises(UserError, match=message):
      self.restore(directory, {**VARIABLES, **change})

  def test_are_no_run_that_could_go_on(self, directory):
    self.save(directory, VARIABLES)
    with pytest.raises(UserError, match=r"Checkpoint 10 in .* holds weights, not a run that could"):
      restore(directory, parallel.replicate(parallel.make_mesh(), TRAINED))


class TestDigests:
  def test_name_each_leaf(self):
    tree = {"a": (jnp.zeros(2), jnp.zeros((), jnp.int32))}
    assert {name: digest.split()[0] for name, digest in digests(tree).items()} == {
      "a/0": "float32[2]",
      "a/1": "int32[]",
    }

  @pytest.mark.parametrize(
    "other",
    [
      np.array([0.0, 1.0, 3.0], np.float32),
      np.array([-0.0, 1.0, 2.0], np.float32),
      np.array([[0.0, 1.0, 2.0]], np.float32),
      np.array([0.0, 1.0, 2.0], np.float32).view(np.int32),
    ],
    ids=["value", "sign of zero", "shape", "dtype"],
  )
  def test_differ(self, other):
    array = np.array([0.0, 1.0, 2.0], np.float32)
    assert digests({"x": array}) != digests({"x": other})

  def test_do_not_depend_on_the_layout(self):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert digests({"x": array}) == digests({"x": np.asfortranarray(array)})
    assert digests({"x": array}) == digests({"x": parallel.replicate(parallel.make_mesh(), array)})

  def test_are_kept_as_json(self, directory):
    save_all(directory, 3)
    state = make_state(3)
    assert json.loads(record_file(directory, 3).read_text())["digests"] == {
      "weights": digests({"params": state["params"]}),
      "training": digests({"step": state["step"], "opt_state": state["opt_state"]}),
    }
