"""What only shows when bytes move step by step."""

from __future__ import annotations

import threading

import pytest

import grpc_sansio as g
from pair import ROUTES, Pair


def test_bytes_may_arrive_one_by_one() -> None:
    pair = Pair()
    call = pair.client.unary("/test.Pair/Unary", b"hello", [("a", "b")], 5_000)
    while pair.forward(1):
        pair.backward(1)
    # Its headers came before its message, so it was announced.
    assert pair.server_events == [(g.CALL, 1, 0, 5_000, b""), (g.UNARY, 1, 0, 5_000, b"hello")]
    assert dict(pair.server.metadata(1)) == {"user-agent": "grpc-sansio", "a": "b"}
    pair.server.reply(1, b"world")
    while pair.backward(1):
        pass
    assert pair.client_events == [(g.UNARY, call, 0, 0, b"world")]


def test_a_call_of_a_guarded_route_is_read_once_it_is_admitted() -> None:
    pair = Pair()
    pair.client.unary("/test.Pair/Guarded", b"x")
    pair.settle()
    assert pair.server_events == [(g.CALL, 1, 1, 0, b"")]
    assert pair.server.held_bytes == 6
    pair.server.admit(1)
    pair.settle()
    assert pair.server_events[1:] == [(g.UNARY, 1, 1, 0, b"x")]
    assert pair.server.held_bytes == 0


def test_a_call_that_is_never_admitted_holds_at_most_its_window() -> None:
    pair = Pair(server={"window_bytes": 70_000})
    pair.client.unary("/test.Pair/Guarded", b"x" * 1_000_000)
    pair.settle()
    assert pair.server_events == [(g.CALL, 1, 1, 0, b"")]
    assert pair.server.call_held_bytes(1) == 70_000
    pair.server.finish(1, 16, "no")
    pair.settle()
    assert pair.client_events == [(g.STATUS, 1, 0, 16, b"no")]
    assert pair.server.held_bytes == pair.server.open_calls == pair.client.unsent_bytes == 0


def test_a_response_waits_for_a_client_that_does_not_read() -> None:
    pair = Pair(client={"window_bytes": 1_000, "message_bytes": 10_000_000})
    pair.settle()
    pair.client.unary("/test.Pair/Unary", b"x")
    pair.forward(1 << 30)
    pair.server.reply(1, b"y" * 5_000_000)
    pair.collect()
    assert pair.server.call_unsent_bytes(1) == 5_000_000
    assert pair.server.open_calls == 1
    pair.settle()
    assert pair.client_events == [(g.UNARY, 1, 0, 0, b"y" * 5_000_000)]
    assert pair.server.open_calls == 0
    assert pair.server_events == [(g.UNARY, 1, 0, 0, b"x")]


def test_a_stream_that_ends_early_still_sends_what_it_has_queued() -> None:
    pair = Pair(client={"window_bytes": 1_000})
    call = pair.client.stream("/test.Pair/Stream")
    pair.settle()
    pair.server.admit(1)
    for _ in range(10):
        pair.server.send(1, b"y" * 10_000)
    pair.server.finish(1, 5, "gone")
    for _ in range(2_000):
        pair.settle()
        done = sum(len(event[4]) for event in pair.client_events if event[0] == g.MESSAGE)
        pair.client.consumed(call, done)
        if pair.client_events[-1][0] == g.STATUS:
            break
    assert [event[0] for event in pair.client_events] == [g.HEADERS, *[g.MESSAGE] * 10, g.STATUS]
    assert pair.client_events[-1] == (g.STATUS, 1, 0, 5, b"gone")
    assert pair.server.open_calls == 0


def test_no_more_output_is_prepared_than_the_settings_say() -> None:
    pair = Pair(server={"output_bytes": 10_000}, client={"window_bytes": 1 << 24, "connection_window_bytes": 1 << 24})
    pair.client.stream("/test.Pair/Stream")
    pair.settle()
    pair.server.admit(1)
    for _ in range(100):
        pair.server.send(1, b"y" * 10_000)
    sizes = []
    while True:
        sizes.append(len(pair.server.data_to_send()))
        if not pair.server.more_to_send:
            break
    assert max(sizes) <= 10_000 + 17_000
    assert sum(sizes) > 1_000_000


def test_a_peer_that_makes_this_side_owe_it_bytes_is_not_read_any_more() -> None:
    pair = Pair(server={"output_bytes": 10_000})
    pair.settle()
    ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"12345678"
    for _ in range(200):
        pair.server.receive(ping * 100)
    assert not pair.server.reading
    while pair.server.data_to_send() or pair.server.more_to_send:
        pass
    assert pair.server.reading
    assert not pair.server.closed


def test_after_goaway_calls_that_were_on_the_way_are_delivered() -> None:
    pair = Pair()
    pair.settle()
    pair.server.drain()
    pair.collect()
    late = pair.client.unary("/test.Pair/Unary", b"late")
    pair.forward(1 << 30)
    assert pair.server_events == [(g.UNARY, 1, 0, 0, b"late")]
    pair.server.finish(1, 14, "draining")
    pair.settle()
    assert pair.client.draining or pair.client.closed
    assert (g.STATUS, late, 0, 14, b"draining") in pair.client_events
    assert pair.client_events[-1][0] == pair.server_events[-1][0] == g.CLOSED


