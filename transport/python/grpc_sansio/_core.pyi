"""gRPC over HTTP/2 without I/O: bytes from a peer go in, events come out, and bytes for the peer come out.

Neither class opens a socket, starts a thread or reads a clock. A connection may be used by one thread at a time. After
calls of any methods, fetch `data_to_send()`, at the latest once per turn of the event loop.

**Events.** `receive` and `events` return tuples of five items, all of one form so that they are cheap to unpack:

    for kind, call, index, number, data in connection.receive(data): ...

`call` identifies a call within its connection: 1, 2, 3, ... in the order of the calls, never reused. What the other
items mean depends on the kind; those that a kind does not name are 0 or empty. Events of the connection have call 0.
The lists are complete: an event is returned exactly once, and none is added after they were returned except by another
method call.

Kinds of a `ServerConnection`:

| kind | index | number | data | meaning |
| --- | --- | --- | --- | --- |
| CALL | of its route | timeout, ms, 0: none | | The headers of a call have arrived, but it cannot be delivered yet. |
| UNARY | of its route | timeout, ms, 0: none | request | A unary call with its whole request. |
| MESSAGE | of its route | | request | One request of a stream. |
| HALF_CLOSED | of its route | | | The client sends no more. First event of a unary call without a request. |
| RESET | of its route | HTTP/2 error code | | Cancelled by the client, or the connection ended. The call is over. |
| REFUSED | of its route | gRPC status code | text | The core has ended a reported call: too large, badly framed. |
| SENT | of its route | bytes | | That many bytes of messages given to `send` have left the buffer. |
| PONG | | | | The peer has acknowledged the ping. |
| CLOSED | | HTTP/2 error code | reason | The connection is over; send `data_to_send()`, then close the socket. |

Kinds of a `ClientConnection`:

| kind | index | number | data | meaning |
| --- | --- | --- | --- | --- |
| HEADERS | | | | The response headers of a stream have arrived; `metadata` returns them. |
| UNARY | | | response | A unary call succeeded; it is over. |
| MESSAGE | | | response | One response of a stream. |
| STATUS | 1: not processed | gRPC status code | text | The call is over. A unary call gets it only if it failed. |
| SENT | | bytes | | That many bytes of messages given to `send` have left the buffer. |
| GOAWAY | | HTTP/2 error code | reason | The server accepts no new calls on this connection. |
| PONG | | | | The peer has acknowledged the ping. |
| CLOSED | | HTTP/2 error code | reason | The connection is over; send `data_to_send()`, then close the socket. |

**Flow control.** Both directions count bytes. Incoming: the core delivers messages of a stream until `window_bytes` of
them have not been acknowledged by `consumed`; then it stops to enlarge the peer's HTTP/2 window, so that the peer has
to stop too. A message larger than the window is let in all the same, up to `message_bytes`. Outgoing: the core queues
what `send` gives it; a caller that wants a bound sends until it has `window_bytes` in flight (or another number) and
waits for SENT. Bytes of a message count without its prefix of five bytes, as `len()` counts them, so that both
sides' sums agree; an empty message counts as 1.

**Text.** Status texts are `str`: the core percent-encodes and decodes them. Status details and metadata whose keys
end in `-bin` are `bytes`: the core encodes and decodes base64.
"""

from collections.abc import Iterable, Mapping
from typing import Final, final

from grpc_sansio._types import Event, Metadata

CALL: Final = 1
UNARY: Final = 2
MESSAGE: Final = 3
HALF_CLOSED: Final = 4
RESET: Final = 5
REFUSED: Final = 6
SENT: Final = 7
HEADERS: Final = 8
STATUS: Final = 9
GOAWAY: Final = 10
PONG: Final = 11
CLOSED: Final = 12

ROUTE_UNARY: Final = 0
"""A unary method, admitted without a question.

A call whose request arrives together with its headers is one UNARY event. Otherwise a CALL event comes first, so that
the caller can count and time the call, and UNARY follows.
"""

ROUTE_UNARY_GUARDED: Final = 1
"""A unary method whose calls are admitted one by one.

CALL comes on the headers. Answer with `admit`, and UNARY follows, or with `finish` to refuse the call. Until then no
byte of its request is read, except what the peer may send within its window.
"""

ROUTE_STREAM: Final = 2
"""A method whose requests or responses are a stream.

CALL comes on the headers. Answer with `admit`, and MESSAGE and HALF_CLOSED follow, or with `finish` to refuse the call.
"""

