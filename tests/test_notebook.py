"""docs/first_steps.ipynb: it runs from its first cell to its last, and its figures are in it."""

import base64
import json

import pytest
from commands import ROOT, run

PATH = ROOT / "docs" / "first_steps.ipynb"
LARGEST = 900_000  # bytes; GitHub shows larger ones slowly or not at all
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def cells():
  return json.loads(PATH.read_text(encoding="utf-8"))["cells"]


@pytest.fixture(scope="module")
def code(cells):
  return [cell for cell in cells if cell["cell_type"] == "code"]


def source(cell):
  return "".join(cell["source"])


def test_is_in_the_fourth_format(cells, code):
  notebook = json.loads(PATH.read_text(encoding="utf-8"))
  assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
  assert notebook["metadata"]["kernelspec"]["name"] == "python3"
  assert len({cell["id"] for cell in cells}) == len(cells)
  for cell in cells:
    assert cell["cell_type"] in ("code", "markdown")
    assert cell.keys() >= {"id", "metadata", "source"}
  assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


def test_is_small():
  assert PATH.stat().st_size < LARGEST


def test_cells_that_draw_have_their_figure(code):
  drawing = [cell for cell in code if source(cell).splitlines()[-1].startswith("Picture(")]
  assert len(drawing) == 4
  for cell in code:
    pictures = [output["data"]["image/png"] for output in cell["outputs"] if "data" in output]
    assert len(pictures) == (cell in drawing)
    assert all(base64.b64decode(picture).startswith(PNG) for picture in pictures)


def test_cells_that_print_have_their_text(code):
  for cell in code:
    texts = [output["text"] for output in cell["outputs"] if output["output_type"] == "stream"]
    assert len(texts) == ("print(" in source(cell))


@pytest.mark.slow
def test_cells_run_one_after_the_other(scratch, code, monkeypatch):
  monkeypatch.setenv("MPLBACKEND", "Agg")
  shown = "assert Picture(run.plots / 'loss.png')._repr_png_()"  # as Jupyter asks for it
  printed = run(scratch, "-c", "\n".join([*map(source, code), shown]))
  assert "After 12 epochs the test loss" in printed
