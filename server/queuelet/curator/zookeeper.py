"""A ZooKeeper session for Curator's queues. The only module that uses kazoo.

Error texts name the flags of `queuelet import-curator`.
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

CONNECT_TIMEOUT = 5.0
"""How long to try one server, in seconds, before trying the next one."""

CLOSE_TIMEOUT = 1.0
"""How long ZooKeeper may take to close a session, in seconds."""


class Refused(QueueletError):
    """ZooKeeper refuses an operation."""


class ZooKeeper:
    """A session with an ensemble, for the nodes of one queue. Use it in `with`.

    Every method raises `Unreachable` if the connection is lost, and `Refused` if ZooKeeper refuses the operation.
    """

    def __init__(self, hosts: str, path: str, *, credentials: str = "", timeout: float | None) -> None:
        """Set up a session with `hosts`, which is `host:port,host:port/chroot`.

        The credentials are `user:password` of ZooKeeper's digest scheme. The timeout, in seconds, is for connecting and
        for each response; None is unlimited. Raises ValueError if `hosts` or the path is not valid.
        """
        try:
            self._servers, chroot = collect_hosts(hosts)
        except ValueError as error:
            raise ValueError(f"--zookeeper: {hosts!r} is not valid; write host:port,host:port") from error
        self._hosts = hosts.partition("/")[0]
        self._chroot = (chroot or "").rstrip("/")
        self.path = self._absolute("PATH", path)
        """The path of the queue from the root of ZooKeeper."""
        self._lock_path = ""
        self._timeout = timeout
        self._client: Any = KazooClient(
            self._hosts, auth_data=[("digest", credentials)] if credentials else None, logger=_silent()
        )

    def _absolute(self, what: str, path: str) -> str:
        """Return a path from the root of ZooKeeper."""
        parts = path.split("/")
        if not path.startswith("/") or path == "/" or not all(parts[1:]) or {".", ".."} & set(parts):
            raise ValueError(
                f"{what}: {path!r} is not the path of a node; write it from the root, as in /queues/orders"
            )
        return self._chroot + path

    def __enter__(self) -> Self:
        self._check_reachable()
        # Not `start`, which waits another ten seconds if ZooKeeper does not respond.
        if not self._client.start_async().wait(self._timeout):
            self._close()
            raise Unreachable(_silence(self._hosts))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session, which releases all locks."""
        self._close()

    def _check_reachable(self) -> None:
        """Open and close a connection, because kazoo would retry until the timeout without a reason."""
        reasons: list[str] = []
        for host, port in self._servers:
            try:
                socket.create_connection((host, port), min(CONNECT_TIMEOUT, self._timeout or CONNECT_TIMEOUT)).close()
            except OSError as error:
                reasons.append(f"{host}:{port}: {error.strerror or error}")
            else:
                return
        raise Unreachable(f"cannot reach ZooKeeper ({'; '.join(reasons)}); give its servers with --zookeeper")

    def _close(self) -> None:
        """Close the session, without waiting for kazoo if ZooKeeper does not respond: the session expires by itself."""
        closing = threading.Thread(target=self._stop, daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT)

    def _stop(self) -> None:
        with suppress(KazooException, OSError):
            self._client.stop()
            self._client.close()

    # Reading the queue

    def children(self) -> list[str]:
        """Return the names of all nodes of the queue."""
        return self._children(self.path, "give the path that the queue was built with")

    def use_locks(self, path: str) -> None:
        """Set the path under which consumers lock nodes."""
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
                raise Refused(f"ZooKeeper does not allow you to list {path}; give --zookeeper-auth-file") from None
        return names

    # The methods of `transfer.Source`

    def lock(self, nodes: Sequence[str]) -> list[bool]:
        """Lock nodes as Curator's consumers do. Return for each whether it is locked for us now."""
        requests = [self._client.create_async(f"{self._lock_path}/{node}", ephemeral=True) for node in nodes]
        responses = self._responses(requests, {NodeExistsError: "locked", NoAuthError: "no right"})
        if "no right" in responses:
            raise Refused(f"ZooKeeper does not allow you to lock under {self._lock_path}; give --zookeeper-auth-file")
        return [response != "locked" for response in responses]

    def unlock(self, nodes: Sequence[str]) -> None:
        """Release our locks."""
        requests = [self._client.delete_async(f"{self._lock_path}/{node}") for node in nodes]
        self._responses(requests, {NoNodeError: ""})

    def read(self, names: Sequence[Name]) -> list[Node | str | None]:
        """Read nodes. Return each one, or why it cannot be read, or None if it no longer exists."""
        requests = [self._client.get_async(f"{self.path}/{name.node}") for name in names]
        responses = self._responses(
            requests, {NoNodeError: None, NoAuthError: "ZooKeeper does not allow you to read it"}
        )
        return [
            _node(name, *response) if isinstance(response, tuple) else response
            for name, response in zip(names, responses, strict=True)
        ]

    def remove(self, nodes: Sequence[Node]) -> list[str | None]:
        """Remove nodes that have not changed since they were read. Return for each None, or why it was not removed."""
        requests = [self._client.delete_async(f"{self.path}/{node.name.node}", node.version) for node in nodes]
        reasons = {
            NoNodeError: "a consumer took it meanwhile, so they may be processed twice",
            BadVersionError: "the node was changed meanwhile, so it was not removed",
            NotEmptyError: "the node has children, so it was not removed",
            NoAuthError: "ZooKeeper does not allow you to remove the node",
        }
        return [response if isinstance(response, str) else None for response in self._responses(requests, reasons)]

    def _responses(self, requests: Sequence[Any], expected: Mapping[type[ZookeeperError], str | None]) -> list[Any]:
        """Return the responses, and for each expected error its text.

        Many requests are in flight at once, and ZooKeeper responds in order.
        """
        responses: list[Any] = []
        with _explained(self._hosts):
            for each in requests:
                try:
                    responses.append(each.get(timeout=self._timeout))
                except tuple(expected) as error:
                    responses.append(expected[type(error)])
        return responses


def _node(name: Name, data: bytes | None, stat: Any) -> Node:  # noqa: ANN401  # kazoo has no types
    # The content may be null, which kazoo returns as None.
    return Node(name=name, data=data or b"", created=stat.czxid, created_at=stat.ctime, version=stat.version)


@contextmanager
def _explained(hosts: str) -> Iterator[None]:
    """Translate kazoo's errors to ours."""
    try:
        yield
    except KazooTimeoutError:
        raise Unreachable(_silence(hosts)) from None
    except KazooException as error:
        what = str(error) or type(error).__name__
        raise Unreachable(f"the connection to ZooKeeper at {hosts} was lost ({what})") from error


def _silence(hosts: str) -> str:
    return f"ZooKeeper at {hosts} did not respond within --timeout"


def _silent() -> logging.Logger:
    """Return a logger without output, because errors are raised instead."""
    logger = logging.getLogger("queuelet.curator.kazoo")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
