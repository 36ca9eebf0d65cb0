"""Speed in numbers."""

import time

import jax
import jax.numpy as jnp
import pytest

from speedpaper_jax.compilation import chips
from speedpaper_jax.training.throughput import Clock, Throughput

SIZE = 64


@pytest.fixture(scope="module")
def step():
  """A matrix product: 2·64³ floating-point operations."""
  matrix = jax.ShapeDtypeStruct((SIZE, SIZE), jnp.float32)
  return jax.jit(jnp.matmul).lower(matrix, matrix).compile()


def not_asked():
  raise AssertionError("A trace of the network takes a second, and its peak is not known.")


def test_images_and_seconds(step):
  throughput = Throughput(step, not_asked, batch_size=32, devices=8, dtype="float32")
  metrics = throughput.metrics(steps=10, seconds=4.0, data_wait_seconds=1.0)
  assert metrics["images_per_second"] == 80
  assert metrics["images_per_second_per_chip"] == 10
  assert metrics["step_seconds"] == 0.4
  assert metrics["data_wait_seconds"] == 0.1


def test_what_is_not_known_of_a_device_is_left_out(step):
  metrics = Throughput(step, not_asked, 32, 8, "float32").metrics(10, 4.0, 1.0)
  assert metrics.keys() == {
    "images_per_second",
    "images_per_second_per_chip",
    "step_seconds",
    "data_wait_seconds",
  }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("of_images", [1 / 2, 2], ids=["zeros", "frozen"])
def test_mfu_is_the_used_part_of_the_chips_peak(step, dtype, of_images, monkeypatch):
  """By what the network needs: no multiplications with zeros, nothing of layers that are frozen."""
  chip = chips.CHIPS[0]
  monkeypatch.setattr(chips, "find", lambda device_kind: chip)
  program = 2 * SIZE**3
  throughput = Throughput(step, lambda: of_images * program / 4, 32, 8, dtype)
  needed = min(of_images, 1) * program
  metrics = throughput.metrics(10, 4.0, 1.0)
  assert metrics["mfu"] == pytest.approx(needed * 10 / 4.0 / chip.peak_flops(dtype))


class TestClock:
  @pytest.fixture
  def now(self, monkeypatch):
    """A function that sets the time."""
    times = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: times[0])

    def pass_seconds(seconds):
      times[0] += seconds

    return pass_seconds

  def test_all_sessions_count(self, now):
    clock = Clock(seconds_before=50)
    now(7)
    assert clock.total_seconds() == 57

  def test_pauses_do_not_count_to_a_window(self, now):
    clock = Clock(0)
    now(2)
    with clock.pause():
      now(5)
    now(1)
    assert clock.window() == (3, 0)
    assert clock.total_seconds() == 8

  def test_waits_for_data_do_and_are_counted(self, now):
    clock = Clock(0)
    with clock.data_wait():
      now(2)
    now(3)
    assert clock.window() == (5, 2)
    clock.start_window()
    assert clock.window() == (0, 0)
