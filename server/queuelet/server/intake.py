"""What callers make the server hold before their requests are complete, and how much of that is too much.

gRPC buffers what comes in and has no bound for all of it together: each stream may hold a message of the largest size
that is not complete yet. So this counts from outside. A connection holds what it has sent, less the requests that
were handed to a handler, and something for each call that is open. If all connections together hold more than the
bound, the one that holds most is cut, of the address that holds most. A caller whose requests arrive whole holds next
to nothing, so it is not cut for what others do.
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
"""What an open call takes in gRPC and here, in bytes; measured at 20,000 calls that say nothing."""

_MESSAGE_BYTES = 128
"""Bytes that come in with each request or response beside the request itself: frames, headers, window updates.

More than there are: a connection that is used for long must not come to look as if it held something.
"""

_EVERY = 1.0
"""How often connections are looked at, in seconds."""

_GROWTH = 8 * 1024 * 1024
"""Memory that has grown by so many bytes since then is a reason to look at once."""


_CROWDED = 0.9
_UNCROWDED = 0.8
"""Idle connections are cut from the first share of the most connections on, down to the second."""


class Flow:
    """What came in over one connection."""

    __slots__ = ("calls", "handed_over", "held", "peer", "spared")

    def __init__(self, peer: Peer) -> None:
        """Begin with nothing."""
        self.peer = peer
        self.calls = 0
        """Open calls."""
        self.handed_over = 0
        """Bytes of complete requests, with what comes beside them."""
        self.spared = 0
        """Bytes received that are known to be held no more."""
        self.held = 0
        """About how many bytes it holds; counted by `update`."""

    def complete(self, size: int) -> None:
        """Count a request that is complete."""
        self.handed_over += size + _MESSAGE_BYTES

    def sent(self) -> None:
        """Count a response, which the peer acknowledges."""
        self.handed_over += _MESSAGE_BYTES

    def update(self, received: int) -> None:
        """Count what it holds, by all it has received."""
        unfinished = received - self.spared - self.handed_over
        if unfinished < 0:
            self.spared += unfinished
            unfinished = 0
        self.held = unfinished + self.calls * CALL_BYTES


def excess(flows: Iterable[Flow], bound: int) -> list[Flow]:
    """Return what has to go so that the rest holds at most `bound` bytes: the largest of the largest address first."""
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
    """Return the connections without calls that have to make room for others, if nearly as many are open as may be.

    Of the address with the most connections, and first those that have not sent a complete request yet.
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


class Intake:
    """The flows of all connections to a port."""

    def __init__(self, budget: MemoryBudget, bound: int, most_connections: int) -> None:
        """Take the budget that counts what is held, and the most there may be: bytes held, and connections."""
        self._budget = budget
        self._bound = bound
        self._most_connections = most_connections
        self._by_name: dict[str, Flow] = {}
        self._by_peer: dict[Peer, Flow] = {}
        self._port = 0
        self._next_look = 0.0
        self._memory = 0
        self.connections = 0
        """Connections that are open, as of the last look."""
        self.cut = 0
        """Connections that were cut."""
        self.timed_out = 0
        """Calls that were ended because their request did not arrive whole in time."""

    @property
    def held(self) -> int:
        """About how many bytes all connections hold, as of the last look."""
        return self._budget.incoming

    @property
    def most_calls(self) -> int:
        """The open calls of the connection that has most, which gRPC bounds by itself."""
        return max((flow.calls for flow in self._by_peer.values()), default=0)

    def listen(self, port: int) -> None:
        """Note the port whose connections these are."""
        self._port = port

    def flow(self, peer: str) -> Flow:
        """Return the flow of a connection, by what gRPC calls its peer."""
        return self._by_name.get(peer) or self._new_flow(peer)

    def look(self) -> None:
        """Look at all connections if it is time to, and cut those that hold too much."""
        memory = anonymous_bytes()
        if monotonic() < self._next_look and memory < self._memory + _GROWTH:
            return
        self.look_now()
        self._memory = memory
        self._next_look = monotonic() + _EVERY

    def look_now(
        self,
        opened: Callable[[int], Iterable[Connection]] = sockets.connections,
        cut: Callable[[Connection, int], bool] = sockets.cut,
    ) -> None:
        """Look at all connections, and cut those that hold too much."""
        seen = {connection.peer: connection for connection in opened(self._port)}
        for connection in seen.values():
            self._at(connection.peer).update(connection.received)
        self._forget(seen)
        self.connections = len(seen)
        self._cut(excess(self._by_peer.values(), self._bound), "connections held too much, some were cut", seen, cut)
        idle = idle_ones([flow for flow in self._by_peer.values() if flow.peer in seen], self._most_connections)
        self._cut(idle, "nearly too many connections, some that were idle were cut", seen, cut)
        self._budget.incoming = sum(flow.held for flow in self._by_peer.values())

    def _cut(
        self,
        chosen: Iterable[Flow],
        why: str,
        seen: Mapping[Peer, Connection],
        cut: Callable[[Connection, int], bool],
    ) -> None:
        """Cut connections, and log it in one line for each address."""
        by_host: dict[str, list[Flow]] = {}
        for flow in chosen:
            if flow.peer in seen and cut(seen[flow.peer], self._port):
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
        """Forget connections that are closed. Where none can be looked at, only those without calls are."""
        for peer in self._by_peer.keys() - set(seen):
            flow = self._by_peer[peer]
            flow.held = flow.calls * CALL_BYTES
            if not flow.calls:
                del self._by_peer[peer]
        self._by_name = {name: flow for name, flow in self._by_name.items() if flow.peer in self._by_peer}
