"""Kubeconfigs: the API server's URL and CA, and the user's token."""

from __future__ import annotations

import base64
import json
from pathlib import Path

_NAME = "queuelet-dev"


def write_kubeconfig(path: Path, *, url: str, authority: Path, user: str, token: str) -> None:
    """Write a kubeconfig for the user of a token. It is JSON, which is also YAML."""
    trusted = base64.b64encode(authority.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": _NAME, "cluster": {"server": url, "certificate-authority-data": trusted}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": user, "namespace": "default"}}],
        "current-context": _NAME,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2) + "\n")
