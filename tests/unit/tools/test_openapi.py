"""The OpenAPI document: complete, valid, and as queue.proto has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from google.protobuf.message import Message
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError
from referencing.exceptions import Unresolvable

from queuelet.rest.refusals import HTTP_STATUS, NEGZ_HTTP_STATUS
from queuelet.rest.routes import Route, queue_routes
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import Code
from support.documents import ROOT
from tools.openapi.comments import method_comment
from tools.openapi.document import document, to_text
from tools.openapi.examples import EXAMPLES
from tools.openapi.limits import LIMITS
from tools.openapi.operations import ADDITIONAL, SUBJECTS, SUMMARIES

FILE = ROOT / "server/queuelet/rest/openapi.json"

Json = dict[str, Any]

ROUTES = queue_routes()

NEGZ = [route for route in ROUTES if route.is_negz]


@pytest.fixture(scope="module")
def made() -> Json:
    return document()


def operation(made: Json, route: Route) -> Json:
    found: Json = made["paths"][route.template][route.verb.lower()]
    return found


def resolved(made: Json, part: Json) -> Json:
    """Follow a reference inside the document."""
    while "$ref" in part:
        found: Json = made
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def parts(value: object) -> Iterator[Json]:
    """Yield all objects of a document."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from parts(each)
    elif isinstance(value, list):
        for each in value:
            yield from parts(each)


def ids(made: Json) -> list[str]:
    return [each["operationId"] for each in parts(made["paths"]) if "operationId" in each and "responses" in each]


def test_the_committed_document_is_that_of_queue_proto(made: Json) -> None:
    """`make generate` writes it."""
    assert FILE.read_text() == to_text(made)


def test_it_is_valid(made: Json) -> None:
    OpenAPIV31SpecValidator(made).validate()


def test_the_validator_would_notice_a_missing_schema(made: Json) -> None:
    """negz/q's document refers to `protoNewMessage`, which it lacks."""
    broken = json.loads(to_text(made))
    del broken["components"]["schemas"]["NewMessage"]
    with pytest.raises((OpenAPIValidationError, Unresolvable)):
        OpenAPIV31SpecValidator(broken).validate()


def test_every_reference_leads_to_something(made: Json) -> None:
    references = [each for each in parts(made) if "$ref" in each]
    assert len(references) > 100
    for each in references:
        assert resolved(made, each)


def test_every_schema_is_used(made: Json) -> None:
    used = {each["$ref"].rpartition("/")[2] for each in parts(made) if "$ref" in each}
    assert set(made["components"]["schemas"]) <= used


def test_every_route_is_in_it_and_no_other(made: Json) -> None:
    there = {(verb.upper(), path) for path, item in made["paths"].items() for verb in item}
    assert there == {(route.verb, route.template) for route in ROUTES}


def test_operation_ids_are_unique() -> None:
    made = document()
    assert len(ids(made)) == len(set(ids(made))) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.template}")
def test_every_field_of_the_request_has_one_place(made: Json, route: Route) -> None:
    found = operation(made, route)
    parameters = [resolved(made, each) for each in found["parameters"]]
    names = [each["name"] for each in parameters if each["in"] != "header"]
    if route.body == "*":
        schema = found["requestBody"]["content"]["application/json"]["schema"]
        names += resolved(made, schema).get("properties", {})
    elif route.body:
        names.append(route.body)
    assert sorted(names) == sorted(field.name for field in route.request.DESCRIPTOR.fields)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.template}")
def test_every_example_is_a_message_of_its_method(made: Json, route: Route) -> None:
    found = operation(made, route)
    request: Json = {each["name"]: each["example"] for each in found["parameters"] if "example" in each}
    for name, value in request.items():
        if route.request.DESCRIPTOR.fields_by_name[name].is_repeated and not isinstance(value, list):
            request[name] = [value]
    if route.body:
        body = found["requestBody"]["content"]["application/json"]["example"]
        request |= body if route.body == "*" else {route.body: body}
    parse(request, route.request())

    responses = [each for each in found["responses"]["200"]["content"].values() if isinstance(each["example"], dict)]
    for each in responses:
        parse(each["example"], route.response())
    assert bool(responses) or route.streams


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_entry_of_the_examples_is_used(made: Json, name: str) -> None:
    assert name in ids(made)


@pytest.mark.parametrize("route", [each for each in ROUTES if each.streams], ids=lambda route: route.method)
def test_streams_are_server_sent_events_of_the_response(made: Json, route: Route) -> None:
    content = operation(made, route)["responses"]["200"]["content"]["text/event-stream"]
    events, errors = content["x-event-schema"]["oneOf"]
    name = route.response.DESCRIPTOR.name
    assert events["properties"]["data"]["contentSchema"] == {"$ref": f"#/components/schemas/{name}"}
    assert errors["properties"]["data"]["contentSchema"] == {"$ref": "#/components/schemas/Refusal"}
    lines = dict(line.split(": ", 1) for line in content["example"].strip().splitlines())
    assert lines["event"] in events["properties"]["event"]["enum"]
    parse(json.loads(lines["data"]), route.response())


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.template}")
def test_every_error_in_the_comment_has_its_status(made: Json, route: Route) -> None:
    responses = operation(made, route)["responses"]
    table = NEGZ_HTTP_STATUS if route.is_negz else HTTP_STATUS
    comment = pb_comment(route.method)
    assert comment.causes
    for cause in comment.causes:
        response = resolved(made, responses[str(table[cause.code])])
        assert cause.text in response["description"]
        example = response["content"]["application/json"]["example"]
        assert table[Code(example["code"])] == table[cause.code]


