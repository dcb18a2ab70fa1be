"""A plain HTTP client for tests of the REST API: exactly the headers that a test gives, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import quote, urlsplit

from support.patience import patient


@dataclass
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever the server sent
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Event:
    """A server-sent event."""

    name: str = ""
    number: str = ""
    data: Any = None


@dataclass
class Rest:
    """Sends requests to a base URL, each on a connection of its own."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request and return the response, whatever its status. A body that is not bytes is sent as JSON."""
        with self.open(method, path, body, headers=headers) as response:
            return Answer(response.status, dict(response.getheaders()), response.read())

    @contextmanager
    def open(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """Send a request; yield the response, of which only the headers were read."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=patient(60))
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {**self.headers, **(headers or {})})
            yield connection.getresponse()
        finally:
            connection.close()

    def get(self, path: str) -> Any:  # noqa: ANN401  # the response's JSON
        """Return the JSON at a path; it must be there."""
        return self._fine("GET", path)

    def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401  # the response's JSON
        """Post JSON to a path and return that of the response; it must succeed."""
        return self._fine("POST", path, body)

    def delete(self, path: str, body: object = None) -> Any:  # noqa: ANN401  # the response's JSON
        """Delete what is at a path; it must succeed."""
        return self._fine("DELETE", path, body)

    def new_queue(self, **fields: object) -> Any:  # noqa: ANN401  # the queue
        """Create a Memory queue without a limit, unless the fields say otherwise."""
        return self.post("/v1/queues", {"store": "MEMORY", "limit": "-1", **fields})["queue"]

    def _fine(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  # the response's JSON
        answer = self.ask(method, path, body)
        assert answer.status == 200, answer.body
        return answer.json


def events(response: HTTPResponse) -> Iterator[Event]:
    """Yield the events of a stream as they arrive; comments are left out."""
    event = Event()
    while line := response.readline():
        text = line.decode().rstrip("\n")
        name, _, value = text.partition(": ")
        if not text:
            if event.name:
                yield event
            event = Event()
        elif name == "event":
            event.name = value
        elif name == "id":
            event.number = value
        elif name == "data":
            event.data = json.loads(value)


def queue_path(queue: str, *more: str) -> str:
    """Return the path of a queue, or of something below it."""
    return "/".join(["/v1/queues", quote(queue, safe=""), *more])
