"""A PostgreSQL that cannot be used: the error names the setting to change, says what to do, and shows no secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from queuelet.errors import StoreFailed
from queuelet.stores.postgres.address import Address, AddressFile
from queuelet.stores.postgres.check import check_tables
from support.pgbouncer import Pgbouncer
from support.postgres_owner import Owner
from support.postgres_server import PostgresServer, new_schema
from support.relay import Relay
from support.tls_front import TlsFront
from tools.pooler import why_not

SECRET, OTHER = "c0rrect-h0rse", "battery-stap1e"  # of a database for tests


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    """A PostgreSQL with users: `me` needs a password, `outsider` may not connect, `plain` may not create anything."""
    server = PostgresServer()
    server.sql(f"CREATE ROLE me LOGIN PASSWORD '{SECRET}'; CREATE ROLE outsider LOGIN; CREATE ROLE plain LOGIN")
    server.sql("CREATE ROLE secured LOGIN; CREATE ROLE idle; GRANT CREATE ON DATABASE postgres TO me")
    server.sql("CREATE ROLE one LOGIN CONNECTION LIMIT 0")
    server.sql("CREATE DATABASE closed")
    server.sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    rules = server.folder / "pg_hba.conf"
    first = (
        "host all me 127.0.0.1/32 scram-sha-256",
        "host all outsider 127.0.0.1/32 reject",
        # The programs of the package were built without TLS, so a rule for it never matches.
        "host all secured 127.0.0.2/32 trust",
    )
    # Without the usual rule for everyone, `secured` has no rule at all.
    everyone = "host all postgres,plain,idle,one,stranger 127.0.0.1/32 trust\n"
    rules.write_text("\n".join(first) + f"\n{everyone}local all all trust\n")
    server.sql("SELECT pg_reload_conf()")
    yield server
    server.stop()


async def problem(address: Address | AddressFile, schema: str = "queuelet") -> str:
    """Return why a store cannot be opened."""
    owner = Owner(address, schema)
    await owner.store.open()
    text = owner.store.problem.removeprefix("the store failed and cannot be reopened: ")
    await owner.store.close()
    assert SECRET not in text
    assert OTHER not in text
    assert "\n" not in text
    return text


REFUSALS = {
    "wrong password": (
        f"me:{OTHER}@",
        "postgres",
        "password authentication failed",
        "give the user's present password",
    ),
    "no password": ("me@", "postgres", "password", "give the user's"),
    "no rule": (
        "secured@",
        "postgres",
        "no pg_hba.conf entry",
        "use sslmode=require, or allow connections without TLS",
    ),
    "rejected": ("outsider@", "postgres", "pg_hba.conf rejects", "in pg_hba.conf"),
    "no such user": ("stranger@", "postgres", 'role "stranger" does not exist', "create the user, or name another one"),
    "no login": ("idle@", "postgres", "is not permitted to log in", "give a user who may log in"),
    "no database": ("postgres@", "shop", 'database "shop" does not exist', "create the database, or name another one"),
    "no right to connect": ("plain@", "closed", "permission denied for database", "grant the user CONNECT"),
    "too many": ("one@", "postgres", "too many connections for role", "raise max_connections of the database"),
}
"""User, database, a part of the error, and of the remedy."""


@pytest.mark.parametrize("in_file", [False, True], ids=["in the flag", "in a file"])
@pytest.mark.parametrize("refusal", list(REFUSALS))
async def test_a_connection_that_is_refused_names_the_flag_and_what_to_do(
    own: PostgresServer,
    tmp_path: Path,
    refusal: str,
    in_file: bool,  # noqa: FBT001  # a column
) -> None:
    user, database, wrong, remedy = REFUSALS[refusal]
    url, file = f"postgresql://{user}127.0.0.1:{own.port}/{database}?sslmode=disable", tmp_path / "uri"
    file.write_text(url)
    text = await problem(AddressFile(file) if in_file else Address(url))
    assert text.startswith(f"--postgres-file {file}: " if in_file else "--postgres: ")
    assert wrong in text
    assert remedy in text.partition("; ")[2]


async def test_a_password_that_is_corrected_in_the_file_opens_the_store(own: PostgresServer, tmp_path: Path) -> None:
    """As the error says."""
    file, schema = tmp_path / "uri", new_schema()
    file.write_text(f"postgresql://me:{OTHER}@127.0.0.1:{own.port}/postgres")
    owner = Owner(AddressFile(file), schema)
    await owner.store.open()
    assert "give the user's present password" in owner.store.problem
    file.write_text(f"postgresql://me:{SECRET}@127.0.0.1:{own.port}/postgres")
    await owner.until_open()
    await owner.store.close()
    own.drop(schema)


@pytest.mark.parametrize("exists", ["nothing", "the schema", "the tables"])
async def test_a_user_without_rights_on_the_schema_reads_how_to_grant_them(own: PostgresServer, exists: str) -> None:
    schema = new_schema()
    if exists == "the schema":
        own.sql(f"CREATE SCHEMA {schema}")
    elif exists == "the tables":
        await (await Owner(Address(own.url), schema).open()).store.close()
        own.sql(f"GRANT USAGE ON SCHEMA {schema} TO plain")
    address = Address(f"postgresql://plain@127.0.0.1:{own.port}/postgres")
    text = await problem(address, schema)
    assert text.startswith(f"--postgres-schema {schema}: PostgreSQL: permission denied for ")
    assert f"CREATE SCHEMA {schema} AUTHORIZATION" in text
    own.drop(schema)
    own.sql(f"CREATE SCHEMA {schema} AUTHORIZATION plain")
    await (await Owner(address, schema).open()).store.close()
    own.drop(schema)


async def test_a_check_by_a_user_who_may_not_read_names_the_rights_that_are_enough(own: PostgresServer) -> None:
    schema = new_schema()
    await (await Owner(Address(own.url), schema).open()).store.close()
    own.sql(f"GRANT USAGE ON SCHEMA {schema} TO plain")
    address = Address(f"postgresql://plain@127.0.0.1:{own.port}/postgres")
    with pytest.raises(StoreFailed, match="grant the user USAGE on the schema, and SELECT on all tables in it"):
        await check_tables(address, schema, print)
    own.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO plain")
    assert not (await check_tables(address, schema, print)).problems
    own.drop(schema)


async def test_a_host_that_refuses_connections_names_the_flag_and_what_to_do() -> None:
    text = await problem(Address(f"postgresql://me:{SECRET}@127.0.0.1:1/shop"))
    assert text.startswith("--postgres: PostgreSQL at 127.0.0.1:1/shop cannot be reached: ")
    assert "check the host and the port" in text
    text = await problem(Address(f"postgresql://me:{SECRET}@no-such-host.invalid/shop"))
    assert text.startswith("--postgres: PostgreSQL at no-such-host.invalid/shop cannot be reached: ")


async def test_several_hosts_that_refuse_for_the_same_reason_give_one_remedy(own: PostgresServer) -> None:
    with Relay(own.port) as relay:
        hosts = f"127.0.0.1:{own.port},{relay.address}"
        text = await problem(Address(f"postgresql://me:{OTHER}@{hosts}/postgres"))
    assert text.count("password authentication failed") == 1
    assert text.endswith("; give the user's present password")


async def test_a_server_that_is_too_old_names_the_flag_and_the_oldest_version(own: PostgresServer) -> None:
    with Relay(own.port) as relay:
        version = int(own.sql("SHOW server_version_num"))
        relay.replaced = version.to_bytes(4, "big"), (130_020).to_bytes(4, "big")
        text = await problem(Address(f"postgresql://postgres@{relay.address}/postgres?sslmode=disable"))
    assert text == "--postgres: PostgreSQL 13 is too old; use 14 or newer"


async def test_tls_that_the_database_does_not_have_names_the_flag_and_what_to_do(own: PostgresServer) -> None:
    text = await problem(Address(f"{own.url}?sslmode=require"))
    assert text.startswith(f"--postgres: PostgreSQL at 127.0.0.1:{own.port}/postgres accepts no TLS; turn TLS on")


@pytest.mark.parametrize(
    ("authority", "name", "wrong", "remedy"),
    [
        ("theirs", "localhost", "certificate verify failed", "give the authority of the certificate with sslrootcert"),
        ("ours", "db.shop.svc", "ostname mismatch", "use a host name of the certificate"),
        ("missing", "localhost", "No such file", "check the files of sslrootcert"),
        ("empty", "localhost", "", "check sslmode, sslrootcert"),
    ],
)
async def test_a_certificate_that_cannot_be_verified_names_the_flag_and_what_to_do(  # noqa: PLR0917  # the columns of the table
    own: PostgresServer, tmp_path: Path, authority: str, name: str, wrong: str, remedy: str
) -> None:
    ours = trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ours.crt")
    trustme.CA().cert_pem.write_to_path(tmp_path / "theirs.crt")
    (tmp_path / "empty.crt").touch()
    with TlsFront(own.port, ours, name) as front:
        options = f"sslmode=verify-full&sslrootcert={tmp_path / authority}.crt"
        text = await problem(Address(f"postgresql://postgres:{SECRET}@localhost:{front.port}/postgres?{options}"))
    assert text.startswith("--postgres: ")
    assert wrong in text
    assert remedy in text


@contextmanager
def search_path(own: PostgresServer, schema: str) -> Iterator[None]:
    """Have all sessions of the usual user begin with a search path, as if their own had not been dropped."""
    own.sql(f"ALTER ROLE postgres SET search_path = {schema}")
    try:
        yield
    finally:
        own.sql("ALTER ROLE postgres RESET search_path")


DROPPED = {
    "ignore_startup_parameters": "search_path,synchronous_commit,jit,idle_in_transaction_session_timeout,"
    "tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,enable_seqscan,enable_hashjoin,"
    "enable_mergejoin,extra_float_digits"
}

needs_pgbouncer = pytest.mark.skipif(bool(why_not()), reason=why_not() or "")


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "statement", "session"])
@pytest.mark.parametrize("dropped", [{}, DROPPED], ids=["settings refused", "settings dropped"])
async def test_a_pooler_that_does_not_pass_settings_of_the_session_on_is_refused(
    own: PostgresServer, mode: str, dropped: dict[str, str]
) -> None:
    with Pgbouncer(own, pool_mode=mode, **dropped) as pooler:
        text = await problem(Address(pooler.url))
    assert text.startswith("--postgres: ")
    assert "a pooler such as pgbouncer is in between; connect to PostgreSQL itself" in text


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_whose_connections_share_sessions_is_refused(own: PostgresServer, mode: str) -> None:
    """Even if all sessions have the right settings."""
    schema = new_schema()
    with Pgbouncer(own, pool_mode=mode, **DROPPED) as pooler, search_path(own, schema):
        text = await problem(Address(pooler.url), schema)
    assert text.startswith("--postgres: ")
    assert "a pooler such as pgbouncer is in between; connect to PostgreSQL itself" in text
    assert own.sql(f"SELECT to_regnamespace('{schema}') IS NULL") == "t", "it has created nothing"


@needs_pgbouncer
async def test_a_pooler_that_gives_each_connection_a_session_can_be_used(own: PostgresServer) -> None:
    schema = new_schema()
    with Pgbouncer(own, pool_mode="session", **DROPPED) as pooler, search_path(own, schema):
        owner = await Owner(Address(pooler.url), schema).open()
        await owner.make_queue()
        assert await owner.add(3) == await owner.stored()
        await owner.store.close()
    own.drop(schema)
