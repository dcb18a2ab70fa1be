"""Flow control against a model: whatever the order of steps, messages arrive once, in order and within the bounds."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import grpc_sansio as g
from pair import Pair

CALLS = 3
SIZES = st.one_of(st.integers(0, 300), st.integers(0, 70_000))
PARTS = st.one_of(st.integers(1, 200), st.just(1 << 30))


class _Direction:
    """The messages of one call in one direction."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.delivered: list[bytes] = []
        self.unconsumed = 0
        self.reported = 0


def _weight(message: bytes) -> int:
    return max(len(message), 1)


class FlowControl(RuleBasedStateMachine):
    """Streams of a pair, and what must be true of them."""

    @initialize(window=st.sampled_from([1, 100, 16_384, 65_535]), shared=st.sampled_from([65_535, 100_000]))
    def start(self, window: int, shared: int) -> None:
        """Open the streams."""
        limits = {"window_bytes": window, "connection_window_bytes": shared, "output_bytes": 20_000}
        self.window = window
        self.pair = Pair(server=limits, client=limits)
        self.seen = [0, 0]
        for _ in range(CALLS):
            self.pair.client.stream("/test.Pair/Stream")
        self.pair.settle()
        self.up = {call: _Direction() for call in range(1, CALLS + 1)}
        self.down = {call: _Direction() for call in range(1, CALLS + 1)}
        self.ended: set[int] = set()
        self.half_closed: set[int] = set()
        self.closed_up: set[int] = set()
        self.finished: set[int] = set()
        for call in self.up:
            self.pair.server.admit(call)

    @rule(call=st.integers(1, CALLS), size=SIZES)
    def client_sends(self, call: int, size: int) -> None:
        """Send a request."""
        if call not in self.closed_up:
            message = bytes([len(self.up[call].sent) % 256]) * size
            self.up[call].sent.append(message)
            self.pair.client.send(call, message)

    @rule(call=st.integers(1, CALLS), size=SIZES)
    def server_sends(self, call: int, size: int) -> None:
        """Send a response."""
        if call not in self.finished:
            message = bytes([len(self.down[call].sent) % 256]) * size
            self.down[call].sent.append(message)
            self.pair.server.send(call, message)

    @rule(size=PARTS)
    def forward(self, size: int) -> None:
        """Move bytes to the server."""
        self.pair.forward(size)

    @rule(size=PARTS)
    def backward(self, size: int) -> None:
        """Move bytes to the client."""
        self.pair.backward(size)

    @rule(call=st.integers(1, CALLS))
    def server_consumes(self, call: int) -> None:
        """Acknowledge what the server got."""
        self.pair.server.consumed(call, self.up[call].unconsumed)
        self.up[call].unconsumed = 0

    @rule(call=st.integers(1, CALLS))
    def client_consumes(self, call: int) -> None:
        """Acknowledge what the client got."""
        self.pair.client.consumed(call, self.down[call].unconsumed)
        self.down[call].unconsumed = 0

    @precondition(lambda self: len(self.closed_up) < CALLS)
    @rule(call=st.integers(1, CALLS))
    def client_half_closes(self, call: int) -> None:
        """End the requests."""
        self.closed_up.add(call)
        self.pair.client.half_close(call)

    @invariant()
    def holds(self) -> None:
        """Check everything that has happened since the last step."""
        self.pair.collect()
        for events, incoming, outgoing, index in (
            (self.pair.server_events, self.up, self.down, 0),
            (self.pair.client_events, self.down, self.up, 1),
        ):
            for event in events[self.seen[index] :]:
                self._apply(event, incoming, outgoing)
            self.seen[index] = len(events)
        for direction in (*self.up.values(), *self.down.values()):
            assert direction.delivered == direction.sent[: len(direction.delivered)]
            last = _weight(direction.delivered[-1]) if direction.delivered else 0
            assert direction.unconsumed < self.window + last or not direction.unconsumed
            assert direction.reported <= sum(map(_weight, direction.sent))

    def _apply(self, event: g.Event, incoming: dict[int, _Direction], outgoing: dict[int, _Direction]) -> None:
        kind, call, _, number, data = event
        assert kind not in {g.RESET, g.REFUSED, g.CLOSED, g.GOAWAY}
        if kind == g.MESSAGE:
            incoming[call].delivered.append(data)
            incoming[call].unconsumed += _weight(data)
        elif kind == g.SENT:
            outgoing[call].reported += number
        elif kind == g.HALF_CLOSED:
            assert call in self.closed_up
            assert len(incoming[call].delivered) == len(incoming[call].sent)
            self.half_closed.add(call)
        elif kind == g.STATUS:
            assert (call in self.finished, number) == (True, 0)
            assert len(incoming[call].delivered) == len(incoming[call].sent)
            self.ended.add(call)

    def teardown(self) -> None:
        """Whatever happened, everything arrives once both sides read."""
        if not hasattr(self, "ended"):
            return
        for call in self.up:
            self.client_half_closes(call)
        for _ in range(100_000):
            self.pair.settle()
            self.holds()
            for call in self.up:
                self.server_consumes(call)
                self.client_consumes(call)
                if call in self.half_closed and call not in self.finished:
                    self.finished.add(call)
                    self.pair.server.finish(call, 0)
            if len(self.ended) == CALLS:
                break
        for direction in (*self.up.values(), *self.down.values()):
            assert direction.delivered == direction.sent
        assert self.pair.server.open_calls == self.pair.client.open_calls == 0
        assert self.pair.server.held_bytes == self.pair.client.held_bytes == 0
        assert self.pair.server.unsent_bytes == self.pair.client.unsent_bytes == 0


TestFlowControl = FlowControl.TestCase
TestFlowControl.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
