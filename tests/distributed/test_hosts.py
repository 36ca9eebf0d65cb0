"""Several processes of one run: how they meet, what they learn from the main one, how they part."""

import json
import pathlib
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT, finish, flags, launch, start

from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError

PROCESSES = 2


@pytest.fixture(scope="module")
def said(scratch, tmp_path_factory):
  """What each process of tests/host_program.py has found; and what was printed."""
  workdir = tmp_path_factory.mktemp("hosts")
  process = launch(
    scratch, f"--workdir={workdir}", "--patience=100", program="tests/host_program.py", devices=2
  )
  status, output, errors = finish(process)
  assert status == 0, errors
  results = [json.loads((workdir / f"{index}.json").read_text()) for index in range(PROCESSES)]
  return results, output


@pytest.fixture(scope="module")
def results(said):
  return said[0]


def in_all(results, name):
  """A value that all processes have in common."""
  first, *others = (result[name] for result in results)
  assert all(other == first for other in others)
  return first


def test_one_of_them_is_the_main_one(results):
  assert [result["is_main"] for result in results] == [True, False]
  assert in_all(results, "several") is True
  assert in_all(results, "patience") == 100


def test_the_main_process_alone_prints(said):
  assert said[1] == "printed by the main process\n"


def test_what_the_main_process_has_found_all_know(results):
  assert in_all(results, "from_main")["index"] == 0


def test_what_one_process_says_reaches_all(results):
  assert in_all(results, "gathered") == ["", "1 猫 \udcff"]


def test_a_mistake_that_any_process_has_found_ends_all(results):
  assert in_all(results, "found by one") == "Process 1 has found a mistake."


def test_what_one_process_cannot_do_ends_all(results):
  assert in_all(results, "opened by one") == "Process 1: Process 1 has found a mistake."


def test_nothing_that_a_message_holds_is_run(monkeypatch):
  """A process that is not the main one reads what another host sent: JSON, never a pickle."""

  class Marker:
    def __reduce__(self):
      return (pytest.fail, ("run",))

  monkeypatch.setattr(hosts, "are_several", lambda: True)
  monkeypatch.setattr(hosts, "is_main", lambda: False)
  monkeypatch.setattr(hosts, "_bytes_from_main", lambda data: pickle.dumps(Marker()))
  with pytest.raises(ValueError, match="decode"):
    hosts.from_main(lambda: None)


def test_a_mistake_that_the_main_process_has_found_ends_all(results):
  assert in_all(results, "mistake") == "Process 0 has found a mistake."


def test_arrays_of_the_main_process_arrive_bit_for_bit(results):
  received = in_all(results, "bytes")
  half = np.array([-0.0, np.nan, 1e-40, 3.5]).astype(jnp.bfloat16)
  assert received["half"] == half.tobytes().hex()
  assert received["odd number of bytes"] == "010203"
  assert received["scalar"] == np.float32(7).tobytes().hex()
  assert received["nothing"] == ""


def test_processes_with_other_configs_do_not_train_together(results):
  assert in_all(results, "same") is None
  message = in_all(results, "different")
  assert message.startswith("Process 1 was started with another config than process 0")


def test_processes_with_other_data_do_not_train_together(results):
  assert in_all(results, "other data") == (
    "Process 1 has other data than process 0: other classes, another order: class 0 was 'a' and is "
    "'b'. Give all processes the same data."
  )


def test_a_processs_rows_are_those_of_its_devices(results):
  assert in_all(results, "owners") == [0, 0, 1, 1]
  assert in_all(results, "rows") == [0, 0, 1, 1]


class TestAlone:
  def test_it_is_the_main_process(self):
    assert hosts.is_main()
    assert not hosts.are_several()
    assert hosts.patience() is None

  def test_it_finds_out_itself(self):
    value = {"step": 3, "eval": None, "loss": 0.1, "classes": ["猫", "\udcff"]}
    assert hosts.from_main(lambda: value) == value
    arrays = object()
    assert hosts.arrays_from_main(arrays, None) is arrays
    hosts.check_same("config", "any text")
    assert hosts.gather("any text") == ["any text"]
    assert hosts.in_all(lambda: arrays) is arrays
    hosts.check_all(None)
    hosts.leave()

  def test_its_own_mistake_is_raised(self):
    def fail():
      raise UserError("a mistake")

    with pytest.raises(UserError, match=r"^a mistake$"):
      hosts.from_main(fail)
    with pytest.raises(UserError, match=r"^a mistake$"):
      hosts.check_all("a mistake")

  @pytest.mark.parametrize("value", [object(), pathlib.Path("a"), np.float32(1), {1, 2}])
  def test_what_several_could_not_tell_each_other_it_refuses_too(self, value):
    with pytest.raises(TypeError, match="JSON"):
      hosts.from_main(lambda: value)

  def test_it_joins_nobody(self, monkeypatch):
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    hosts.initialize()
    assert not hosts.jax.distributed.is_initialized()


