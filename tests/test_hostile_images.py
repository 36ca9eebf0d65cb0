"""benchmarks/hostile_images.py in a small form, and that it would notice."""

import itertools
import warnings

import pytest
from PIL import Image

from benchmarks import hostile_images
from speedpaper_jax.data import decode
from speedpaper_jax.data.decode import DecodeError

REFUSED = dict.fromkeys(hostile_images.READERS, "refused")


def test_no_damage_raises_anything_else_or_passes_for_none():
  counts, wrong = hostile_images.attack(400, 1)
  assert wrong == []
  assert counts.total() == 400
  for image_format in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
    assert counts[f"{image_format}: accepted"] > 5
    assert counts[f"{image_format}: refused"] > 5


def test_the_commands_leave_the_damaged_ones_out_of_a_folder_and_no_others(tmp_path):
  assert hostile_images.attack_folder(200, 1, tmp_path) == []


@pytest.mark.parametrize("command", ["prediction", "evaluation", "training"])
def test_that_a_command_leaves_out_others_would_be_noticed(monkeypatch, tmp_path, command):
  left_out = hostile_images._left_out

  def with_another(folder):
    found = left_out(folder)
    return {**found, command: found[command] ^ {3}}

  monkeypatch.setattr(hostile_images, "_left_out", with_another)
  (line,) = hostile_images.attack_folder(4, 1, tmp_path)
  assert line.startswith(f"{command} of a folder differs in 1 images, such as ")


@pytest.mark.parametrize("name", hostile_images.originals())
def test_the_images_themselves_are_accepted(name):
  found = hostile_images.outcomes(hostile_images.originals()[name])
  assert found == dict.fromkeys(hostile_images.READERS, "accepted")


def test_a_seed_gives_the_same_changes_each_time():
  one, again, other = (
    list(itertools.islice(hostile_images.mutations(seed), 60)) for seed in (0, 0, 1)
  )
  assert one == again != other


@pytest.mark.parametrize(
  ("reader", "outcome", "told"),
  [
    ("training, area", "accepted", "is taken for whole"),
    ("decode", "accepted", "is taken for whole"),
    ("evaluation, squash", "KeyError: 'x'", "KeyError: 'x'"),
  ],
)
def test_what_goes_wrong_would_be_noticed(monkeypatch, reader, outcome, told):
  monkeypatch.setattr(hostile_images, "outcomes", lambda image: {**REFUSED, reader: outcome})
  _, wrong = hostile_images.attack(2, 0)
  assert len(wrong) == 2
  assert all(told in line for line in wrong)


def test_an_exception_of_another_kind_is_an_outcome(monkeypatch):
  def fail(image):
    raise KeyError("x")

  def refuse(image):
    raise DecodeError

  monkeypatch.setattr(hostile_images, "READERS", {"one": fail, "other": refuse})
  assert hostile_images.outcomes(b"") == {"one": "KeyError: 'x'", "other": "refused"}


def test_a_warning_would_be_noticed(monkeypatch):
  def warn(image):
    warnings.warn("odd", stacklevel=1)

  monkeypatch.setattr(hostile_images, "READERS", {"Pillow": warn, "decode": warn})
  with warnings.catch_warnings():
    warnings.simplefilter("always")
    _, wrong = hostile_images.attack(1, 0)
  assert [line.partition(" is warned of: ")[2] for line in wrong] == ["odd", "odd"]


def test_memory_is_asked_for_when_the_header_allows_it_alone(monkeypatch):
  """A bomb of a few kilobytes."""
  bomb = hostile_images.originals()["PNG"].replace(
    (24).to_bytes(4, "big") * 2, (13_000).to_bytes(4, "big") * 2
  )
  asked = []
  monkeypatch.setattr(Image.Image, "load", lambda image: asked.append(image.size))
  with pytest.raises(DecodeError, match="it has more than"):
    decode.decode(hostile_images._with_checksums(bomb))
  assert asked == []
