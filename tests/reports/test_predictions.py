"""Class by class: what the report says of a run that has predictions.json."""

import itertools

import matplotlib.figure
import matplotlib.image
import numpy as np
import past_experiments
import past_runs
import pytest
import reading_html

from benchmarks import hostile_values
from speedpaper_jax import errors, reports
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import fonts
from speedpaper_jax.reports import confusion_matrix, mistakes, predictions, train
from speedpaper_jax.reports.page import Figure, Table

ODD = ("$x_1$<b>", "玫瑰" * 30, "a\n\u202eb\udcff", "$5", "n02119789", "")
TITLE = "Class by class"


def image(own, taken, **changes):
  return {
    "name": f"class {own}/{own}-{taken}.png",
    "class": own,
    "predicted": taken,
    "probability": 0.75,
    "class_probability": 0.75 if own == taken else 0.125,
    **changes,
  }


def write(path, images, class_names=("cat", "dog"), num_classes=None, **arrays):
  """Writes a run with predictions; without `arrays`, pixels for as many images as are shown."""
  directory = past_runs.write(path, class_names=class_names)
  if num_classes is not None:
    directory.write("model.json", {**directory.read("model.json"), "num_classes": num_classes})
  directory.write("predictions.json", {"step": 1234, "images": images})
  shown = sum("shown" in each for each in images)
  pixels = np.random.default_rng(0).integers(256, size=(shown, 8, 8, 3), dtype=np.uint8)
  directory.write_arrays(arrays or {"mistake_pixels": pixels})
  return directory


def section_of(directory):
  return predictions.section(directory, directory.read("model.json"))


def parts_of(section, kind):
  return [part for part in section.parts if isinstance(part, kind)]


@pytest.fixture
def painted(monkeypatch):
  """Figures are painted but not saved; gives the light ones, by the order of drawing."""
  monkeypatch.setattr(errors, "_printed_once", set())
  figures = []

  def save(figure, path, **_):
    if ".dark" not in path.name:
      figure.canvas.draw()
      figures.append(figure)

  monkeypatch.setattr(matplotlib.figure.Figure, "savefig", save)
  return figures


# Three of four cats and both dogs are right.
TWO_CLASSES = (
  image(0, 0),
  image(1, 1),
  image(0, 1, shown=0, probability=0.875),
  image(0, 0),
  image(1, 1),
  image(0, 0),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return write(tmp_path_factory.mktemp("run"), TWO_CLASSES)


@pytest.fixture(scope="module")
def page(directory):
  return reports.write(directory)


@pytest.fixture(scope="module")
def section(page):
  (section,) = (each for each in page.sections if each.title == TITLE)
  return section


class TestTwoClasses:
  def test_says_how_many_are_right(self, section):
    assert section.paragraphs == [
      "After step 1,234 the network takes 5 of 6 held-out images for what they are, 83.33 %. The "
      "mean of the classes' accuracies, in which each class counts the same however many images it "
      "has, is 87.50 %."
    ]

  def test_matrix_classes_mistakes_and_files_follow_each_other(self, section):
    matrix, classes, pictures, files = section.parts
    assert (matrix.name, pictures.name) == (confusion_matrix.NAME, mistakes.NAME)
    assert classes.columns == ("class", "images", "accuracy [%]", "mostly taken for", "times")
    assert classes.rows == [("cat", "4", "75.00", "dog", "1"), ("dog", "2", "100.00", "–", "–")]
    assert files.rows == [("class 0/0-1.png", "cat", "12.50 %", "dog", "87.50 %")]

  def test_figures_are_drawn_on_both_grounds(self, directory, section):
    assert {part.name for part in parts_of(section, Figure)} < past_experiments.figures(directory)

  def test_stands_after_the_learning_curves(self, page):
    assert [section.title for section in page.sections] == [
      "Result",
      "Learning curves",
      TITLE,
      "What was trained",
    ]

  def test_the_page_shows_it(self, directory, page):
    shown = reading_html.read(directory.path / "report.html")
    assert TITLE in shown.text["h2"]
    assert confusion_matrix.CAPTION in shown.text["figcaption"]
    assert "class 0/0-1.png" in shown.text["th"]


class TestMatrix:
  def test_has_counts_where_there_are_images(self, tmp_path, painted):
    section_of(write(tmp_path, TWO_CLASSES))
    axes = painted[0].axes[0]
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0.5, 0.5): "3", (1.5, 0.5): "1", (1.5, 1.5): "2"}
    np.testing.assert_allclose(axes.collections[0].get_array(), [[0.75, 0.25], [0, 1]])
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first class is at the top
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]

  def test_a_class_without_images(self, tmp_path, painted):
    section = section_of(write(tmp_path, [image(0, 0), image(0, 2)], ("a", "b", "c")))
    assert "Of 2 of the 3 classes there are no images." in section.paragraphs[0]
    assert "is 50.00 %." in section.paragraphs[0]
    assert [row[0] for row in parts_of(section, Table)[0].rows] == ["a"]
    np.testing.assert_allclose(
      painted[0].axes[0].collections[0].get_array(), [[0.5, 0, 0.5], [0] * 3, [0] * 3]
    )

  @pytest.mark.parametrize("count", [2, 30])
  def test_labels_and_numbers_do_not_overlap(self, tmp_path, painted, count):
    names = [f"the long name of class {number}" for number in range(count)]
    images = [image(own, taken) for own in range(count) for taken in range(count)] * 11
    section_of(write(tmp_path, images, names))
    axes = painted[0].axes[0]
    for texts in (axes.get_xticklabels(), axes.get_yticklabels(), axes.texts[: 2 * count]):
      boxes = [text.get_window_extent() for text in texts]
      assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert min(text.get_fontsize() for text in axes.texts) >= 7