class TestCluster:
  """Whether JAX is asked to find the other processes by itself."""

  @pytest.fixture
  def joined(self, monkeypatch):
    """The arguments of `jax.distributed.initialize`, once it has been called."""
    calls = []
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda **named: calls.append(named))
    return calls

  @pytest.mark.parametrize(
    ("environment", "is_one"),
    [
      ({"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"}, True),
      ({"SLURM_STEP_NODELIST": "node1", "SLURM_NTASKS": "1"}, False),
      ({"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"}, False),
      ({}, False),
    ],
    ids=["srun", "srun_of_one", "sbatch", "nothing"],
  )
  def test_is_known_by_its_environment(self, environment, is_one, joined, monkeypatch):
    for name in ("SLURM_STEP_NODELIST", "SLURM_NTASKS"):
      monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    hosts.initialize(patience=77)
    assert bool(joined) == is_one
    if is_one:
      assert joined[0]["heartbeat_timeout_seconds"] == 77
      assert "coordinator_address" not in joined[0]

  @pytest.mark.parametrize("has_libtpu", [True, False])
  def test_a_tpu_host_is_known_by_its_chips(self, has_libtpu, joined, monkeypatch, tmp_path):
    """And by JAX's library for them; other machines have devices of these names too."""
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    (tmp_path / "accel0").touch()
    monkeypatch.setattr(hosts, "_TPU_DEVICE_FILES", (f"{tmp_path}/accel*",))
    found = object() if has_libtpu else None
    monkeypatch.setattr(hosts.importlib.util, "find_spec", lambda name: found)
    hosts.initialize()
    assert bool(joined) == has_libtpu

  def test_that_does_not_say_enough_is_told_of(self, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
    monkeypatch.setenv("SLURM_NTASKS", "2")

    def find_nothing(**named):
      raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(hosts.jax.distributed, "initialize", find_nothing)
    with pytest.raises(UserError, match=r"cannot be reached \(coordinator_address should be defi"):
      hosts.initialize()

  def test_flags_come_first(self, joined, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    hosts.initialize("10.0.0.1:1234", 4, 3)
    assert joined[0]["coordinator_address"] == "10.0.0.1:1234"
    assert (joined[0]["num_processes"], joined[0]["process_id"]) == (4, 3)
    assert joined[0]["cluster_detection_method"] == "deactivate"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("host:1", None, None), r"--process_count is missing; give --coordinator_address, --process_"),
    ((None, 2, 0), "--coordinator_address is missing"),
    (("host:1", 2, None), "--process_index is missing"),
    (("host", 2, 0), "--coordinator_address=host is not of the form HOST:PORT"),
    (("host:port", 2, 0), "--coordinator_address=host:port is not of the form HOST:PORT"),
    (("host:1", 2, 2), "--process_index=2 is not one of 2 processes; number them from 0 to 1"),
    (("host:1", 2, -1), "--process_index=-1 is not one of 2 processes"),
    (("host:1", 2, 0, 0.5), r"--patience=0\.5 is too short"),
  ],
)
def test_flags_that_make_no_sense(arguments, message):
  with pytest.raises(UserError, match=message):
    hosts.initialize(*arguments)


@pytest.mark.slow
class TestMistakes:
  """Each in one sentence, by the process that has it."""

  def test_a_partner_that_does_not_come(self, scratch, tmp_path):
    """Process 1 of 2 finds no process 0 in the time that it has."""
    arguments = ("--coordinator_address=127.0.0.1:1", "--process_count=2", "--process_index=1")
    process = start(
      scratch,
      ROOT / "tests" / "tiny.py",
      f"--config={ROOT}/configs/bn_inception.py",
      f"--workdir={tmp_path}",
      *arguments,
      "--patience=2",
      *flags(),
    )
    status, _, errors = finish(process)
    assert status != 0
    assert "error: The other processes cannot be reached" in errors or status < 0

  def test_an_experiment_for_one(self, scratch, tmp_path):
    process = launch(scratch, f"--config={ROOT}/configs/bn_fc.py", f"--workdir={tmp_path / 'run'}")
    status, _, errors = finish(process)
    assert status == 1
    assert "error: The experiment 'bn_fc' is the work of one process" in errors
    assert not (tmp_path / "run").exists()
