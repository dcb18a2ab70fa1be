"""Serves endpoints over grpc_sansio, a native core for gRPC over HTTP/2 that does no I/O.

`transport.py` binds endpoints, health (`health.py`) and reflection (`reflection.py`) to routes. `listener.py` accepts
sockets, and `connection.py` passes bytes between a socket and its core, and calls to endpoints. `port.py` has what all
connections share. `call.py` is a call as handlers see it, `open_call.py` one that has not ended, and `stream.py` the
requests and responses of a stream. `served.py` defines the methods that a route may lead to. `overdue.py` ends calls
whose request does not arrive in time, `settings.py` has the numbers, and `drain.py` ends connections when the server
stops.

No other module of the server imports the core.
"""

from queuelet.server.native.transport import NativeTransport

__all__ = ["NativeTransport"]