class TestManyClasses:
  """Class 7 is taken for 8 three times, each class from 30 on for the one before it once."""

  NAMES = tuple(f"class {number}" for number in range(40))

  @pytest.fixture
  def section(self, tmp_path):
    images = [image(number, number) for number in range(40)]
    images += [image(7, 8)] * 3 + [image(number, number - 1) for number in range(30, 40)]
    return section_of(write(tmp_path, images, self.NAMES))

  def test_have_a_table_in_the_place_of_the_matrix(self, section):
    pairs, _ = section.parts
    assert pairs.rows[:2] == [
      ("class 7", "class 8", "3", "75.0"),
      ("class 30", "class 29", "1", "50.0"),
    ]
    assert len(pairs.rows) == 11
    assert "Of more than 30 classes no confusion matrix is drawn." in pairs.caption

  def test_the_worst_classes_are_listed(self, section):
    _, classes = section.parts
    assert classes.caption.startswith("The 20 classes that have the lowest accuracy")
    assert len(classes.rows) == 20
    assert classes.rows[:2] == [
      ("class 7", "4", "25.00", "class 8", "3"),
      ("class 30", "2", "50.00", "class 29", "1"),
    ]

  def test_without_mistakes(self, tmp_path):
    images = [image(number, number) for number in range(40)]
    section = section_of(write(tmp_path, images, self.NAMES))
    (classes,) = section.parts
    assert [row[0] for row in classes.rows] == list(self.NAMES[:20])


def test_without_mistakes_there_is_no_picture_of_any(tmp_path):
  section = section_of(write(tmp_path, [image(0, 0), image(1, 1)]))
  assert section.paragraphs[0].endswith("There is no mistake.")
  assert [part.name for part in parts_of(section, Figure)] == [confusion_matrix.NAME]
  assert len(parts_of(section, Table)) == 1


