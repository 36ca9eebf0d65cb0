"""A server on this machine in the place of those that files are downloaded from."""

import contextlib
import http.server
import threading


class Files(http.server.BaseHTTPRequestHandler):
  """Answers with what `contents` has, and breaks off where `cut` says."""

  contents: dict  # path → bytes
  redirects: dict  # path → (path, headers)
  cut: set  # paths of which half is sent
  asked: list  # paths that were asked for

  def do_GET(self):
    self.asked.append(self.path)
    if self.path in self.redirects:
      to, headers = self.redirects[self.path]
      self.send_response(302)
      for name, value in {"Location": to, "Content-Length": "0", **headers}.items():
        self.send_header(name, value)
      self.end_headers()
    elif self.path in self.contents:
      content = self.contents[self.path]
      self.send_response(200)
      self.send_header("Content-Length", str(len(content)))
      self.end_headers()
      self.wfile.write(content[: len(content) // 2] if self.path in self.cut else content)
    else:
      self.send_error(404)

  def log_message(self, *arguments):
    pass


@contextlib.contextmanager
def served():
  """Serves nothing yet; yields the address and the handler to fill."""
  handler = type("Handler", (Files,), {"contents": {}, "redirects": {}, "cut": set(), "asked": []})
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
      yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
      server.shutdown()
      thread.join()