def test_something_full_is_403_on_the_nine_routes_and_429_on_all_others(made: Json) -> None:
    assert len(NEGZ) == 9
    for route in ROUTES:
        responses = operation(made, route)["responses"]
        of_full = {status for status, each in responses.items() if "RESOURCE_EXHAUSTED" in each.get("description", "")}
        assert of_full <= {"403" if route.is_negz else "429"}


def test_every_refusal_has_one_form(made: Json) -> None:
    for route in ROUTES:
        for status, response in operation(made, route)["responses"].items():
            if status != "200":
                content = resolved(made, response)["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Refusal"}


def test_new_queue_links_to_every_operation_on_one_queue(made: Json) -> None:
    links = made["paths"]["/v1/queues"]["post"]["responses"]["200"]["links"]
    on_queues = [
        operation(made, route)["operationId"]
        for route in ROUTES
        if [each for each in route.segments if each.startswith("{")] == ["{queue_id}"]
    ]
    assert list(links) == on_queues
    assert {each["parameters"]["path.queue_id"] for each in links.values()} == {"$response.body#/queue/meta/id"}


def test_links_name_operations_and_parameters_that_exist(made: Json) -> None:
    by_id = {operation(made, route)["operationId"]: operation(made, route) for route in ROUTES}
    for found in by_id.values():
        for link in found["responses"]["200"].get("links", {}).values():
            target = [resolved(made, each) for each in by_id[link["operationId"]]["parameters"]]
            assert set(link["parameters"]) <= {f"{each['in']}.{each['name']}" for each in target}


def test_every_operation_has_one_subject(made: Json) -> None:
    for route in ROUTES:
        assert len(operation(made, route)["tags"]) == 1
    assert {tag["name"] for tag in made["tags"]} == set(SUBJECTS)


def test_the_tables_name_only_what_exists() -> None:
    made = document()
    assert {method for _, methods in SUBJECTS.values() for method in methods} == {route.method for route in ROUTES}
    assert set(ADDITIONAL) <= {f"{route.verb} {route.template}" for route in ROUTES}
    assert set(SUMMARIES) <= set(ids(made))
    for name in LIMITS:
        message, _, field = name.partition(".")
        assert field in pb.DESCRIPTOR.message_types_by_name[message].fields_by_name


def test_the_json_is_that_of_the_gateway(made: Json) -> None:
    queue = made["components"]["schemas"]["Queue"]["properties"]
    assert queue["limit"]["type"] == "string"
    assert queue["limit"]["format"] == "int64"
    assert made["components"]["schemas"]["Delivery"]["properties"]["token"]["format"] == "uint64"
    assert made["components"]["schemas"]["Message"]["properties"]["payload"]["contentEncoding"] == "base64"
    assert made["components"]["schemas"]["MessageState"]["enum"][1] == "MESSAGE_STATE_READY"
    assert made["components"]["schemas"]["Try"]["properties"]["began"]["format"] == "date-time"


def test_required_fields_are_those_whose_comment_says_so(made: Json) -> None:
    assert made["components"]["schemas"]["NewQueueRequest"]["required"] == ["store", "limit"]
    assert "required" not in made["components"]["schemas"]["PopRequest"]


def test_no_description_has_an_instruction_for_buf(made: Json) -> None:
    assert "buf:lint" not in to_text(made)


def test_a_comment_has_summary_details_and_errors() -> None:
    text = (
        "Take takes a thing. It\nwaits.\n\nTwice:\n- a\n- b\n  c\n\nErrors:\n"
        "- NOT_FOUND (GONE): it is\n  gone.\n- ABORTED (A, B): no."
    )
    comment = method_comment("Take", text)
    assert comment.summary == "Takes a thing."
    assert comment.details == "It waits.\n\nTwice:\n\n- a\n- b c"
    assert [(each.code.name, each.reasons, each.text) for each in comment.causes] == [
        ("NOT_FOUND", ["GONE"], "it is gone."),
        ("ABORTED", ["A", "B"], "no."),
    ]


def test_an_error_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="Take: the error 'NOT_FOUND: gone' has not the form"):
        method_comment("Take", "Take takes.\n\nErrors:\n- NOT_FOUND: gone")


def pb_comment(method: str) -> Any:  # noqa: ANN401  # a MethodComment
    from tools.openapi.comments import comments  # noqa: PLC0415  # runs protoc

    return method_comment(method, comments()[f"queuelet.v1.QueueService.{method}"])


def parse(value: Json, message: Message) -> Message:
    return Parse(json.dumps(value), message)
