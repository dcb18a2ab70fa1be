"""The dashboard for Grafana: where the chart installs it, and that its queries find series of a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from queuelet.v1 import queue_pb2 as pb
from support.helm import CHART, Object, template
from support.pages import fetch
from support.postgres_server import own_schema
from support.rpc import Rpc
from support.server_process import ServerProcess

DASHBOARD: Object = json.loads((CHART / "files/dashboards/queuelet.json").read_text())

OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus adds when it scrapes, and that of buckets."""

Series = dict[str, dict[str, set[str]]]
"""The values of each label, by the name of the metric."""


def queries() -> Iterator[str]:
    """Return the queries of all panels and variables."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def selectors(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Return the metrics of a query, each with the values or patterns that its labels must have."""
    for name, matchers in re.findall(r"\b([a-z]\w+)(?:\{([^}]*)\}|, job\))", query):
        yield name, dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """The series of a server with all stores, once there were calls, deliveries, refusals and a dead message."""
    folder = tmp_path_factory.mktemp("data")
    with own_schema() as database, ServerProcess("--data-dir", str(folder), *database) as process:
        rpc = Rpc(process.address)
        rpc.new_queue("orders", limit=2)
        rpc.add("orders")
        rpc.add_batch("orders", [b"", b""])
        first, second = rpc.receive("orders", 2)
        rpc.ack("orders", first.token)
        rpc.nack("orders", second.token, dead=True)
        rpc.add("orders")
        rpc.pop("orders")
        declared = pb.QueueDeclaration(name="mails", store=pb.Queue.MEMORY, limit=-1)
        rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
        rpc.close()
        text = fetch(f"{process.metrics_url}/metrics").text
    found: Series = {}
    for family in text_string_to_metric_families(text):
        # A counter has its family before its first event, but no sample.
        found.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, {})
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("query", list(queries()))
def test_every_query_asks_for_metrics_and_labels_that_there_are(query: str, series: Series) -> None:
    asked = list(selectors(query))
    assert set(re.findall(r"\bqueue(?:let)?_\w+", query)) <= {name for name, _ in asked}
    assert asked
    known = set(OF_PROMETHEUS)
    for name, labels in asked:
        assert name in series
        known |= series[name].keys()
        for label, pattern in labels.items():
            assert label in OF_PROMETHEUS or label in series[name], f"{name} has no label {label}"
            if "$" not in pattern:
                assert set(pattern.split("|")) <= series[name][label]
    for labels in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query):
        assert set(labels.split(", ")) <= known


def test_its_legends_and_variables_are_those_of_its_queries() -> None:
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            used = set(re.findall(r"\$(\w+)", target["expr"])) | set(re.findall(r"\$\{(\w+)\}", json.dumps(target)))
            assert used <= variables | {"__rate_interval"}
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"\bby \([^)]*\b{label}\b", target["expr"])


def test_its_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken
        assert max(columns) < 24
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_chart_installs_it_for_the_sidecar_of_grafana_if_a_value_says_so() -> None:
    assert not [each for each in template("prod", "shop", {}) if each["kind"] == "ConfigMap"]
    values = {"monitoring": {"grafanaDashboard": {"enabled": True, "annotations": {"grafana_folder": "Queues"}}}}
    (found,) = [each for each in template("prod", "shop", values) if each["kind"] == "ConfigMap"]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Queues"}
    assert json.loads(found["data"]["queuelet.json"]) == DASHBOARD
