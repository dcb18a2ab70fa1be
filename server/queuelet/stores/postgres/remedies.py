"""What users can do about a database that cannot be opened: which setting is wrong, and how to mend it.

An error of the database is recognized by its SQLSTATE, and one of the connection by a code below. Some SQLSTATEs have
several causes, which only a part of the text tells apart.
"""

from __future__ import annotations

from queuelet.stores.postgres.address import Address, AddressFile

UNREACHABLE = "unreachable"
"""The code for a host that cannot be found, or refuses connections."""

NO_FILE = "no-file"
"""The code for a file that cannot be read: that of a socket, or one of TLS. The driver does not say which."""

TLS_REFUSED = "tls-refused"
"""The code for a database without TLS, if the connection string asks for it."""

TLS_UNTRUSTED = "tls-untrusted"
"""The code for a certificate that cannot be verified, or TLS settings that cannot be used."""

POOLED = "pooled"
"""The code for a connection that shares sessions with others, as in the transaction mode of pgbouncer."""

NOT_PREPARED = frozenset({"26000", "42P05"})
"""The SQLSTATEs for a prepared statement that does not exist, or exists already: that of another connection."""

_POOLER = (
    "a pooler such as pgbouncer is in between; connect to PostgreSQL itself, such as to the -rw Service of "
    "CloudNativePG, because prepared statements and settings of the session must last"
)

_NO_RIGHTS = "42501"

_REMEDIES: tuple[tuple[str, str, str], ...] = (
    ("28P01", "", "give the user's present password"),
    ("08P01", "password", "give the user's password"),
    ("08P01", "startup parameter", _POOLER),
    ("08003", "pooling mode", _POOLER),
    ("28000", "no encryption", "use sslmode=require, or allow connections without TLS in pg_hba.conf"),
    ("28000", "pg_hba.conf", "allow the user and this machine's address in pg_hba.conf"),
    ("28000", "does not exist", "create the user, or name another one in the connection string"),
    ("28000", "certificate", "give a client certificate with sslcert and sslkey"),
    ("28000", "", "give a user who may log in"),
    ("3D000", "", "create the database, or name another one in the connection string"),
    (_NO_RIGHTS, "CONNECT privilege", "grant the user CONNECT on the database"),
    (
        "53300",
        "",
        "raise max_connections of the database, or the connection limit of the user: the server needs five connections",
    ),
    (UNREACHABLE, "", "check the host and the port, and that PostgreSQL runs there"),
    (NO_FILE, "", "check the files of sslrootcert, sslcert and sslkey, and the folder of the socket if host is one"),
    (TLS_REFUSED, "", "turn TLS on in PostgreSQL (ssl = on), or use sslmode=prefer if you trust the network"),
    (TLS_UNTRUSTED, "ostname mismatch", "use a host name of the certificate"),
    (TLS_UNTRUSTED, "certificate verify failed", "give the authority of the certificate with sslrootcert"),
    (TLS_UNTRUSTED, "", "check sslmode, sslrootcert, sslcert and sslkey, or the environment variables for them"),
    (POOLED, "", _POOLER),
    *((code, "", _POOLER) for code in sorted(NOT_PREPARED)),
)
"""Code, part of the text, and what to do. The first that matches counts."""


def explained(text: str, code: str, address: Address | AddressFile, schema: str, *, reads_only: bool = False) -> str:
    """Return an error text with the setting to change and what to do, or unchanged if no setting is at fault.

    Args:
        text: the error, without secrets.
        code: the code of a `DatabaseError`.
        address: where the database is.
        schema: the schema of the tables.
        reads_only: whether the right to read the tables is enough.
    """
    for known, part, remedy in _REMEDIES:
        if known == code and part in text:
            return f"{field_of(address)}: {text}; {remedy}"
    if code != _NO_RIGHTS:
        return text
    remedy = (
        "grant the user USAGE on the schema, and SELECT on all tables in it"
        if reads_only
        else f"make the user the owner of the schema and of its tables: for a new one, CREATE SCHEMA {schema} "
        "AUTHORIZATION and the user's name"
    )
    return f"--postgres-schema {schema}: {text}; {remedy}"


def field_of(address: Address | AddressFile) -> str:
    """Return the flag that an address was given by, and its file."""
    return f"--postgres-file {address.path}" if isinstance(address, AddressFile) else "--postgres"
