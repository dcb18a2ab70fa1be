"""Pages of a server's HTTP port."""

from __future__ import annotations

import re
from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlsplit

from support.patience import patient


class Page(NamedTuple):
    """A response."""

    status: int
    kind: str
    text: str


def samples(url: str, name: str) -> dict[str, float]:
    """Return the samples of a metric at a URL by their labels, as text. A sample without labels has an empty text."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", fetch(url).text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def fetch(url: str, method: str = "GET") -> Page:
    """Get a page, whatever its status."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=patient(60))
    try:
        connection.request(method, parts.path)
        response = connection.getresponse()
        return Page(response.status, response.getheader("Content-Type", ""), response.read().decode())
    finally:
        connection.close()
