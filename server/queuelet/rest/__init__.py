"""The REST API: calls as HTTP requests with JSON.

`routes.py` has the paths, from the annotations in queue.proto. `json_form.py` converts messages, `refusals.py` errors.
`calls.py` defines `Caller`, which makes and authorizes all calls; `read_only.py` refuses those that change anything,
and `hidden_payloads.py` returns sizes instead of payloads. `handlers.py` serves requests with aiohttp, `events.py`
streams as server-sent events, and `export.py` all messages of a browse as lines. `held_bytes.py` limits the memory of
bodies. `openapi.json` describes the API; `make generate` writes it.
"""
