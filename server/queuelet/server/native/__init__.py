"""Serves endpoints over grpc_sansio, a native core for gRPC over HTTP/2 that does no I/O.

`transport.py` binds endpoints, health (`health.py`) and reflection (`reflection.py`) to routes. `listener.py` accepts
sockets, and `connection.py` passes bytes between a socket and its core, and calls to endpoints. `call.py` is what
handlers see of a call, `open_call.py` what is known of one that has not ended, and `stream.py` its requests and
responses if it is a stream. `served.py` is what a route leads to. `overdue.py` ends calls whose request does not arrive
in time, `settings.py` has the numbers, and `drain.py` ends connections when the server stops.

No other module of the server imports the core.
"""

from queuelet.server.native.transport import NativeTransport

__all__ = ["NativeTransport"]
