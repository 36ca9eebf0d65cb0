"""What tests ask of an HTML page."""

import html.parser

_VOID = {"img", "link", "meta", "source"}


class Page(html.parser.HTMLParser):
  """A page after parsing.

  Attributes:
    elements: name and attributes of each, in order.
    references: what `src`, `srcset`, `href` and the like hold.
    text: by the innermost element around it.
  """

  def __init__(self, text):
    super().__init__()
    self.elements = []
    self.references = []
    self.text = {}
    self._open = []
    self.feed(text)
    self.close()
    assert not self._open, f"never closed: {self._open}"

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    self.elements.append((tag, attributes))
    self.references += [
      attributes[name]
      for name in ("src", "srcset", "href", "action", "data", "poster", "background")
      if name in attributes
    ]
    if tag not in _VOID:
      self._open.append(tag)
      self.text.setdefault(tag, []).append("")

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    if self._open:
      self.text[self._open[-1]][-1] += data

  def all(self, tag):
    """The attributes of every element of a kind."""
    return [attributes for name, attributes in self.elements if name == tag]

  def words(self):
    """All text that a reader sees."""
    return " ".join(text for tag, texts in self.text.items() if tag != "style" for text in texts)


def read(path):
  """Parses a file, and checks what holds of every page."""
  text = path.read_text(encoding="utf-8")
  page = Page(text)
  assert text.startswith("<!DOCTYPE html>")
  assert all(reference.startswith(("data:", "#")) for reference in page.references)
  assert "url(" not in text
  assert "@import" not in text
  assert not page.all("script")
  assert not page.all("link")
  assert page.all("html") == [{"lang": "en"}]
  assert {"charset": "utf-8"} in page.all("meta")
  assert page.text["title"] == page.text["h1"]
  assert len(page.text["h1"]) == 1
  return page
