"""Queue objects, as tests send them to an API server."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def queue_object(name: str = "orders", **spec: object) -> Object:
    """Return a Queue with this spec."""
    return {"apiVersion": "queuelet.dev/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": spec}


def tag(key: str, value: str = "") -> Object:
    """Return a tag in the form of manifests."""
    return {"key": key, "value": value}
