"""Ports that are reserved for servers."""

from __future__ import annotations

import socket

import pytest

from tools.control_plane.ports import reserved_ports


def test_a_reserved_port_is_free_for_a_server_and_taken_for_others() -> None:
    with reserved_ports(2) as (port, other):
        assert port != other
        with socket.socket() as taker, pytest.raises(OSError, match="in use"):
            taker.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port), 5):
            pass
