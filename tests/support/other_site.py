"""A page of another site, for tests of what it can do in a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def page_of_another_site(page: str, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve a page on a port of its own, which makes it another origin; yield that.

    Args:
        page: the HTML.
        host: the name in the origin. A browser takes 127.0.0.1 and localhost for two sites.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield f"http://{host}:{site.server_address[1]}"
        finally:
            site.shutdown()
            thread.join()
