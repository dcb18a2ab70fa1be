"""The routes of the REST API, from the `google.api.http` annotations in queue.proto.

A template such as `/v1/queues/{queue_id}/messages:pop` consists of segments. A segment is a text, which may contain a
colon, or a field of the request in braces. A text has priority over a field, and names of queues contain no colon, so
no two templates of queue.proto are ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from queuelet.compat import q_pb2
from queuelet.errors import InvalidArgument
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import NEGZ_SERVICE, SERVICE

_NEGZ_METHODS = frozenset(q_pb2.DESCRIPTOR.services_by_name["Q"].methods_by_name)

_CACHED = 1_000
"""How many paths are remembered with their routes."""

_VERBS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A path and a method of HTTP, and the RPC that serves them."""

    verb: str
    """The method of HTTP, such as GET."""

    template: str
    """The path, with fields of the request in braces."""

    service: str
    """The service that is called: negz/q's for the nine routes that its gateway has (Q50)."""

    method: str
    """The name of the RPC."""

    body: str
    """The field of the request that is in the body; `*` for all fields that the path does not have, empty for none."""

    request: type[Message]
    response: type[Message]

    streams: bool
    """Whether the response is a stream."""

    @property
    def is_negz(self) -> bool:
        """Whether this is one of the nine routes of negz/q's gateway."""
        return self.service == NEGZ_SERVICE

    @property
    def call(self) -> str:
        """The full name of the RPC: service and method."""
        return f"{self.service}/{self.method}"

    @property
    def segments(self) -> list[str]:
        """The segments of the template."""
        return self.template.removeprefix("/").split("/")


class Match(NamedTuple):
    """A route, and the texts of the fields in its path."""

    route: Route
    fields: Mapping[str, str]


class NoRoute(Exception):
    """No template matches the path."""


class WrongVerb(Exception):
    """Templates match the path, but for other methods of HTTP: `allowed`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__()
        self.allowed = sorted(allowed)


@dataclass(slots=True)
class _Node:
    """What may follow the segments before it."""

    texts: dict[str, _Node] = field(default_factory=dict)
    fields: dict[str, _Node] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    """The routes that end here, by method of HTTP."""


class Routes:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for segment in route.segments:
                is_field = segment.startswith("{") and segment.endswith("}")
                children = node.fields if is_field else node.texts
                node = children.setdefault(segment[1:-1] if is_field else segment, _Node())
            if route.verb in node.routes:
                raise ValueError(f"{route.verb} {route.template}: there are two routes; give each its own path")
            node.routes[route.verb] = route
        self.match = lru_cache(maxsize=_CACHED)(self._match)
        """As `_match`. Programs use few paths, each of them often."""

    def _match(self, verb: str, path: str) -> Match:
        """Return the route of a request.

        Args:
            verb: the method of HTTP.
            path: the path as it was sent, with percent-encoding.

        Raises:
            NoRoute: there is no such path.
            WrongVerb: the path has no such method.
            InvalidArgument: the path is not valid UTF-8.
        """
        allowed: set[str] = set()
        for node, fields in _ends(self._root, _segments(path), 0):
            if verb in node.routes:
                return Match(node.routes[verb], fields)
            allowed.update(node.routes)
        if allowed:
            raise WrongVerb(allowed)
        raise NoRoute


def _segments(path: str) -> list[str]:
    try:
        return [unquote(segment, errors="strict") for segment in path.removeprefix("/").split("/")]
    except UnicodeDecodeError:
        raise InvalidArgument("path: not valid UTF-8; encode each segment as UTF-8 and percent", field="path") from None


def _ends(node: _Node, segments: list[str], at: int) -> Iterator[tuple[_Node, dict[str, str]]]:
    """Yield the nodes at the end of a path, with the fields on the way to them; those by texts come first."""
    if at == len(segments):
        if node.routes:
            yield node, {}
        return
    segment = segments[at]
    if segment in node.texts:
        yield from _ends(node.texts[segment], segments, at + 1)
    if segment:
        for name, child in node.fields.items():
            for end, fields in _ends(child, segments, at + 1):
                yield end, {name: segment, **fields}


@cache
def queue_routes() -> tuple[Route, ...]:
    """Return the routes of queue.proto, in its order."""
    methods = pb.DESCRIPTOR.services_by_name["QueueService"].methods
    return tuple(route for method in methods for route in _routes_of(method))


def _routes_of(method: MethodDescriptor) -> Iterator[Route]:
    if not method.GetOptions().HasExtension(annotations_pb2.http):
        return
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    for each in (rule, *rule.additional_bindings):
        verb = each.WhichOneof("pattern")
        if verb not in _VERBS:
            raise ValueError(f"{method.full_name}: {verb} is not a known method of HTTP")
        # The first route of each of negz/q's methods is the one that its gateway has.
        is_negz = each is rule and method.name in _NEGZ_METHODS
        yield Route(
            verb=verb.upper(),
            template=getattr(each, verb),
            service=NEGZ_SERVICE if is_negz else SERVICE,
            method=method.name,
            body=each.body,
            request=GetMessageClass(method.input_type),
            response=GetMessageClass(method.output_type),
            streams=method.server_streaming,
        )
