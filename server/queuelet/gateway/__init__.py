"""The gateway: the HTTP port with the REST API and all other pages on it.

`application.py` composes the port, with `headers.py` and `protocol.py`. The server has it as one of its ports, and
`queuelet rest` runs it alone: `process.py` is that process, `remote_calls.py` its calls to a server, and `figures.py`
its metrics. `queuelet console` runs it for one user: `local_console.py` is that process.
"""
