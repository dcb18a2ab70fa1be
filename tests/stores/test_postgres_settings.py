"""Where the database is, how durable it is, and whether it went back in time: decided without a database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from queuelet.errors import StoreFailed
from queuelet.stores.postgres.address import Address, AddressFile
from queuelet.stores.postgres.durability import Durability
from queuelet.stores.postgres.owner import is_older
from queuelet.stores.postgres.schema import checked_schema

SECRET = "s3cr%40t%2F"
URL = f"postgresql://me:{SECRET}@first:5432,second:5433/shop?sslmode=verify-full"


def test_what_is_shown_of_a_connection_string_has_no_password() -> None:
    address = Address(URL)
    assert address.shown == "first:5432,second:5433/shop"
    assert SECRET not in repr(address)
    text = address.without_secrets(f"cannot connect to {URL} with s3cr@t/ or {SECRET}")
    assert SECRET not in text
    assert "s3cr@t/" not in text
    in_query = Address("postgresql://db/shop?user=me&password=other%20secret")
    assert in_query.without_secrets("password other secret is wrong") == "password *** is wrong"
    assert in_query.shown == "db/shop"


def test_a_connection_string_without_a_password_hides_nothing() -> None:
    address = Address("postgresql:///shop?host=/run/postgresql")
    assert address.shown == "localhost/shop"
    assert address.without_secrets("role me does not exist") == "role me does not exist"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop",
        "mysql://me:secret@db/shop",
        "postgresql://me:secret@db:port/shop",
        "postgresql://me:1/secret@db/shop",
    ],
)
def test_what_is_no_connection_string_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"must begin with postgresql://|is not a valid URL") as refused:
        Address(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe secret", "is not text"),
        (b"mysql://me:secret@db/shop", "must begin with postgresql://"),
    ],
)
def test_a_file_without_a_connection_string_is_refused_without_showing_it(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "uri"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StoreFailed, match=why) as refused:
        AddressFile(file).read()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "Shop", "a-b", "a;b", "pg_shop", "1a", "a" * 64])
def test_the_name_of_a_schema_never_has_to_be_quoted(name: str) -> None:
    with pytest.raises(ValueError, match="use lower-case letters"):
        checked_schema(name)
    assert checked_schema("shop_2") == "shop_2"


SAFE = Durability(fsync="on", full_page_writes="on", synchronous_commit="on", standbys="", version=180_004)


@pytest.mark.parametrize(
    ("commit", "standbys", "is_replicated"),
    [
        ("on", "", False),
        ("on", " ", False),
        ("on", "ANY 1 (a, b)", True),
        ("remote_apply", "a", True),
        ("remote_write", "a", False),
        ("local", "a", False),
    ],
)
def test_a_commit_is_replicated_if_it_waits_until_a_standby_has_synced_it(
    commit: str,
    standbys: str,
    is_replicated: bool,  # noqa: FBT001  # pytest passes it by name
) -> None:
    assert replace(SAFE, synchronous_commit=commit, standbys=standbys).is_replicated is is_replicated


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"fsync": "off"}, "fsync: off is not allowed"),
        ({"full_page_writes": "off"}, "full_page_writes: off is not allowed"),
        ({"synchronous_commit": "off"}, "synchronous_commit: off is not allowed"),
        ({"version": 130_020}, "PostgreSQL 13 is too old; use 14 or newer"),
    ],
)
def test_a_database_that_may_lose_commits_is_refused(changed: dict[str, str], why: str) -> None:
    SAFE.check()
    with pytest.raises(StoreFailed, match=why):
        replace(SAFE, **changed).check()  # type: ignore[arg-type]  # fields of both types


@pytest.mark.parametrize(
    ("commits", "known", "is_promoted", "was_replicated", "expected"),
    [
        (5, 5, False, False, False),
        (7, 5, False, False, False),  # another server has committed
        (4, 5, False, False, True),
        (4, 5, True, True, True),
        (5, 5, True, True, False),  # a failover that loses nothing
        (5, 5, True, False, True),
        (5, 0, True, False, True),
        (5, 0, False, False, False),
    ],
)
def test_a_database_is_older_if_it_lacks_commits_or_may_lack_some(
    *, commits: int, known: int, is_promoted: bool, was_replicated: bool, expected: bool
) -> None:
    assert is_older(commits=commits, known=known, is_promoted=is_promoted, was_replicated=was_replicated) is expected
