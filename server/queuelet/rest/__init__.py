"""The REST API: calls as HTTP requests with JSON.

`routes.py` has the paths, from the annotations in queue.proto. `json_form.py` converts messages, `refusals.py` errors.
`calls.py` defines `Caller`, which makes and authorizes all calls; `read_only.py` refuses those that change anything.
`handlers.py` serves requests with aiohttp, and `events.py` streams as server-sent events. `held_bytes.py` limits the
memory of bodies. `openapi.json` describes the API; `make generate` writes it.
"""
