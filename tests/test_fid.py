"""`python -m speedpaper_jax.fid A B` prints pytorch-fid's number."""

import json

import numpy as np
import pytest
from packages import require
from PIL import Image

from speedpaper_jax import fid
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import files, images, published, references
from speedpaper_jax.interop.names import implementation
from speedpaper_jax.interop.pair import make_pair


@pytest.fixture(autouse=True)
def settings_of_jax_as_they_are(monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


def run(*arguments):
  fid.main(fid.parse(["fid", *map(str, arguments)]))


def write_images(folder, pixels):
  """Of several sizes, so that each is resized."""
  folder.mkdir()
  for index, image in enumerate(pixels):
    size = (40 + index % 7, 50 - index % 5)
    Image.fromarray(image).resize(size).save(folder / f"{index:03}.png")
  return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # of SciPy's root
def test_is_pytorch_fids(tmp_path, monkeypatch, capsys):
  """On the first stage of 64 features, of which 80 images have a regular covariance."""
  require("pytorch-fid")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  photographs = images.of_photograph(160, 48)
  first = write_images(tmp_path / "a", photographs[:80])
  second = write_images(tmp_path / "b", photographs[80:][:, ::-1])
  pair = make_pair("inception_v3", implementation("inception_v3", "pytorch-fid"), 1008, 299)
  pair.reference.calibrate(images.of_photograph(4, 299))
  module = pair.reference.module.float()
  files.write(tmp_path / "it.pth", {k: v.numpy() for k, v in module.state_dict().items()})
  directory = published.of_file(tmp_path / "it.pth", "inception_v3", "fid")

  inception = references.import_package("pytorch_fid.inception")
  fid_score = references.import_package("pytorch_fid.fid_score")
  monkeypatch.setattr(inception, "fid_inception_v3", lambda: module)
  # It takes images of several sizes one by one.
  theirs = fid_score.calculate_fid_given_paths(
    [str(first), str(second)], batch_size=1, device="cpu", dims=64, num_workers=0
  )
  out, statistics = tmp_path / "it.json", tmp_path / "a.npz"
  flags = (f"--weights={directory}", "--stage=pool_3a", "--batch_size=20")
  run(first, second, *flags, f"--json={out}")
  ours = json.loads(out.read_text())["fid"]
  assert theirs > 0.01
  assert ours == pytest.approx(theirs, rel=1e-4)
  assert capsys.readouterr().out.endswith(f"FID: {ours:.6f}\n")

  run(first, *flags, f"--out={statistics}")
  run(statistics, second, *flags, f"--json={out}")
  assert json.loads(out.read_text())["fid"] == pytest.approx(ours, rel=1e-9)
  run(first, second, *flags, "--interpolation=bilinear_tensorflow1", f"--json={out}")
  assert json.loads(out.read_text())["fid"] != pytest.approx(ours, rel=1e-3)


def saved(path, seed):
  features = np.random.default_rng(seed).standard_normal((50, 3))
  np.savez(path, mu=features.mean(0), sigma=np.cov(features.T))
  return path


def test_saved_statistics_need_no_network(tmp_path, capsys):
  first, second = saved(tmp_path / "a.npz", 0), saved(tmp_path / "b.npz", 1)
  run(first, first)
  assert float(capsys.readouterr().out.removeprefix("FID: ")) == pytest.approx(0, abs=1e-6)
  run(first, second)
  assert float(capsys.readouterr().out.removeprefix("FID: ")) > 0


@pytest.mark.parametrize(
  ("sets", "message"),
  [
    (["a.npz"], "Name two sets of images, or one and --out"),
    (["a.npz", "b.npz", "c.npz"], "Name two sets of images"),
    (["a.npz", "b.npz", "--out=c.npz"], "Name two sets of images"),
    (["a.npz", "none"], "No such file or directory"),
  ],
)
def test_mistakes(tmp_path, monkeypatch, sets, message):
  monkeypatch.chdir(tmp_path)
  saved(tmp_path / "a.npz", 0)
  with pytest.raises(UserError, match=message):
    run(*sets)


def test_images_that_cannot_be_used_are_no_small_matter(tmp_path, monkeypatch):
  """The distance of the others would be another one."""
  folder = write_images(tmp_path / "a", images.of_photograph(3, 32))
  (folder / "text.png").write_text("no image")
  monkeypatch.setattr(
    fid, "_extractor", lambda options: lambda paths: iter([(paths[:3], np.eye(3))])
  )
  with pytest.raises(UserError, match=r"1 of the 4 images in '.*' cannot be used"):
    run(folder, folder)
