"""A database with TLS: with the settings of libpq in the environment, as the chart gives them to the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from support.postgres_server import own_schema, shared_postgres
from support.rpc import eventually
from support.server_process import ServerProcess
from support.tls_front import TlsFront


@pytest.fixture
def schema() -> Iterator[tuple[str, ...]]:
    """The flags for a schema of the test's own."""
    with own_schema() as flags:
        yield flags[2:]


def environment(authority: Path) -> dict[str, str]:
    """Return the variables with which the server verifies the database."""
    return {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(authority)}


def test_a_database_is_used_if_its_certificate_is_of_the_authority(schema: tuple[str, ...], tmp_path: Path) -> None:
    """The file of the authority is read again for each connection, because authorities are rotated too."""
    ours, theirs, file = trustme.CA(), trustme.CA(), tmp_path / "ca.crt"
    theirs.cert_pem.write_to_path(file)
    with TlsFront(shared_postgres().port, ours, "localhost") as front:
        url = f"postgresql://postgres@localhost:{front.port}/postgres"
        with ServerProcess("--postgres", url, *schema, env=environment(file)) as server:
            problem = server.log("serving without the postgres store until it can be used")[0]["error"]
            assert "certificate verify failed" in problem
            ours.cert_pem.write_to_path(file)
            eventually(lambda: bool(server.log("postgres store opened")), "the store is open")


def test_a_database_with_another_name_is_not_used(schema: tuple[str, ...], tmp_path: Path) -> None:
    ours, file = trustme.CA(), tmp_path / "ca.crt"
    ours.cert_pem.write_to_path(file)
    with TlsFront(shared_postgres().port, ours, "db-rw.shop.svc") as front:
        url = f"postgresql://postgres@localhost:{front.port}/postgres"
        with ServerProcess("--postgres", url, *schema, env=environment(file)) as server:
            problem = server.log("serving without the postgres store until it can be used")[0]["error"]
            assert "Hostname mismatch" in problem
