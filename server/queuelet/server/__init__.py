"""The server process.

`process.py` starts and stops it. A transport passes calls to endpoints (`endpoint.py`), which call `handlers/`:
`grpc_transport.py` or `native/`, which `transports.py` chooses. `transport.py` has what both promise and share, and
`local_calls.py` passes the calls of the gateway to endpoints. `forwarding/` passes calls on to other servers.
`requests.py` and `plain_request.py` parse requests, and `replies.py` builds responses. `http.py` serves the HTTP port,
`metrics.py`, `latency.py` and `ages.py` its metrics. `incoming.py` and `sockets.py` limit the memory that connections
hold. `lifecycle.py` knows whether the server is shutting down, `timer.py` wakes queues, `history.py` records their
numbers, `memory.py` reads memory usage and limits, `credentials.py` reads tokens and certificates, `call_log.py` logs
calls, `audit.py` who changed queues, and `loading.py` repeats calls once their store has loaded what they read.
`shards.py` shares the queues with other servers, `shared_store.py` has the shards of this one, and `directory.py` says
what others need to know of that.
"""

from queuelet.server.process import Server, Settings, run, serve

__all__ = ["Server", "Settings", "run", "serve"]
