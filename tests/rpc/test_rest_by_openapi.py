"""The real server does what its OpenAPI document says: schemathesis sends what it allows, and what it forbids.

A soak sends 2,000 requests to one queue, and 2,000 that follow links; otherwise it is a few of each operation.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from queuelet.console.api_page import OPENAPI
from support.counts import soaked
from support.documents import ROOT
from support.logged_process import clean_environment
from support.patience import patient
from support.rest import Answer, Rest
from support.rpc import unique_name
from support.server_process import ServerProcess

Json = dict[str, Any]

PER_OPERATION = soaked(2, 70)
"""Requests for each operation, and series of requests that follow links."""

MIN_OF_QUEUE, MIN_OF_LINKS = soaked(60, 2_000), soaked(5, 2_000)
"""How many requests these are at least."""

PHASES = soaked("examples,fuzzing", "examples,coverage,fuzzing")

SEED: tuple[str, ...] = soaked(("--seed", "1"), ())
"""Only a soak looks for new defects; the suite always sends the same requests."""

SECONDS = soaked(250, 7_000)

CONFIGURATION = """
hooks = "support.openapi_checks"
continue-on-failure = true
request-timeout = 60
warnings = false
headers = { Grpc-Timeout = "200m" }

[checks]
# JSON Schema has no form for selectors and page tokens, nor for rules about several fields, such as that exactly one of
# ids, selector and all is given. negz/q's routes refuse names that no queue has with 400. So requests that the document
# allows may be refused with 400; `openapi_checks.py` checks that the response names the field.
positive_data_acceptance.enabled = false
# Protobuf's JSON may have numbers instead of strings and null instead of nothing, which the document does not say, so
# that generated clients have one type for each field.
negative_data_rejection.enabled = false
# The deadline is short, because many requests would wait for a message until then.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]

# An empty queue is 404 too, as with negz/q.
[[operations]]
include-operation-id = ["Pop", "PopByPost", "PopMessage", "Peek"]
checks.ensure_resource_availability.enabled = false
"""


def document() -> Json:
    """Return the document with the parts that schemathesis reads only from OpenAPI 3.2: schemas of events."""
    found: Json = json.loads(OPENAPI.read_text())
    found["openapi"] = "3.2.0"
    for item in found["paths"].values():
        for operation in item.values():
            events = operation["responses"]["200"]["content"].get("text/event-stream")
            if events:
                del events["schema"]
                events["itemSchema"] = events.pop("x-event-schema")
    return found


@pytest.fixture(scope="module")
def own_server() -> Iterator[ServerProcess]:
    """A server of its own, because requests delete queues of any name."""
    with ServerProcess("--max-queues", "1000") as process:
        yield process
        assert process.stop() == 0


@pytest.fixture(scope="module")
def file(own_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document as a file."""
    written = tmp_path_factory.mktemp("openapi") / "openapi.json"
    written.write_text(json.dumps(document()))
    return written


def run(file: Path, server: ServerProcess, *options: str, configuration: str = "") -> int:
    """Run schemathesis; return the number of its requests. Fails with its output if it finds a defect."""
    (file.parent / "schemathesis.toml").write_text(CONFIGURATION + configuration)
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", server.rest_url, "--no-color",
         "--report", "json", "--report-json-path", "report.json", *SEED, "--max-examples", str(PER_OPERATION),
         *options],
        cwd=file.parent,
        env={**clean_environment(), "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=patient(SECONDS),
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((file.parent / "report.json").read_text())
    return int(report["test_cases"]["generated"])


def test_every_example_works_when_it_is_executed() -> None:
    found: Json = json.loads(OPENAPI.read_text())
    operations = {
        each["operationId"]: (verb.upper(), path, each)
        for path, item in found["paths"].items()
        for verb, each in item.items()
    }
    order = sorted(operations, key=lambda id_: {"NewQueue": 0, "DeleteQueue": 2}.get(id_, 1))
    with ServerProcess() as process:
        rest = Rest(process.rest_url)
        for id_ in order:
            if id_ not in {"NewQueue", "Add"}:
                # For the operations that take a message.
                rest.post("/v1/queues/shop.orders", {})
            verb, path, operation = operations[id_]
            answer = executed(rest, verb, path, operation)
            assert answer.status == 200, (id_, answer.body)


def executed(rest: Rest, verb: str, path: str, operation: Json) -> Answer:
    """Execute an operation with its example, as the page of the API does."""
    query: list[tuple[str, str]] = []
    for each in operation["parameters"]:
        value = each.get("example")
        if value is None:
            continue
        texts = [
            each if isinstance(each, str) else json.dumps(each)
            for each in (value if isinstance(value, list) else [value])
        ]
        if each["in"] == "path":
            path = path.replace("{" + each["name"] + "}", texts[0])
        else:
            query += [(each["name"], text) for text in texts]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    return rest.ask(verb, f"{path}?{urlencode(query)}" if query else path, body, headers={"Grpc-Timeout": "500m"})


@pytest.mark.timeout(SECONDS + 50)
def test_requests_to_one_queue_get_what_the_document_says(file: Path, own_server: ServerProcess) -> None:
    name = unique_name()
    Rest(own_server.rest_url).new_queue(name=name)
    # Without the operation that would end it for all others.
    options = ("--phases", PHASES, "--exclude-operation-id", "DeleteQueue")
    sent = run(file, own_server, *options, configuration=f'[parameters]\n"path.queue_id" = "{name}"\n')
    assert sent >= MIN_OF_QUEUE


@pytest.mark.timeout(SECONDS + 50)
def test_requests_that_follow_links_get_what_the_document_says(file: Path, own_server: ServerProcess) -> None:
    """Queues are created, and messages added, received and acknowledged, by the links of the document."""
    sent = 0
    while sent < MIN_OF_LINKS:  # schemathesis ends after some 100 requests, whatever it is asked for
        more = run(file, own_server, "--phases", "stateful")
        assert more, "no link was followed"
        sent += more