class ConnectionClosedError(Exception):
    """The connection is closed or draining, so no call can be started on it."""

@final
class ServerSettings:
    """What all connections of a server share. Immutable; make it once."""

    def __new__(
        cls,
        routes: Mapping[str, tuple[int, int]],
        *,
        message_bytes: int = 4 * 1024 * 1024,
        message_refusal: str = "received message larger than max ({size} vs. {limit})",
        unknown_method: str = "unknown method {path}",
        header_bytes: int = 16 * 1024,
        header_refusal: str = "metadata: more than {limit} bytes",
        http1_refusal: str = "this port serves gRPC over HTTP/2; HTTP/1 is not supported",
        concurrent_calls: int = 1_000,
        window_bytes: int = 64 * 1024,
        connection_window_bytes: int = 1024 * 1024,
        output_bytes: int = 256 * 1024,
        pending_resets: int = 100,
        remembered_resets: int = 100,
        local_errors: int = 1_024,
    ) -> ServerSettings:
        """Make the settings.

        Args:
            routes: the index and the kind (`ROUTE_UNARY`, `ROUTE_UNARY_GUARDED` or `ROUTE_STREAM`) of each path, such
                as `/package.Service/Method`. The index is 0 or more and appears in events.
            message_bytes: the largest request, in bytes, after decompression. A larger one ends its call with
                RESOURCE_EXHAUSTED.
            message_refusal: the status text of that. `{size}` becomes the size (of a compressed message: the limit plus
                one, because the rest is not inflated) and `{limit}` the limit, in bytes.
            unknown_method: the status text of UNIMPLEMENTED for a path without a route. `{path}` becomes the path.
            header_bytes: the largest header list, in bytes as HTTP/2 counts them (32 for each entry). A larger one is
                refused with RESOURCE_EXHAUSTED; the double one ends in HTTP status 431.
            header_refusal: the status text of that. `{limit}` becomes the limit.
            http1_refusal: the body of the response to an HTTP/1 request.
            concurrent_calls: the most open calls of a connection. The peer learns it; further calls are refused with
                REFUSED_STREAM, which clients repeat.
            window_bytes: the HTTP/2 window of a call, and how many bytes of messages of a stream may be delivered but
                not `consumed`.
            connection_window_bytes: the HTTP/2 window of a connection.
            output_bytes: how many bytes for the peer the core prepares until `data_to_send` takes them. More messages
                wait unframed. A single response of a unary call may exceed it.
            pending_resets: how many calls a peer may have opened and reset before the core saw them; one more ends
                the connection with ENHANCE_YOUR_CALM.
            remembered_resets: how many calls that this side has reset are remembered, to ignore their late frames.
            local_errors: how many stream errors a peer may cause before the connection ends with ENHANCE_YOUR_CALM.

        Raises:
            ValueError: a value is out of range; the text names it.
        """

