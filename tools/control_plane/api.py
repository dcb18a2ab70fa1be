"""Requests to an API server: JSON in, JSON out, over one persistent connection."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from tools.control_plane.errors import ApiError, Unreachable

Object = dict[str, Any]
"""A Kubernetes object, or a part of one."""

JSON = "application/json"
"""The media type of requests and responses by default."""

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
APPLY_PATCH = {"Content-Type": "application/apply-patch+yaml"}
AS_TABLE = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
"""The media type of a list as kubectl prints it."""

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


_IDLE = 20.0
"""Idle seconds after which a connection is not reused, because API servers close connections that are idle for long."""


class Api:
    """An API server as one user sees it. Not thread-safe: use one per thread."""

    def __init__(self, url: str, authority: Path, token: str, timeout: float = 30.0) -> None:
        """Take the server's URL, the file of its CA, the user's token, and the timeout of a call in seconds."""
        self.url = url
        self._token = token
        self._last_used = 0.0
        self._connection = http.client.HTTPSConnection(
            str(urlsplit(url).netloc), context=ssl.create_default_context(cafile=str(authority)), timeout=timeout
        )

    def close(self) -> None:
        """Close the connection. A later call opens a new one."""
        self._connection.close()

    def get(self, path: str, **query: str) -> Object:
        """Return the object or list at a path."""
        return self.request("GET", path, query=query)

    def create(self, path: str, body: Object, **query: str) -> Object:
        """Create an object in the list at a path, and return it."""
        return self.request("POST", path, body, query=query)

    def replace(self, path: str, body: Object, **query: str) -> Object:
        """Replace the object at a path, and return it."""
        return self.request("PUT", path, body, query=query)

    def merge(self, path: str, patch: Object, **query: str) -> Object:
        """Patch the object at a path with a merge patch, and return it."""
        return self.request("PATCH", path, patch, headers=MERGE_PATCH, query=query)

    def apply(self, path: str, body: Object, manager: str, *, force: bool = False) -> Object:
        """Apply an object at a path as `kubectl apply --server-side` does, and return the result."""
        query = {"fieldManager": manager, "force": str(force).lower()}
        return self.request("PATCH", path, body, headers=APPLY_PATCH, query=query)

    def delete(self, path: str, **query: str) -> Object:
        """Delete the object at a path. Finalizers may keep it for a while."""
        return self.request("DELETE", path, query=query)

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """Make a request and return the response.

        Raises `ApiError` if it is refused, `Unreachable` if there is no response.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        sent = {"Authorization": f"Bearer {self._token}", "Content-Type": JSON, "Accept": JSON, **(headers or {})}
        if time.monotonic() - self._last_used > _IDLE:
            self.close()
        try:
            self._connection.request(method, target, json.dumps(body) if body is not None else None, sent)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"the API server at {self.url} does not respond: {error!r}") from error
        finally:
            self._last_used = time.monotonic()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise _refusal(response.status, text)
        parsed: Object = json.loads(text) if text.startswith(b"{") else {"text": text.decode()}
        return parsed

    def define(self, manifest: Path, within: float = 30.0) -> None:
        """Apply a CustomResourceDefinition; wait until the API server serves its kind and kubectl can explain it."""
        definition = yaml.safe_load(manifest.read_text())
        path = f"{DEFINITIONS}/{definition['metadata']['name']}"
        self.apply(path, definition, "control-plane", force=True)
        spec = definition["spec"]
        version = f"apis/{spec['group']}/{spec['versions'][0]['name']}"
        end = time.monotonic() + within
        # kubectl explain works half a second after the first request does.
        while not (self.is_served(f"/{version}/{spec['names']['plural']}") and self._is_described(version)):
            if time.monotonic() > end:
                raise Unreachable(f"{path} was applied but is not served: {self.get(path).get('status')}")
            time.sleep(0.02)

    def _is_described(self, version: str) -> bool:
        return version in self.get("/openapi/v3")["paths"] and self.is_served(f"/openapi/v3/{version}")

    def is_there(self, path: str) -> bool:
        """Return whether there is an object at a path."""
        return self._responds(path, {http.HTTPStatus.NOT_FOUND})

    def is_served(self, path: str) -> bool:
        """Return whether the API server serves an object or list at a path that may have been defined a moment ago."""
        return self._responds(path, _NOT_YET)

    def _responds(self, path: str, otherwise: Container[int]) -> bool:
        try:
            self.get(path)
        except ApiError as error:
            if error.code not in otherwise:
                raise
            return False
        return True


_NOT_YET = {http.HTTPStatus.NOT_FOUND, http.HTTPStatus.TOO_MANY_REQUESTS}
"""The responses for objects that are not served yet, and while their cache is being filled."""


def _refusal(code: int, text: bytes) -> ApiError:
    try:
        status = json.loads(text)
        return ApiError(code, status.get("reason", ""), status.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(code, http.HTTPStatus(code).phrase, text.decode(errors="replace")[:1000])
