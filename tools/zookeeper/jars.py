"""The jars of ZooKeeper and Curator from Maven Central, by SHA-256, fetched once per user."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tools.control_plane.binaries import cache
from tools.zookeeper.errors import ZooKeeperError

REPOSITORY = "https://repo1.maven.org/maven2"
"""The repository, unless $MAVEN_REPOSITORY names another."""

PATIENCE = 60.0
"""Seconds to wait for more bytes from a server."""


@dataclass(frozen=True, slots=True)
class Jar:
    """A jar: its Maven coordinates and its SHA-256."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file name."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Its path in a repository."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.file}"


JARS = (
    Jar(
        "org.apache.curator",
        "curator-recipes",
        "5.9.0",
        "2b384c256a8a30dfdff11763ec0fd56b6346e001afcb0c5ea972d5d0db1698bc",
    ),
    Jar(
        "org.apache.curator",
        "curator-framework",
        "5.9.0",
        "f8588d71d4b2d0b15ef5f911ceaac387563070cc328b91025047131d0c05733e",
    ),
    Jar(
        "org.apache.curator",
        "curator-client",
        "5.9.0",
        "9b1d65fa1940f77199ed097a8e586534efd1e9311227939a46a0e467a5f7991a",
    ),
    Jar(
        "org.apache.zookeeper",
        "zookeeper",
        "3.9.6",
        "09bdf93be7c0b5b7cd9fe51bee6abe424796cd5aaf75cf0c10bbd6f1273562ee",
    ),
    Jar(
        "org.apache.zookeeper",
        "zookeeper-jute",
        "3.9.6",
        "74f9cb1e4ba899ecc4b816201b4afd1c63c256705bd9176393fac4071597c75f",
    ),
    Jar("commons-io", "commons-io", "2.20.0", "df90bba0fe3cb586b7f164e78fe8f8f4da3f2dd5c27fa645f888100ccc25dd72"),
    Jar(
        "io.dropwizard.metrics",
        "metrics-core",
        "4.2.37",
        "3c70d19049d10f474ab803706b9c0677bcf5fd9e1afeb4f6c496f62e38b27678",
    ),
    Jar(
        "io.netty", "netty-common", "4.1.140.Final", "298e6c4ac1e01362c8be9db30728b8ab4c93e32fd5d916bbe15170df6321b97c"
    ),
    Jar(
        "io.netty", "netty-handler", "4.1.140.Final", "ed825f76a081de170ce6224f5a1807846db86236f4943394a7e7a1a379c41bf9"
    ),
    Jar("org.slf4j", "slf4j-api", "2.0.17", "7b751d952061954d5abfed7181c1f645d336091b679891591d63329c622eb832"),
    Jar("org.slf4j", "slf4j-simple", "2.0.17", "ddfea59ac074c6d3e24ac2c38622d2d963895e17f70b38ed4bdae4d780be6964"),
    Jar(
        "org.xerial.snappy",
        "snappy-java",
        "1.1.10.8",
        "50485d06037fea3d6e40c968386feeca6338cc9872e25549593ff3eb352cefcc",
    ),
)
"""Curator, ZooKeeper, and their dependencies that a server without TLS and a client load."""


def jars() -> list[Path]:
    """Return the paths of the jars, fetching those that are missing."""
    folder = cache() / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    return [_get(jar, folder) for jar in JARS]


def _get(jar: Jar, folder: Path) -> Path:
    # The folder is named for the SHA-256, so a jar of the same name with other content gets another folder.
    place = folder / jar.sha256[:16] / jar.file
    if not place.exists():
        data = _fetch(jar)
        found = hashlib.sha256(data).hexdigest()
        if found != jar.sha256:
            raise ZooKeeperError(f"{jar.path} has the SHA-256 {found} instead of {jar.sha256}; check the repository")
        place.parent.mkdir(exist_ok=True)
        # A rename is atomic, so two processes may fetch the same jar at once.
        with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
            file.write(data)
        Path(file.name).rename(place)
    return place


def _fetch(jar: Jar) -> bytes:
    url = f"{os.environ.get('MAVEN_REPOSITORY', REPOSITORY).rstrip('/')}/{jar.path}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            data: bytes = response.read()
    except OSError as error:
        raise ZooKeeperError(f"cannot fetch {url} ({error}); set MAVEN_REPOSITORY to a mirror that has it") from error
    return data