@final
class ServerConnection:
    """The server's end of one connection."""

    def __new__(cls, settings: ServerSettings) -> ServerConnection:
        """Make it for a connection on which nothing has been received yet."""

    # -- bytes

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer and return the events that they cause.

        An empty `data` means that the peer closed its side: every open call ends with RESET, and CLOSED follows.
        """

    def events(self) -> list[Event]:
        """Return the events that other methods caused: SENT, and CLOSED after `drain` or `close`. Often empty.

        Call it after `data_to_send`, because it is sending that makes room.
        """

    def data_to_send(self) -> bytes:
        """Return the bytes for the peer, and forget them.

        At most about `output_bytes`; see `more_to_send`. Do not call it while the socket's buffer is full: then SENT
        events stop, and so does whoever waits for them.
        """

    @property
    def more_to_send(self) -> bool:
        """Whether the last `data_to_send` left something that could be sent now. Then call it again."""

    @property
    def reading(self) -> bool:
        """Whether to read from the socket.

        False while the peer makes this side owe it bytes (acknowledgements of pings and settings) that it does not
        read. Then stop to read until it is True; check after `receive` and `data_to_send`. Bytes passed to `receive`
        all the same are kept.
        """

    # -- calls

    def metadata(self, call: int) -> Metadata:
        """Return the metadata of a call, without gRPC's own headers (`te`, `content-type`, `grpc-timeout`, ...).

        Values of `-bin` keys that are not base64 are left out.

        Raises:
            KeyError: the call has ended. Read metadata before `reply` or `finish`.
        """

    def authority(self, call: int) -> str:
        """Return the host that the client called, empty if it did not say.

        Raises:
            KeyError: the call has ended.
        """

    def admit(self, call: int) -> None:
        """Admit a call of a guarded or stream route, so that its requests are read. Ignored for an ended call."""

    def reply(self, call: int, message: bytes) -> None:
        """Answer a unary call with a response and OK. The call is over. Ignored for an ended call."""

    def send(self, call: int, message: bytes) -> None:
        """Send one response of a stream. SENT reports when it has left the buffer. Ignored for an ended call."""

    def finish(
        self,
        call: int,
        code: int = 0,
        text: str = "",
        details: bytes = b"",
        metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> None:
        """End a call with a status, after the messages that are queued. The call is over. Ignored for an ended call.

        Args:
            call: the call, of any kind.
            code: the gRPC status code, 0 for OK (of a stream; a unary call needs `reply`).
            text: the status text.
            details: an encoded `google.rpc.Status`; empty for none.
            metadata: further trailers.

        Raises:
            ValueError: a key or value of the metadata is not allowed in a header, or the code is not 0 to 16.
        """

    def reset(self, call: int, error_code: int = 8) -> None:
        """End a call at once with RST_STREAM, dropping what is queued. Ignored for an ended call.

        Args:
            call: the call.
            error_code: the HTTP/2 error code; 8 is CANCEL, 2 INTERNAL_ERROR, 11 ENHANCE_YOUR_CALM.
        """

    def consumed(self, call: int, size: int) -> None:
        """Acknowledge bytes of delivered messages of a stream, so that more may arrive. Ignored for an ended call."""

    # -- the connection

    def ping(self) -> bool:
        """Send a PING; PONG reports its acknowledgement. Return False, and send none, while one is under way."""

    def drain(self) -> None:
        """Send GOAWAY: the client starts no new calls. CLOSED follows once the open calls have ended.

        It takes a round trip: calls that were on the way are still delivered, and it is for the caller to serve or
        refuse them.
        """

    def close(self, error_code: int = 0) -> None:
        """End the connection: GOAWAY, every open call ends with RESET, and CLOSED follows.

        Args:
            error_code: the HTTP/2 error code; 0 is NO_ERROR, 11 ENHANCE_YOUR_CALM.
        """

    @property
    def closed(self) -> bool:
        """Whether the connection is over: CLOSED has been or will be returned."""

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""

    # -- facts for limits

    @property
    def open_calls(self) -> int:
        """The number of open calls, reported or not."""

    @property
    def last_call(self) -> int:
        """The number of the newest call, 0 before the first: how many calls there have been."""

    @property
    def held_bytes(self) -> int:
        """Bytes received that no event has delivered yet: incomplete messages and frames. Costs O(open calls)."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for the peer: framed, and queued by `send`. Costs O(open calls)."""

    def call_held_bytes(self, call: int) -> int:
        """Return the bytes received for a call that no event has delivered yet; 0 for one that has ended."""

    def call_unsent_bytes(self, call: int) -> int:
        """Return the bytes of messages that wait in a call's queue; 0 for one that has ended."""

@final
class ClientSettings:
    """What connections of a client share. Immutable."""

    def __new__(
        cls,
        authority: str,
        *,
        scheme: str = "http",
        user_agent: str = "grpc-sansio",
        message_bytes: int = 4 * 1024 * 1024,
        message_refusal: str = "received message larger than max ({size} vs. {limit})",
        header_bytes: int = 16 * 1024,
        window_bytes: int = 64 * 1024,
        connection_window_bytes: int = 1024 * 1024,
        output_bytes: int = 256 * 1024,
    ) -> ClientSettings:
        """Make the settings.

        Args:
            authority: the server's host and port, as the `:authority` of each call.
            scheme: `http`, or `https` over TLS.
            user_agent: the `user-agent` of each call.
            message_bytes: the largest response, in bytes, after decompression. A larger one ends its call with
                RESOURCE_EXHAUSTED.
            message_refusal: the status text of that, with `{size}` and `{limit}` as in `ServerSettings`.
            header_bytes: the largest header list of a response, in bytes as HTTP/2 counts them.
            window_bytes: the HTTP/2 window of a call, and how many bytes of messages of a stream may be delivered but
                not `consumed`.
            connection_window_bytes: the HTTP/2 window of the connection.
            output_bytes: as in `ServerSettings`.

        Raises:
            ValueError: a value is out of range or not allowed in a header; the text names it.
        """

