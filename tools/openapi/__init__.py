"""Writes the OpenAPI document of the REST API: `python -m tools.openapi server/queuelet/rest/openapi.json`.

Everything in it comes from queue.proto: paths from the `google.api.http` annotations, as the gateway reads them, and
descriptions from the comments. `make generate` runs it.

`comments.py` reads comments. `schemas.py` describes messages in JSON Schema, with `limits.py`, and `operations.py`
describes routes, with `examples.py` and `links.py`. `document.py` puts them together.
"""
