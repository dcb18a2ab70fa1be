"""Pages of a server's HTTP port."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlsplit


class Page(NamedTuple):
    """What was answered."""

    status: int
    kind: str
    text: str


def fetch(url: str, method: str = "GET") -> Page:
    """Ask for a page, whatever its status."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, parts.path)
        answer = connection.getresponse()
        return Page(answer.status, answer.getheader("Content-Type", ""), answer.read().decode())
    finally:
        connection.close()
