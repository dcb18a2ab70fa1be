"""What a step of a build needs of this machine: its network, its package indexes and the certificates it trusts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

_NAMES = (
    "PIP_CERT",
    "PIP_CONFIG_FILE",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_NO_INDEX",
    "PIP_PROXY",
    "PIP_RETRIES",
    "PIP_TRUSTED_HOST",
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_HTTP_RETRIES",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_NO_INDEX",
    "UV_OFFLINE",
    "UV_SYSTEM_CERTS",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
)

_FILES = ("/etc/hosts", "/etc/pip.conf", "/etc/resolv.conf", "/etc/uv/uv.toml")
_FILES_AT_HOME = (".config/pip/pip.conf", ".config/uv/uv.toml", ".netrc", ".pip/pip.conf")

HOME = "/root"
"""Of the user that the steps run as."""


def why_not() -> str | None:
    """Return the sentence that says why this machine can't build an image, None if it can."""
    if sys.platform != "linux":
        return f"an image is built on Linux, and this is {sys.platform}"
    if os.geteuid() != 0:
        return "an image is built by root: it takes mounts and chroot"
    if missing := [name for name in ("apt-get", "dpkg", "unshare", "mount", "chroot") if not shutil.which(name)]:
        return f"the base image is made of Debian's packages, and there is no {', '.join(missing)}"
    return None


def environment() -> dict[str, str]:
    """Return the variables that tell of indexes, certificates and proxies."""
    return {name: os.environ[name] for name in _NAMES if name in os.environ}


def files() -> dict[str, Path]:
    """Return the files and folders that tell of them: where a step expects each, and where it is."""
    found = {name: Path(name) for name in _FILES}
    found |= {f"{HOME}/{name}": Path.home() / name for name in _FILES_AT_HOME}
    # A variable may name some too.
    for value in environment().values():
        found |= {each: Path(each) for each in value.split() if each.startswith("/")}
    return {place: path for place, path in sorted(found.items()) if path.exists()}
