"""Limits the memory that incomplete requests take.

A transport has no limit for all streams together: each one may buffer an incomplete message of the largest size. The
native transport says how much its connections hold. For the gRPC library, this module estimates that from outside: a
connection holds the bytes received on it, minus the requests handed to a handler, plus a fixed amount for each open
call. If all connections together hold more than the limit, the server cuts the largest connection of the address that
holds the most. A client whose requests arrive completely holds almost nothing, so it is not cut because of others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

import structlog

from queuelet.core.budget import MemoryBudget
from queuelet.server import sockets
from queuelet.server.memory import anonymous_bytes
from queuelet.server.sockets import Connection, Peer

log = structlog.get_logger()

CALL_BYTES = 16 * 1024
"""Memory of an open call in gRPC and in this process, in bytes; measured with 20,000 calls that send nothing."""

_MESSAGE_BYTES = 128
"""Bytes received for each request or response in addition to the request: frames, headers, window updates.

This is more than the real number, because otherwise a connection that lives long would seem to hold more and more.
"""

_EVERY = 1.0
"""Seconds between checks of all connections."""

_GROWTH = 8 * 1024 * 1024
"""If memory has grown by this many bytes since the last check, the next one runs at once."""


_CROWDED = 0.9
_UNCROWDED = 0.8
"""Above the first share of the allowed connections, idle ones are cut until the second share is left."""


class Flow:
    """The bytes of one connection."""

    __slots__ = ("calls", "handed_over", "held", "overhead_correction", "peer", "unguarded")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.calls = 0
        """Open calls."""
        self.unguarded = 0
        """Open streams among them that need no token."""
        self.handed_over = 0
        """Bytes of complete requests, with the overhead of each."""
        self.overhead_correction = 0
        """Correction for `handed_over`, which overestimates the overhead; 0 or less."""
        self.held = 0
        """Estimate of the bytes it holds, made by `update`."""

    def complete(self, size: int) -> None:
        """Count a complete request."""
        self.handed_over += size + _MESSAGE_BYTES

    def sent(self) -> None:
        """Count a response, because the peer acknowledges it with a frame."""
        self.handed_over += _MESSAGE_BYTES

    def update(self, received: int) -> None:
        """Estimate the bytes it holds from the total received."""
        unfinished = received - self.overhead_correction - self.handed_over
        if unfinished < 0:
            self.overhead_correction += unfinished
            unfinished = 0
        self.held = unfinished + self.calls * CALL_BYTES


def excess(flows: Iterable[Flow], bound: int) -> list[Flow]:
    """Return the flows to cut so that the rest hold at most `bound` bytes.

    Each one is the largest of the address that holds the most at that point.
    """
    by_host: dict[str, list[Flow]] = {}
    for flow in flows:
        by_host.setdefault(flow.peer.host, []).append(flow)
    held = {host: sum(flow.held for flow in of_host) for host, of_host in by_host.items()}
    for of_host in by_host.values():
        of_host.sort(key=lambda flow: flow.held)
    chosen: list[Flow] = []
    total = sum(held.values())
    while total > bound:
        host = max(held, key=held.__getitem__)
        flow = by_host[host].pop()
        chosen.append(flow)
        held[host] -= flow.held
        total -= flow.held
    return chosen


def idle_ones(flows: Iterable[Flow], most: int) -> list[Flow]:
    """Return the idle connections to cut if nearly `most` are open; idle means without open calls.

    They are of the address with the most connections; those that never sent a complete request come first.
    """
    by_host: dict[str, list[Flow]] = {}
    total = 0
    for flow in flows:
        by_host.setdefault(flow.peer.host, []).append(flow)
        total += 1
    if total <= most * _CROWDED:
        return []
    of_host = max(by_host.values(), key=len)
    idle = sorted((flow for flow in of_host if not flow.calls), key=lambda flow: flow.handed_over > 0)
    return idle[: math.ceil(total - most * _UNCROWDED)]


class IncomingLimit:
    """The flows of all connections to a port."""

    def __init__(self, budget: MemoryBudget, bound: int, most_connections: int) -> None:
        """Make it for a port without connections.

        Args:
            budget: where the bytes held are reported.
            bound: the most bytes that all connections may hold.
            most_connections: the most connections that gRPC accepts.
        """
        self._budget = budget
        self._bound = bound
        self._most_connections = most_connections
        self._by_name: dict[str, Flow] = {}
        self._by_peer: dict[Peer, Flow] = {}
        self._port = 0
        self._opened: Callable[[int], Iterable[Connection]] = sockets.connections
        self._cut_one: Callable[[Connection, int], bool] = sockets.cut
        self._next_check = 0.0
        self._memory = 0
        self.connections = 0
        """Open connections, as of the last check."""
        self.cut = 0
        """Connections cut so far."""
        self.timed_out = 0
        """Calls cancelled because their request was not complete in time."""

    @property
    def held(self) -> int:
        """Estimate of the bytes that all connections hold, as of the last check."""
        return self._budget.incoming

    @property
    def most_calls(self) -> int:
        """The most open calls of a single connection; gRPC enforces the limit."""
        return max((flow.calls for flow in self._by_peer.values()), default=0)

    def listen(
        self,
        port: int,
        opened: Callable[[int], Iterable[Connection]] = sockets.connections,
        cut: Callable[[Connection, int], bool] = sockets.cut,
    ) -> None:
        """Set the port whose connections are checked, and how to find and to cut its connections."""
        self._port = port
        self._opened = opened
        self._cut_one = cut

    def flow(self, peer: str) -> Flow:
        """Return the flow of a connection by gRPC's name for its peer."""
        return self._by_name.get(peer) or self._new_flow(peer)

    def check(self) -> None:
        """Check all connections if a check is due, and cut those that hold too much."""
        memory = anonymous_bytes()
        if monotonic() < self._next_check and memory < self._memory + _GROWTH:
            return
        self.check_now()
        self._memory = memory
        self._next_check = monotonic() + _EVERY

    def check_now(self) -> None:
        """Check all connections, and cut those that hold too much."""
        seen = {connection.peer: connection for connection in self._opened(self._port)}
        for connection in seen.values():
            self._at(connection.peer).update(connection.received)
        self._forget(seen)
        self.connections = len(seen)
        self._cut(excess(self._by_peer.values(), self._bound), "connections cut, because they held too much", seen)
        idle = idle_ones([flow for flow in self._by_peer.values() if flow.peer in seen], self._most_connections)
        self._cut(idle, "idle connections cut, because nearly too many are open", seen)
        self._budget.incoming = sum(flow.held for flow in self._by_peer.values())

    def _cut(self, chosen: Iterable[Flow], why: str, seen: Mapping[Peer, Connection]) -> None:
        """Cut connections, and log one line for each address."""
        by_host: dict[str, list[Flow]] = {}
        for flow in chosen:
            if flow.peer in seen and self._cut_one(seen[flow.peer], self._port):
                by_host.setdefault(flow.peer.host, []).append(flow)
        for host, flows in by_host.items():
            self.cut += len(flows)
            log.warning(
                why,
                remote=host,
                cut=len(flows),
                held_bytes=sum(flow.held for flow in flows),
                open_calls=sum(flow.calls for flow in flows),
                connections=len(seen),
            )

    def _new_flow(self, peer: str) -> Flow:
        flow = self._by_name[peer] = self._at(sockets.peer_of(peer))
        return flow

    def _at(self, peer: Peer) -> Flow:
        flow = self._by_peer.get(peer)
        if flow is None:
            flow = self._by_peer[peer] = Flow(peer)
        return flow

    def _forget(self, seen: Iterable[Peer]) -> None:
        """Forget closed connections. If the system does not list connections, forget those without open calls."""
        for peer in self._by_peer.keys() - set(seen):
            flow = self._by_peer[peer]
            flow.held = flow.calls * CALL_BYTES
            if not flow.calls:
                del self._by_peer[peer]
        self._by_name = {name: flow for name, flow in self._by_name.items() if flow.peer in self._by_peer}
