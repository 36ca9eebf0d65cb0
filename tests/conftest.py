"""Eight virtual CPU devices for every test, so that what is sharded is tested sharded."""

import os
import shutil
import signal
import tempfile

# For commands, too.
os.environ["XLA_FLAGS"] = " ".join(
  (
    os.environ.get("XLA_FLAGS", ""),
    # Eight devices share a few cores: one may wait for another for longer than XLA would.
    "--xla_cpu_collective_call_terminate_timeout_seconds=300",
    # The older of XLA's two ways to CPU kernels, and all kernels at once: half the processor time.
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
  )
)
# With a thread for each core alone, threads that wait leave none to those they wait for.
os.environ["PJRT_NPROC"] = "16"
# Without LLVM's optimisations, which take longer than they save where little is computed; XLA's own
# stay.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# One thread of PyTorch's in each worker: more wait for each other where the cores are busy.
os.environ["OMP_NUM_THREADS"] = "1"

import jax
import pytest

from speedpaper_jax.command_line import entry_point

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

entry_point.collect_garbage_less_often()


def pytest_configure(config):
  """What a test or one of its commands has compiled, all workers and their commands load."""
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the workers have it from the first process
    directory = tempfile.mkdtemp(prefix="compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = directory
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
  jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
  seconds = float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
  jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
  """Files with slow tests first, or one worker would still be at them when the others are done."""
  slow = {item.path for item in items if item.get_closest_marker("slow")}
  items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
  """A directory that all tests share, also those of other workers, for prepared data."""
  of_worker = tmp_path_factory.getbasetemp()
  directory = (of_worker.parent if "PYTEST_XDIST_WORKER" in os.environ else of_worker) / "scratch"
  directory.mkdir(exist_ok=True)
  return directory


@pytest.fixture
def float64():
  with jax.enable_x64():
    yield


@pytest.fixture
def optimized():
  """With LLVM's optimisations, for what computes for longer than it compiles."""
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def without_nohup():
  """SIGHUP has its usual effect, also on what a test starts, however the tests were started."""
  previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, previous)