class TestNames:
  def test_classes_without_names_have_numbers(self, tmp_path, painted):
    section = section_of(write(tmp_path, TWO_CLASSES, class_names=(), num_classes=2))
    assert [row[0] for row in parts_of(section, Table)[0].rows] == ["0", "1"]
    assert [label.get_text() for label in painted[0].axes[0].get_xticklabels()] == ["0", "1"]

  def test_any_characters(self, tmp_path, painted, monkeypatch):
    monkeypatch.setattr(fonts, "_installed", list)
    images = [image(own, (own + 1) % 6, name=ODD[own], shown=own) for own in range(6)]
    directory = write(tmp_path, images, ODD)
    section = section_of(directory)
    classes, files = parts_of(section, Table)
    shown = ["$x_1$<b>", "玫瑰" * 30, r"a\n\u202eb?", "$5", "kit fox", ""]
    assert [row[0] for row in classes.rows] == shown
    assert [row[0] for row in files.rows] == [*shown[:4], "n02119789", ""]
    in_figures = ["$x_1$<b>", r"\u73ab\u7470\u73ab\…", r"a\n\u202eb?", "$5", "kit fox", ""]
    axes = painted[0].axes[0]
    ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert [label.get_text() for label in ticks] == in_figures * 2
    titles = [axes.get_title(loc="left").splitlines() for axes in painted[1].axes]
    assert titles[0] == ["$x_1$<b>", rf"→ {in_figures[1]}", "75.00 %"]
    texts = [*ticks, *(axes._left_title for axes in painted[1].axes)]
    assert not any(text.get_parse_math() for text in texts)

  def test_on_the_page(self, tmp_path):
    images = [image(own, (own + 1) % 6, name="<i>.png", shown=own) for own in range(6)]
    directory = write(tmp_path, images, ODD)
    with hostile_values.without_pictures():
      reports.write(directory)
    page = reading_html.read(directory.path / "report.html")
    assert {"$x_1$<b>", "<i>.png"} <= set(page.text["th"])
    assert not page.all("b")
    assert not page.all("i")

  def test_what_no_font_has_is_told_once(self, tmp_path, painted, monkeypatch, capsys):
    monkeypatch.setattr(fonts, "_installed", list)
    section_of(write(tmp_path, [image(0, 1, shown=0)], ("猫", "狗")))
    assert capsys.readouterr().err.count("no installed font has") == 1


class TestPictures:
  @pytest.mark.parametrize("count", [1, 4, 16])
  def test_stand_in_a_grid_in_the_order_of_their_rows(self, tmp_path, painted, count):
    images = [image(0, 1, name=f"{row}.png", shown=row) for row in range(count)][::-1]
    directory = write(tmp_path, images)
    files = parts_of(section_of(directory), Table)[1]
    assert [row[0] for row in files.rows] == [f"{row}.png" for row in range(count)]
    panels, pixels = painted[1].axes, directory.read_arrays()["mistake_pixels"]
    for axes, expected in zip(panels, pixels, strict=True):
      np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    boxes = [axes.get_tightbbox() for axes in panels]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(painted[1].bbox.containsx(box.x0) for box in boxes)
    assert all(painted[1].bbox.containsy(box.y1) for box in boxes)

  def test_a_title_never_reaches_over_the_next(self, tmp_path, painted):
    section_of(write(tmp_path, [image(0, 1, shown=row) for row in (0, 1)], ("W" * 99, "M" * 99)))
    first, second = painted[1].axes
    assert first.get_title(loc="left").startswith("W" * 19 + "…\n")
    assert first._left_title.get_clip_box().x1 < second.bbox.x0

  def test_have_the_pixels_that_the_network_saw(self, tmp_path):
    red = np.full((1, 8, 8, 3), (255, 0, 0), np.uint8)
    directory = write(tmp_path, [image(0, 1, shown=0)], mistake_pixels=red)
    section_of(directory)
    picture = matplotlib.image.imread(directory.plots / "mistakes.png")[..., :3]
    is_red = np.all(picture == (1, 0, 0), axis=-1)
    assert is_red.sum() == pytest.approx((1.6 * 200) ** 2, rel=0.02)

  def test_a_probability_that_was_not_finite(self, tmp_path):
    images = [image(0, 1, shown=0, probability=None, class_probability=None)]
    files = parts_of(section_of(write(tmp_path, images)), Table)[1]
    assert files.rows[0][1:] == ("cat", "not finite", "dog", "not finite")


