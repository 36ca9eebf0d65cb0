"""What an evaluation has done is kept until all is."""

import numpy as np
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files
from speedpaper_jax.inference import unfinished
from speedpaper_jax.inference.evaluation import Answers
from speedpaper_jax.inference.unfinished import Unfinished

CLASSES = 3


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  return tmp_path / "speedpaper_jax" / "evaluations"


def answers(*numbers):
  numbers = np.array(numbers)
  log_p = np.repeat(-numbers[:, None] / 10, CLASSES, 1).astype(np.float32)
  return Answers(numbers, numbers % CLASSES, log_p)


def restored(key="a"):
  done, pieces = Unfinished(lambda: key).restore()
  return done, [piece.numbers.tolist() for piece in pieces]


def test_what_is_saved_is_restored_bit_for_bit():
  first = Unfinished(lambda: "a")
  first.add(answers(0, 1), done=2)
  first.add(answers(3), done=4)
  first.save(4)
  assert restored() == (4, [[0, 1, 3]])
  (_, (piece,)) = Unfinished(lambda: "a").restore()
  np.testing.assert_array_equal(piece.log_probabilities, answers(0, 1, 3).log_probabilities)
  np.testing.assert_array_equal(piece.labels, answers(0, 1, 3).labels)

  second = Unfinished(lambda: "a")
  second.restore()
  second.add(answers(4, 5), done=6)
  second.save(6)
  assert restored() == (6, [[0, 1, 3], [4, 5]])


def test_another_evaluation_does_not_see_it():
  first = Unfinished(lambda: "a")
  first.add(answers(0), done=1)
  first.save(1)
  assert restored("b") == (0, [])


def test_it_is_saved_now_and_then(monkeypatch, cache):
  monkeypatch.setattr(unfinished, "_SECONDS", 0)
  Unfinished(lambda: "a").add(answers(0, 1), done=2)
  assert [path.name for path in cache.rglob("*.npz")] == ["000000000-000000002.npz"]


def test_a_short_evaluation_leaves_no_trace(cache):
  def key():
    raise AssertionError("no digest is needed")

  short = Unfinished(key)
  assert short.restore() == (0, [])
  short.add(answers(0, 1), done=2)
  short.end(2)
  short.remove()
  assert not cache.exists()


def test_it_goes_at_the_end(cache):
  first = Unfinished(lambda: "a")
  first.add(answers(0), done=1)
  first.save(1)
  first.remove()
  assert not cache.exists()


def test_that_of_another_evaluation_stays():
  other = Unfinished(lambda: "b")
  other.add(answers(0), done=1)
  other.save(1)
  first = Unfinished(lambda: "a")
  first.add(answers(0), done=1)
  first.save(1)
  first.remove()
  assert restored("a") == (0, [])
  assert restored("b") == (1, [[0]])


def save_twice():
  first = Unfinished(lambda: "a")
  first.add(answers(0, 1), done=2)
  first.save(2)
  first.add(answers(2, 3), done=4)
  first.save(4)


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_it_continues_before_a_damaged_piece(cache, capsys, damage):
  save_twice()
  path = cache / "a" / "000000002-000000004.npz"
  content = bytearray(path.read_bytes())
  content[content.index(answers(2, 3).log_probabilities.tobytes())] ^= 1
  path.write_bytes(content if damage is None else damage)
  assert restored() == (2, [[0, 1]])
  assert f"{path} is damaged; the evaluation continues before it" in capsys.readouterr().err


def test_a_piece_that_is_missing_ends_what_is_known(cache):
  save_twice()
  (cache / "a" / "000000000-000000002.npz").unlink()
  assert restored() == (0, [])


def test_pieces_that_were_cut_otherwise_are_left_out(cache):
  save_twice()
  piece = (cache / "a" / "000000002-000000004.npz").read_bytes()
  (cache / "a" / "000000001-000000003.npz").write_bytes(piece)
  assert restored() == (4, [[0, 1], [2, 3]])


def test_where_nothing_can_be_kept_the_evaluation_goes_on(monkeypatch, capsys):
  def refuse(path, arrays):
    raise UserError(f"{path} cannot be written: No space left on device.")

  monkeypatch.setattr(output_files, "write_npz", refuse)
  full = Unfinished(lambda: "a")
  for number in range(3):
    full.add(answers(number), done=number + 1)
    full.save(number + 1)
  assert capsys.readouterr().err.count("cannot be kept, should it be interrupted") == 1


def test_the_digest_depends_on_all_that_the_answers_do():
  kernel = np.arange(6.0).reshape(2, 3)
  changed = kernel.copy()
  changed[1, 2] = np.nextafter(5.0, 6.0)
  assert unfinished.digest({"kernel": kernel.copy()}, crops=1) == unfinished.digest(
    {"kernel": kernel}, crops=1
  )
  others = [
    unfinished.digest({"kernel": kernel}, crops=1),
    unfinished.digest({"kernel": kernel}, crops=10),
    unfinished.digest({"kernel": kernel.reshape(3, 2)}, crops=1),
    unfinished.digest({"other": kernel}, crops=1),
    unfinished.digest({"kernel": changed}, crops=1),
  ]
  assert len(set(others)) == len(others)