def test_calls_that_wait_when_the_connection_ends_are_known_not_to_be_processed() -> None:
    pair = Pair(server={"concurrent_calls": 1})
    pair.settle()
    for _ in range(2):
        pair.client.unary("/test.Pair/Unary", b"x")
    pair.settle()
    pair.client_events += pair.client.receive(b"")
    assert [event[:4] for event in pair.client_events] == [
        (g.STATUS, 1, 0, 14),
        (g.STATUS, 2, 1, 14),
        (g.CLOSED, 0, 0, 0),
    ]


def test_calls_of_a_lost_connection_are_reset_and_then_it_is_closed() -> None:
    pair = Pair()
    for _ in range(3):
        pair.client.unary("/test.Pair/Unary", b"x")
    pair.settle()
    assert pair.server.receive(b"") == [
        *[(g.RESET, call, 0, 8, b"") for call in (1, 2, 3)],
        (g.CLOSED, 0, 0, 0, b"the peer closed the connection"),
    ]
    assert pair.server.receive(b"more") == pair.server.events() == []


@pytest.mark.parametrize("error_code", [0, 11])
def test_closing_resets_every_call_and_says_goaway(error_code: int) -> None:
    pair = Pair()
    pair.client.unary("/test.Pair/Unary", b"x")
    pair.settle()
    pair.server.close(error_code)
    pair.settle()
    assert pair.server_events[1:] == [
        (g.RESET, 1, 0, error_code or 8, b""),
        (g.CLOSED, 0, 0, error_code, b"closed by this side"),
    ]
    pair.client_events += pair.client.receive(b"")
    assert pair.client_events[-2][:4] == (g.STATUS, 1, 0, 14)


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


GUARDED = (
    _literal(b":method", b"POST")
    + _literal(b":scheme", b"http")
    + _literal(b":path", b"/test.Pair/Guarded")
    + _literal(b"content-type", b"application/grpc")
)


def test_a_call_over_the_limit_of_concurrent_calls_is_refused_so_that_a_client_may_repeat_it() -> None:
    pair = Pair(server={"concurrent_calls": 2})
    pair.settle()
    for stream in (1, 3, 5):
        pair.server_events += pair.server.receive(_frame(1, 4, stream, GUARDED))
    assert [event[:2] for event in pair.server_events] == [(g.CALL, 1), (g.CALL, 2)]
    assert _frame(3, 0, 5, b"\0\0\0\7") in pair.server.data_to_send()


@pytest.mark.parametrize(("count", "is_closed"), [(20, False), (50, True)])
def test_a_flood_of_resets_ends_the_connection(count: int, is_closed: bool) -> None:  # noqa: FBT001  # a parameter
    pair = Pair(server={"pending_resets": 20})
    pair.settle()
    flood = b"".join(
        _frame(1, 4, stream, GUARDED) + _frame(3, 0, stream, b"\0\0\0\x08") for stream in range(1, 2 * count, 2)
    )
    pair.server_events += pair.server.receive(flood)
    assert pair.server.closed == is_closed
    if is_closed:
        assert pair.server_events[-1][:4] == (g.CLOSED, 0, 0, 11)
    assert pair.server.open_calls == 0


def test_a_reset_reaches_the_client() -> None:
    pair = Pair()
    pair.client.unary("/test.Pair/Unary", b"x")
    pair.settle()
    pair.server.reset(1, 11)
    pair.settle()
    assert pair.client_events[-1][:4] == (g.STATUS, 1, 0, 8)
    assert pair.server.open_calls == 0


def test_what_is_said_about_an_ended_call_is_ignored() -> None:
    pair = Pair()
    pair.client.unary("/test.Pair/Unary", b"x")
    pair.settle()
    pair.server.reply(1, b"y")
    pair.server.reply(1, b"again")
    pair.server.finish(1, 5)
    pair.server.send(1, b"x")
    pair.server.admit(1)
    pair.server.consumed(1, 5)
    pair.server.reset(1)
    pair.settle()
    assert pair.client_events == [(g.UNARY, 1, 0, 0, b"y")]
    pair.client.send(1, b"x")
    pair.client.half_close(1)
    pair.client.cancel(1)
    pair.settle()
    assert pair.client_events == [(g.UNARY, 1, 0, 0, b"y")]


@pytest.mark.parametrize(
    "arguments",
    [
        {"window_bytes": 0},
        {"window_bytes": 1 << 31},
        {"concurrent_calls": 0},
        {"output_bytes": 0},
        {"header_bytes": 0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        g.ServerSettings(ROUTES, **arguments)  # type: ignore[arg-type]  # none is a text


def test_values_that_no_header_can_carry_are_refused() -> None:
    pair = Pair()
    for path, metadata in [("no-slash", []), ("/sp ace", []), ("/a", [("Upper", "x")]), ("/a", [("a-bin", "text")])]:
        with pytest.raises(ValueError, match=r"path|metadata"):
            pair.client.unary(path, b"", metadata)
    for authority in ("", "sp ace"):
        with pytest.raises(ValueError, match="authority"):
            g.ClientSettings(authority)
    with pytest.raises(ValueError, match="scheme"):
        g.ClientSettings("a", scheme="ftp")
    pair.client.unary("/test.Pair/Unary", b"")
    pair.settle()
    for code in (17, 200):
        with pytest.raises(ValueError, match="code"):
            pair.server.finish(1, code)
    with pytest.raises(KeyError):
        pair.server.metadata(2)


def test_a_connection_may_be_collected_by_another_thread() -> None:
    pairs = [Pair()]
    pairs[0].settle()

    def use() -> None:
        pairs[0].client.unary("/test.Pair/Unary", b"x")
        pairs[0].settle()
        pairs.clear()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert not pairs
