"""What a build step uses of this machine: its network, package indexes and trusted certificates."""

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
"""Files and folders of the user that the steps run as."""


def why_not() -> str | None:
    """Return why this machine can't build an image, or None if it can."""
    if sys.platform != "linux":
        return f"building an image needs Linux; this is {sys.platform}"
    if os.geteuid() != 0:
        return "building an image needs root, for mounts and chroot"
    if missing := [name for name in ("apt-get", "dpkg", "unshare", "mount", "chroot") if not shutil.which(name)]:
        return f"the base image is made of Debian's packages; missing: {', '.join(missing)}"
    return None


def environment() -> dict[str, str]:
    """Return the environment variables that configure indexes, certificates and proxies."""
    return {name: os.environ[name] for name in _NAMES if name in os.environ}


def files() -> dict[str, Path]:
    """Return their configuration files and folders: the path that a step expects, and the path on this machine."""
    found = {name: Path(name) for name in _FILES}
    found |= {f"{HOME}/{name}": Path.home() / name for name in _FILES_AT_HOME}
    # A variable may name further files.
    for value in environment().values():
        found |= {each: Path(each) for each in value.split() if each.startswith("/")}
    return {place: path for place, path in sorted(found.items()) if path.exists()}
