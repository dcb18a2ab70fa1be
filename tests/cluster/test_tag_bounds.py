"""Every Queue that the API server accepts can become Ready, even if its tags are many times longer in JSON."""

from __future__ import annotations

import secrets

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queuelet.tags import Tag
from queuelet_operator.packed_tags import PackedTags
from support.counts import soaked
from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.queue_objects import queue_object, tag

MAX_BYTES = 16_384
MAX_VALUE_BYTES = 4_096

characters = st.sampled_from(["<", "&", "\x01", "\x7f", '"', "\\", "\u2028", "\u00e4", "a"])
"""Characters of which most take five or six bytes in JSON, and more in managedFields, which is JSON in JSON."""


@st.composite
def largest_tags(draw: st.DrawFn) -> list[Tag]:
    """Return tags of the maximum size, or nearly."""
    tags: list[Tag] = []
    left = MAX_BYTES
    while left > 2 and len(tags) < 64:
        key = f"{len(tags):02}"
        character = draw(characters)
        longest = min(MAX_VALUE_BYTES, left - len(key)) // len(character.encode())
        length = longest if draw(st.booleans()) else min(longest, MAX_BYTES // 64)
        tags.append(Tag(key, character * length))
        left -= len(key) + len(tags[-1].value.encode())
    return tags


def test_64_tags_of_2048_angle_brackets_are_refused_and_the_most_that_is_taken_is_ready(
    operator: OperatorProcess, kube: KubeQueues
) -> None:
    kube.create(tags=[tag(f"{number:02}", "<" * 254) for number in range(64)])
    status = kube.wait_ready()["status"]
    assert status["effective"]["tagCount"] == 64
    assert "tags" not in status["effective"]


@settings(max_examples=soaked(8, 300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tags=largest_tags(), managers=st.integers(1, 3))
def test_whatever_the_tags_the_queue_becomes_ready(
    operator: OperatorProcess, kube: KubeQueues, tags: list[Tag], managers: int
) -> None:
    name = f"orders-{secrets.token_hex(4)}"
    for number in range(managers):
        spec = queue_object(name, tags=[tag(*each) for each in tags])
        kube.api.apply(f"{kube.path}/{name}", spec, f"manager-{number}")
    try:
        status = kube.wait_ready(name)["status"]
        assert status["effective"]["tagsHash"] == PackedTags(tags).hash
    finally:
        kube.delete(name)


def test_a_long_request_to_reconcile_is_handled_with_its_beginning_in_the_status(
    operator: OperatorProcess, kube: KubeQueues
) -> None:
    kube.create()
    kube.wait_ready()
    kube.annotate(reconcile_requested_at="<" * 200_000)
    kube.wait("orders", lambda each: each["status"].get("lastHandledReconcileAt") == "<" * 256, "handled")
    kube.wait_ready()
