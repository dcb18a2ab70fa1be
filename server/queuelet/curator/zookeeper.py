"""ZooKeeper, as far as queues of Curator need it. The only module that knows kazoo.

What it refuses names the flag of `queuelet import-curator` that is to be changed.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    ZookeeperError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.hosts import collect_hosts

from queuelet.curator.messages import Node
from queuelet.curator.names import Name
from queuelet.errors import QueueletError, Unreachable

KNOCK = 5.0
"""How long one server may take to open a connection, in seconds, before the next is tried."""

GOODBYE = 1.0
"""How long ZooKeeper may take to end a session, in seconds."""


class Refused(QueueletError):
    """ZooKeeper does not do what was asked for."""


class ZooKeeper:
    """A session with an ensemble, and the nodes of one queue there. Use it in `with`.

    Every method raises `Unreachable` where the connection is lost, and `Refused` where ZooKeeper says no.
    """

    def __init__(self, hosts: str, path: str, *, credentials: str = "", timeout: float | None) -> None:
        """Take `host:port,host:port/chroot`, the path of the queue, and `user:password` of ZooKeeper's digest scheme.

        The timeout is in seconds, for connecting and for each answer; None is for ever. Raises ValueError if `hosts`
        or the path can't be read.
        """
        try:
            self._servers, chroot = collect_hosts(hosts)
        except ValueError as error:
            raise ValueError(f"--zookeeper: cannot read {hosts!r}: write host:port,host:port") from error
        self._hosts = hosts.partition("/")[0]
        self._chroot = (chroot or "").rstrip("/")
        self.path = self._absolute("PATH", path)
        """The path of the queue from ZooKeeper's very root."""
        self._lock_path = ""
        self._timeout = timeout
        self._client: Any = KazooClient(
            self._hosts, auth_data=[("digest", credentials)] if credentials else None, logger=_silent()
        )

    def _absolute(self, what: str, path: str) -> str:
        """Return a path from ZooKeeper's very root."""
        parts = path.split("/")
        if not path.startswith("/") or path == "/" or not all(parts[1:]) or {".", ".."} & set(parts):
            raise ValueError(f"{what}: {path!r} is not a path of a node; write it from the root, as in /queues/orders")
        return self._chroot + path

    def __enter__(self) -> Self:
        """Connect."""
        self._knock()
        # Not `start`, which waits another ten seconds where nothing answers.
        if not self._client.start_async().wait(self._timeout):
            self._close()
            raise Unreachable(_silence(self._hosts))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session, and with it all locks."""
        self._close()

    def _knock(self) -> None:
        """Open and close a connection: kazoo would try until the timeout, and not say what is wrong."""
        reasons: list[str] = []
        for host, port in self._servers:
            try:
                socket.create_connection((host, port), min(KNOCK, self._timeout or KNOCK)).close()
            except OSError as error:
                reasons.append(f"{host}:{port}: {error.strerror or error}")
            else:
                return
        raise Unreachable(f"cannot reach ZooKeeper ({'; '.join(reasons)}); give its servers with --zookeeper")

    def _close(self) -> None:
        """End the session. Where nothing answers, kazoo would wait ten seconds for it, and ZooKeeper ends it alone."""
        closing = threading.Thread(target=self._stop, daemon=True)
        closing.start()
        closing.join(GOODBYE)

    def _stop(self) -> None:
        with suppress(KazooException, OSError):
            self._client.stop()
            self._client.close()

    # What there is

    def children(self) -> list[str]:
        """Return the names of all nodes of the queue."""
        return self._children(self.path, "give the path that the queue was built with")

    def use_locks(self, path: str) -> None:
        """Take the path under which consumers lock nodes."""
        self._lock_path = self._absolute("--lock-path", path)
        self.locked()

    def locked(self) -> set[str]:
        """Return the names of nodes that are locked now."""
        advice = "give --lock-path as the consumers were built with"
        return set(self._children(self._lock_path, advice)) if self._lock_path else set()

    def _children(self, path: str, advice: str) -> list[str]:
        with _explained(self._hosts):
            try:
                names: list[str] = self._client.get_children_async(path).get(timeout=self._timeout)
            except NoNodeError:
                raise Refused(f"ZooKeeper at {self._hosts} has no node {path}; {advice}") from None
            except NoAuthError:
                raise Refused(f"ZooKeeper lets you not list {path}; give --zookeeper-auth-file") from None
        return names

    # What `transfer.Source` asks for

    def lock(self, nodes: Sequence[str]) -> list[bool]:
        """Lock nodes as Curator's consumers do; tell of each whether it is ours now."""
        asked = [self._client.create_async(f"{self._lock_path}/{node}", ephemeral=True) for node in nodes]
        answers = self._answers(asked, {NodeExistsError: "locked", NoAuthError: "no right"})
        if "no right" in answers:
            raise Refused(f"ZooKeeper lets you not lock under {self._lock_path}; give --zookeeper-auth-file")
        return [answer != "locked" for answer in answers]

    def unlock(self, nodes: Sequence[str]) -> None:
        """Give locks of ours back."""
        asked = [self._client.delete_async(f"{self._lock_path}/{node}") for node in nodes]
        self._answers(asked, {NoNodeError: ""})

    def read(self, names: Sequence[Name]) -> list[Node | str | None]:
        """Read nodes: each, or why it can't be read, or None if it is there no more."""
        asked = [self._client.get_async(f"{self.path}/{name.node}") for name in names]
        answers = self._answers(asked, {NoNodeError: None, NoAuthError: "ZooKeeper lets you not read it"})
        return [
            _node(name, *answer) if isinstance(answer, tuple) else answer
            for name, answer in zip(names, answers, strict=True)
        ]

    def remove(self, nodes: Sequence[Node]) -> list[str | None]:
        """Remove nodes that are still as they were read; of each that could not be removed say why."""
        asked = [self._client.delete_async(f"{self.path}/{node.name.node}", node.version) for node in nodes]
        reasons = {
            NoNodeError: "somebody else took it meanwhile, so that they may be worked on twice",
            BadVersionError: "somebody changed it meanwhile, so that it was not removed",
            NotEmptyError: "there are nodes under it, so that it was not removed",
            NoAuthError: "ZooKeeper lets you not remove it",
        }
        return [answer if isinstance(answer, str) else None for answer in self._answers(asked, reasons)]

    def _answers(self, asked: Sequence[Any], expected: Mapping[type[ZookeeperError], str | None]) -> list[Any]:
        """Return the answers, and for errors that are expected what is given for them.

        Many questions are under way at once, and ZooKeeper answers them in order.
        """
        answers: list[Any] = []
        with _explained(self._hosts):
            for each in asked:
                try:
                    answers.append(each.get(timeout=self._timeout))
                except tuple(expected) as error:
                    answers.append(expected[type(error)])
        return answers


def _node(name: Name, data: bytes | None, stat: Any) -> Node:  # noqa: ANN401  # kazoo's, which has no types
    # Java may store null, which is no bytes at all.
    return Node(name=name, data=data or b"", created=stat.czxid, created_at=stat.ctime, version=stat.version)


@contextmanager
def _explained(hosts: str) -> Iterator[None]:
    """Turn kazoo's errors into ours."""
    try:
        yield
    except KazooTimeoutError:
        raise Unreachable(_silence(hosts)) from None
    except KazooException as error:
        what = str(error) or type(error).__name__
        raise Unreachable(f"the connection to ZooKeeper at {hosts} was lost ({what})") from error


def _silence(hosts: str) -> str:
    return f"ZooKeeper at {hosts} does not answer within --timeout"


def _silent() -> logging.Logger:
    """Return a logger that says nothing: what goes wrong is raised."""
    logger = logging.getLogger("queuelet.curator.kazoo")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
