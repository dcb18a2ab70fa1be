"""What a gateway that runs alone refuses before it makes a call."""

from __future__ import annotations

import pytest

from queuelet.client.connection import Connection
from queuelet.client.raw_calls import RawCalls
from queuelet.gateway.remote_calls import RemoteCalls
from queuelet.rest.calls import RestCall
from queuelet.wire.errors import SERVICE, Code, Status

ELSEWHERE = "queues.example.com:10002"


def admitted(connection: Connection, *, token: str) -> Status | None:
    """Return what a gateway with this connection says of a call with this token."""
    metadata = {"authorization": f"Bearer {token}"} if token else {}
    call = RestCall(service=SERVICE, peer_host="127.0.0.1", peer_port=1, metadata=metadata, deadline=None)
    return RemoteCalls(RawCalls(connection)).admit(f"{SERVICE}/Pop", call)


def test_a_token_is_not_passed_on_to_another_machine_in_plain_text() -> None:
    refused = admitted(Connection(server=ELSEWHERE), token="secret")
    assert refused
    assert refused.code is Code.UNAUTHENTICATED
    assert ELSEWHERE in refused.text


@pytest.mark.parametrize(
    ("connection", "token"),
    [
        (Connection(server=ELSEWHERE), ""),
        (Connection(server=ELSEWHERE, insecure=True), "secret"),
        (Connection(server="127.0.0.1:10002"), "secret"),
    ],
)
def test_other_calls_are_admitted(connection: Connection, token: str) -> None:
    assert admitted(connection, token=token) is None
