"""The gRPC target for each form of a server address."""

from __future__ import annotations

import pytest

from queuelet.client.connection import grpc_target


@pytest.mark.parametrize(
    ("server", "target"),
    [
        ("queues", "queues:10002"),
        ("queues.shop.svc", "queues.shop.svc:10002"),
        ("127.0.0.1", "127.0.0.1:10002"),
        ("queues:7", "queues:7"),
        (":7", "localhost:7"),
        ("", "localhost:10002"),
        ("[::1]", "[::1]:10002"),
        ("[::1]:7", "[::1]:7"),
        ("::1", "[::1]:10002"),
        ("unix:/run/queuelet.sock", "unix:/run/queuelet.sock"),
        ("dns:///queues:7", "dns:///queues:7"),
        ("dns://10.0.0.10/queues:7", "dns://10.0.0.10/queues:7"),
        ("ipv4:10.0.0.1:7,10.0.0.2:7", "ipv4:10.0.0.1:7,10.0.0.2:7"),
    ],
)
def test_an_address_without_a_port_means_port_10002(server: str, target: str) -> None:
    assert grpc_target(server) == target
