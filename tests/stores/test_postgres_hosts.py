"""Connection strings with several hosts: the primary is found, whatever the others do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from urllib.parse import quote

import pytest

from queuelet.stores.postgres.address import Address
from queuelet.stores.postgres.driver import Connection, DatabaseError
from queuelet.stores.postgres.primary import connect_to_primary
from support.patience import patient
from support.ports import lasting_port
from support.postgres_owner import Owner
from support.postgres_server import PostgresServer, Standby, new_schema, shared_postgres
from support.relay import Relay


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and never responds, like a host whose machine is frozen."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
async def closing_port() -> AsyncIterator[int]:
    """A port that ends each connection at once, like a proxy without a backend."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def connected(url: str) -> Connection:
    """Connect, and check that the connection works."""
    connection = await connect_to_primary(Address(url), schema="public", seconds=patient(20))
    assert (await connection.fetch("SELECT pg_is_in_recovery()"))[0][0] is False
    return connection


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql:///shop?host=/run/postgresql", ["postgresql:///shop?host=/run/postgresql"]),
        ("postgresql://db/shop", ["postgresql://db/shop"]),
        (
            "postgresql://me:a%2Cb@first:1,[::1],third/shop?sslmode=require",
            [f"postgresql://me:a%2Cb@{host}/shop?sslmode=require" for host in ("first:1", "[::1]", "third")],
        ),
        (
            "postgresql://me:x@/shop?host=first,second&port=1,2",
            [f"postgresql://me:x@/shop?host={host}&port={port}" for host, port in (("first", 1), ("second", 2))],
        ),
        (
            "postgresql:///shop?host=first,second&port=1",
            [f"postgresql:///shop?host={host}&port=1" for host in ("first", "second")],
        ),
        ("postgresql:///shop?host=first,second&port=1,2,3", ["postgresql:///shop?host=first,second&port=1,2,3"]),
    ],
)
def test_a_connection_string_has_an_address_for_each_host(url: str, hosts: list[str]) -> None:
    assert [each.url for each in Address(url).hosts()] == hosts


async def test_the_primary_is_found_among_hosts_that_do_not_respond(silent: int, closing_port: int) -> None:
    """A host that is silent must not use up the time of the others."""
    port = shared_postgres().port
    hosts = ",".join(f"127.0.0.1:{each}" for each in (silent, closing_port, lasting_port(), port))
    url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
    connection = await connected(url)
    assert connection.address.shown == f"127.0.0.1:{port}/postgres"
    connection.terminate()


async def test_the_primary_is_found_before_a_standby() -> None:
    primary = PostgresServer()
    standby = Standby(primary)
    try:
        hosts = [f"127.0.0.1:{port}" for port in (standby.port, primary.port)]
        (await connected(f"postgresql://postgres@{','.join(hosts)}/postgres")).terminate()
        in_query = f"host={quote('127.0.0.1,127.0.0.1')}&port={standby.port},{primary.port}"
        (await connected(f"postgresql://postgres@/postgres?{in_query}")).terminate()
        with pytest.raises(DatabaseError, match=f"{hosts[0]}/postgres is a standby, which accepts no writes"):
            await connected(f"postgresql://postgres@{hosts[0]}/postgres")
    finally:
        standby.stop()
        primary.stop()


async def test_the_newer_of_two_primaries_is_used() -> None:
    """The old one does not know of the failover."""
    old = PostgresServer()
    new = Standby(old)
    try:
        new.promote()
        for ports in ((old.port, new.port), (new.port, old.port)):
            hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
            connection = await connected(f"postgresql://postgres@{hosts}/postgres")
            assert connection.address.shown == f"127.0.0.1:{new.port}/postgres"
            connection.terminate()
    finally:
        new.stop()
        old.stop()


async def test_the_error_names_what_is_wrong_with_each_host() -> None:
    ports = [lasting_port(), lasting_port()]
    hosts = [f"127.0.0.1:{port}" for port in ports]
    url = f"postgresql://postgres:hidden-word@{','.join(hosts)}/postgres"
    with pytest.raises(DatabaseError) as failed:
        await connect_to_primary(Address(url), schema="public", seconds=patient(20))
    assert all(host in str(failed.value) for host in hosts)
    assert "hidden-word" not in str(failed.value)


async def test_a_connection_that_falls_silent_during_the_take_over_is_given_up() -> None:
    """Otherwise the server would wait forever for a machine that is gone."""
    schema = new_schema()
    with Relay(shared_postgres().port) as relay:
        owner = Owner(Address(f"postgresql://postgres@{relay.address}/postgres"), schema)
        relay.silence_at(b"UPDATE owners SET epoch")
        await owner.store.open()
        assert "does not respond" in owner.store.problem
        await owner.until_open()
        await owner.store.close()
    shared_postgres().drop(schema)
