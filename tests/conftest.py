"""Eight virtual CPU devices for every test, so that what is sharded is tested sharded."""

import os
import signal

# Eight devices share a few cores: one may wait for another longer than XLA does before it aborts,
# and with a thread for each core alone, threads that wait leave none to those they wait for.
os.environ["XLA_FLAGS"] = (
  f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_collective_call_terminate_timeout_seconds=300"
)
os.environ["PJRT_NPROC"] = "16"

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
  """A directory that all commands of the tests share, for prepared data and compiled programs."""
  return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def without_nohup():
  """SIGHUP has its usual effect, also on what a test starts, however the tests were started."""
  previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, previous)
