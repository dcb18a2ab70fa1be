"""Paths find their routes, whatever queues and messages are called."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.compat import q_pb2
from queuelet.errors import InvalidArgument
from queuelet.rest.routes import NoRoute, Route, Routes, WrongVerb, queue_routes
from queuelet.v1 import queue_pb2 as pb

ROUTES = Routes(queue_routes())

VERBS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")

# Any text that is valid in UTF-8, except for an empty segment.
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def is_field(segment: str) -> bool:
    return segment.startswith("{")


@given(st.sampled_from(queue_routes()), st.lists(VALUES, min_size=2, max_size=2))
def test_every_route_is_found_with_the_fields_in_its_path(route: Route, values: list[str]) -> None:
    names = [segment[1:-1] for segment in route.segments if is_field(segment)]
    fields = dict(zip(names, values, strict=False))
    path = "/" + "/".join(
        quote(fields[segment[1:-1]], safe="") if is_field(segment) else segment for segment in route.segments
    )
    found = ROUTES.match(route.verb, path)
    texts_win = {text for other in queue_routes() for text in other.segments}
    if not texts_win & set(values):
        assert found.route == route
    if found.route == route:
        assert found.fields == fields


@pytest.mark.parametrize("name", ["watch", "declare", "remove", "queues", "messages", "pop", "stats", "tag", "v1"])
def test_a_queue_may_be_called_like_a_part_of_a_path(name: str) -> None:
    found = ROUTES.match("GET", f"/v1/queues/{name}")
    assert (found.route.method, found.fields) == ("GetQueue", {"queue_id": name})
    assert ROUTES.match("POST", f"/v1/queues/{name}/messages:receive").fields == {"queue_id": name}
    assert ROUTES.match("GET", f"/v1/queues/{name}/messages/{name}").fields == {"queue_id": name, "ids": name}


def allowed_for(verb: str, path: str) -> list[str] | None:
    """Return the methods of a path if it does not have this one; None if the route is found, or no such path."""
    try:
        found = ROUTES.match(verb, path)
    except (NoRoute, InvalidArgument):
        return None
    except WrongVerb as error:
        return error.allowed
    assert found.route.verb == verb
    assert all(found.fields.values())
    return None


@given(st.sampled_from(VERBS), st.text(max_size=60))
def test_any_path_is_found_or_refused(verb: str, path: str) -> None:
    for each in (path, f"/v1/queues/{path}", f"/v1/queues/orders/{path}"):
        allowed = allowed_for(verb, each)
        if allowed is not None:
            assert verb not in allowed
            assert allowed
            for other in allowed:
                ROUTES.match(other, each)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/queues/", "/v1//orders", "/v2/queues", "/v1/queues/a/b"])
def test_a_path_without_a_route_is_refused(path: str) -> None:
    with pytest.raises(NoRoute):
        ROUTES.match("GET", path)


def test_a_path_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="UTF-8"):
        ROUTES.match("GET", "/v1/queues/%ff")


def test_q50_exactly_the_nine_routes_of_negz_q_call_its_service() -> None:
    nine = {(route.verb, route.template, route.method, route.body) for route in queue_routes() if route.is_negz}
    assert nine == {
        ("GET", "/v1/queues", "ListQueues", ""),
        ("POST", "/v1/queues", "NewQueue", "*"),
        ("GET", "/v1/queues/{queue_id}", "GetQueue", ""),
        ("DELETE", "/v1/queues/{queue_id}", "DeleteQueue", ""),
        ("POST", "/v1/queues/{queue_id}", "Add", "message"),
        ("GET", "/v1/queues/{queue_id}/pop", "Pop", ""),
        ("GET", "/v1/queues/{queue_id}/peek", "Peek", ""),
        ("POST", "/v1/queues/{queue_id}/tag", "AddQueueTag", "tag"),
        ("DELETE", "/v1/queues/{queue_id}/tag", "DeleteQueueTag", "tag"),
    }
    assert {route.method for route in queue_routes() if route.is_negz} == set(
        q_pb2.DESCRIPTOR.services_by_name["Q"].methods_by_name
    )


def test_every_method_but_consume_has_a_route() -> None:
    """Consume needs a stream in both directions; Receive serves its purpose over HTTP."""
    methods = set(pb.DESCRIPTOR.services_by_name["QueueService"].methods_by_name)
    assert methods - {route.method for route in queue_routes()} == {"Consume"}


def test_two_routes_with_one_path_are_refused() -> None:
    route = queue_routes()[0]
    with pytest.raises(ValueError, match="two routes"):
        Routes([route, route])