class TestDamage:
  @pytest.mark.parametrize(
    ("change", "message"),
    [
      ({"class": 2}, r"images\[1\]\.class is 2; it must be a whole number from 0 to 1"),
      ({"predicted": -1}, r"images\[1\]\.predicted is -1; it must be a whole number from 0 to 1"),
      ({"probability": 1.5}, r"images\[1\]\.probability is 1\.5; it must be a number from 0 to 1"),
      ({"class_probability": "1"}, r"images\[1\]\.class_probability is '1'; it must be a number"),
      ({"name": 3}, r"images\[1\]\.name is 3; it must be a text"),
      ({"shown": 16}, r"images\[1\]\.shown is 16; it must be a whole number from 0 to 15"),
      ({"shown": 2}, r"images\[1\]\.shown is 2; of 2 images each must have its own row"),
      ({"shown": 0}, r"images\[1\]\.shown is 0; of 2 images each must have its own row"),
    ],
  )
  def test_of_an_image(self, tmp_path, change, message):
    directory = write(tmp_path, [image(0, 1, shown=0), image(1, 0, **change)])
    with pytest.raises(UserError, match=rf"predictions\.json is damaged, .*: {message}"):
      section_of(directory)

  @pytest.mark.parametrize("key", sorted(image(0, 1)))
  def test_a_missing_key(self, tmp_path, key):
    found = image(0, 1)
    del found[key]
    with pytest.raises(UserError, match=rf"predictions\.json is .*: images\[0\]\.{key} is missing"):
      section_of(write(tmp_path, [found]))

  @pytest.mark.parametrize(
    ("content", "message"),
    [
      ({"images": [image(0, 0)]}, "step is missing"),
      ({"step": 1}, "images is missing"),
      ({"step": 1, "images": []}, "images is empty"),
      ({"step": 1, "images": {}}, "images is {}; it must be a list"),
      ({"step": 1, "images": [3]}, r"images\[0\] is 3; it must be a section"),
    ],
  )
  def test_of_the_whole(self, tmp_path, content, message):
    directory = write(tmp_path, [image(0, 0)])
    directory.write("predictions.json", content)
    with pytest.raises(UserError, match=rf"predictions\.json is damaged, .*: {message}"):
      section_of(directory)

  @pytest.mark.parametrize(
    ("pixels", "message"),
    [
      (np.zeros((1, 8, 8, 3), np.float32), "holds float32, not uint8"),
      (np.zeros((1, 8, 8, 3), bool), "holds no numbers"),
      (np.zeros((0, 8, 8, 3), np.uint8), r"has the shape \[0, 8, 8, 3\], not \[1, any, any, 3\]"),
      (np.zeros((1, 8, 8, 1), np.uint8), r"has the shape \[1, 8, 8, 1\], not \[1, any, any, 3\]"),
      (np.zeros((1, 0, 0, 3), np.uint8), r"has the shape \[1, 0, 0, 3\]"),
      (np.zeros((1, 8, 8), np.uint8), r"has the shape \[1, 8, 8\]"),
      (np.zeros((1, 9, 1, 3), np.uint8), "has images of 1×9 pixels, which are not square"),
    ],
  )
  def test_of_the_pixels(self, tmp_path, pixels, message):
    directory = write(tmp_path, [image(0, 1, shown=0)], mistake_pixels=pixels)
    with pytest.raises(UserError, match=rf"arrays\.npz is damaged, .*: 'mistake_pixels' {message}"):
      section_of(directory)

  def test_no_pixels(self, tmp_path):
    directory = write(tmp_path, [image(0, 0)], others=np.zeros(1))
    with pytest.raises(UserError, match=r"arrays\.npz is .*: it has no 'mistake_pixels'"):
      section_of(directory)
    directory.remove("arrays.npz")
    with pytest.raises(UserError, match=r"has no arrays\.npz"):
      section_of(directory)

  def test_names_for_another_number_of_classes(self, tmp_path):
    directory = write(tmp_path, [image(0, 0)], num_classes=3)
    with pytest.raises(UserError, match=r"model\.json is .*: 2 class_names are given to 3 classes"):
      section_of(directory)


def test_a_run_without_the_file_has_the_report_that_it_had(tmp_path):
  directory = write(tmp_path, TWO_CLASSES)
  directory.remove("predictions.json")
  page = train.present(directory)
  assert page == train.present(past_runs.write(tmp_path / "other", class_names=("cat", "dog")))
  assert [section.title for section in page.sections] == [
    "Result",
    "Learning curves",
    "What was trained",
  ]
  assert past_experiments.figures(directory) == {"loss", "top1"}
