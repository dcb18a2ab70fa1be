"""The server process.

`process.py` starts and stops it. `grpc_transport.py` carries calls to endpoints (`endpoint.py`), and these call
`handlers/`. `requests.py`, `plain_request.py` and `replies.py` read requests and make responses. `http.py` has the
HTTP port, `metrics.py` and `latency.py` its figures. `intake.py` and `sockets.py` bound what connections hold.
`lifecycle.py` says whether the server stops, `timer.py` wakes queues, `memory.py` reads the memory of the machine,
`credentials.py` tokens and certificates, and `call_log.py` logs calls.
"""

from queuelet.server.process import Server, Settings, run, serve

__all__ = ["Server", "Settings", "run", "serve"]
