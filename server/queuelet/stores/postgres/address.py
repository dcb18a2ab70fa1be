"""Where the database is: a connection string of libpq, given as such or in a file that is read again and again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from queuelet.errors import StoreFailed

_MAX_BYTES = 16 * 1024
"""How many bytes of a file are read."""

_SCHEMES = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True)
class Address:
    """A connection string such as `postgresql://user:password@host/database`."""

    url: str

    def __post_init__(self) -> None:
        """Raise ValueError if it is not such a string. The error never contains a password."""
        try:
            parts = urlsplit(self.url)
            _ = parts.port if "," not in parts.netloc else None
            # A / or ? in a password that is not quoted ends the hosts early, so that its rest looks like a path.
            is_valid = "@" not in parts.path + parts.query + parts.fragment
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ValueError("is not a valid URL; quote special characters of the password with %")
        if parts.scheme not in _SCHEMES:
            raise ValueError("must begin with postgresql://, like postgresql://user:password@host/database")

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    @property
    def shown(self) -> str:
        """The hosts and the database, for logs and errors. It never contains a password."""
        parts = urlsplit(self.url)
        return f"{_hosts(parts) or 'localhost'}{parts.path}"

    def without_secrets(self, text: str) -> str:
        """Return a text without the password, which a driver might include in an error."""
        text = text.replace(self.url, self.shown)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def hosts(self) -> list[Address]:
        """Return an address for each of several hosts, in their order; this address if it has one host or none."""
        parts = urlsplit(self.url)
        _, at, hosts = parts.netloc.rpartition("@")
        if "," in hosts:
            return [Address(self.url.replace(f"{at}{hosts}", f"{at}{host}", 1)) for host in hosts.split(",")]
        query = dict(parse_qsl(parts.query))
        names = query.get("host", "").split(",")
        ports = query.get("port", "").split(",")
        if len(names) == 1 or len(ports) not in {1, len(names)}:
            return [self]
        head = self.url.partition("?")[0]
        each = [{**query, "host": name, "port": ports[index % len(ports)]} for index, name in enumerate(names)]
        return [Address(f"{head}?{urlencode({k: v for k, v in one.items() if v}, safe='/')}") for one in each]

    @property
    def has_password(self) -> bool:
        """Whether it contains a password."""
        return bool(self._secrets)

    @property
    def _secrets(self) -> list[str]:
        parts = urlsplit(self.url)
        password = parts.netloc.rpartition("@")[0].partition(":")[2]
        query = [value for key, value in parse_qsl(parts.query) if "password" in key]
        # The longest first, because one may contain another.
        return sorted({password, unquote(password), *query} - {""}, key=len, reverse=True)


@dataclass(frozen=True, slots=True)
class AddressFile:
    """A file with a connection string. It is read for each connection, because credentials are rotated."""

    path: Path

    def read(self) -> Address:
        """Return the address in the file. Raises `StoreFailed` if it cannot be read or has none."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_MAX_BYTES)
            return Address(content.decode().strip())
        except OSError as error:
            raise StoreFailed(f"the file {self.path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:  # whose text would show the content
            raise StoreFailed(f"the connection string in {self.path} is not text") from None
        except ValueError as error:
            raise StoreFailed(f"the connection string in {self.path} {error}") from None


def place_of(address: Address | AddressFile) -> str:
    """Return where the database is, without secrets."""
    return str(address.path) if isinstance(address, AddressFile) else address.shown


def _hosts(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