@final
class ClientConnection:
    """The client's end of one connection. `data_to_send` returns its preface at once."""

    def __new__(cls, settings: ClientSettings) -> ClientConnection:
        """Make it for a connection on which nothing has been sent yet."""

    # -- bytes: as of `ServerConnection`

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer and return the events that they cause.

        An empty `data` means that the peer closed its side: every open call ends with STATUS (UNAVAILABLE), and CLOSED
        follows.
        """

    def events(self) -> list[Event]:
        """Return the events that other methods caused. Call it after `data_to_send`."""

    def data_to_send(self) -> bytes:
        """Return the bytes for the peer, and forget them. At most about `output_bytes`; see `more_to_send`."""

    @property
    def more_to_send(self) -> bool:
        """Whether the last `data_to_send` left something that could be sent now. Then call it again."""

    @property
    def reading(self) -> bool:
        """Whether to read from the socket; as of `ServerConnection`."""

    # -- calls

    def unary(
        self,
        path: str,
        message: bytes,
        metadata: Iterable[tuple[str, str | bytes]] = (),
        timeout_ms: int = 0,
    ) -> int:
        """Start a unary call and return its number. UNARY or STATUS ends it.

        The call waits for the server's SETTINGS, and for another call to end if the server's limit of concurrent calls
        is reached.

        Args:
            path: such as `/package.Service/Method`.
            message: the request.
            metadata: pairs; values of keys that end in `-bin` are bytes, others visible ASCII.
            timeout_ms: what `grpc-timeout` says, in milliseconds; 0 for none. The caller times the call itself,
                and cancels it.

        Raises:
            ValueError: the path or the metadata is not allowed in a header.
            ConnectionClosedError: the connection is over, or the server has sent GOAWAY.
        """

    def stream(self, path: str, metadata: Iterable[tuple[str, str | bytes]] = (), timeout_ms: int = 0) -> int:
        """Start a call whose requests or responses are a stream, and return its number. STATUS ends it.

        Raises:
            ValueError: the path or the metadata is not allowed in a header.
            ConnectionClosedError: the connection is over, or the server has sent GOAWAY.
        """

    def send(self, call: int, message: bytes) -> None:
        """Send one request of a stream. SENT reports when it has left the buffer. Ignored for an ended call."""

    def half_close(self, call: int) -> None:
        """Say that a stream has no more requests, after those that are queued. Ignored for an ended call."""

    def cancel(self, call: int) -> None:
        """End a call at once with RST_STREAM. No event of it follows. Ignored for an ended call."""

    def consumed(self, call: int, size: int) -> None:
        """Acknowledge bytes of delivered messages of a stream, so that more may arrive. Ignored for an ended call."""

    def metadata(self, call: int) -> Metadata:
        """Return the metadata of the response headers; empty before they have arrived.

        Raises:
            KeyError: the call is over, and its last event was returned by an earlier call of `receive` or `events`.
        """

    def trailers(self, call: int) -> Metadata:
        """Return the metadata of the trailers, including `grpc-status-details-bin`; empty before they have arrived.

        Raises:
            KeyError: the call is over, and its last event was returned by an earlier call of `receive` or `events`.
        """

    # -- the connection

    def ping(self) -> bool:
        """Send a PING; PONG reports its acknowledgement. Return False, and send none, while one is under way."""

    def close(self) -> None:
        """End the connection: GOAWAY, every open call ends with STATUS (UNAVAILABLE), and CLOSED follows."""

    @property
    def closed(self) -> bool:
        """Whether the connection is over: CLOSED has been or will be returned."""

    @property
    def draining(self) -> bool:
        """Whether the server has sent GOAWAY: calls under way go on, new ones cannot be started."""

    @property
    def ready(self) -> bool:
        """Whether the server's SETTINGS have arrived, so that it speaks HTTP/2."""

    @property
    def open_calls(self) -> int:
        """The number of open calls."""

    @property
    def concurrent_calls(self) -> int:
        """The most open calls that the server allows, as far as it has said so."""

    @property
    def held_bytes(self) -> int:
        """Bytes received that no event has delivered yet. Costs O(open calls)."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for the peer: framed, and queued by `send`. Costs O(open calls)."""

    def call_unsent_bytes(self, call: int) -> int:
        """Return the bytes of messages that wait in a call's queue; 0 for one that has ended."""
