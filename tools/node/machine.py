"""Checks whether this machine can run a node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "busybox": "busybox-static",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}
"""Programs that a node runs, with the Debian package of each."""

_NETWORK_PLUGINS = "containernetworking-plugins"

PACKAGES = tuple(sorted({*PROGRAMS.values(), _NETWORK_PLUGINS}))
"""Every package to install."""

INSTALL = "apt-get install --yes --no-install-recommends"

_PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
"""Where Debian and others install the CNI plugins."""


def why_not() -> str | None:
    """Return why this machine can't run a node, or None if it can."""
    if sys.platform != "linux":
        return f"a node needs Linux; this is {sys.platform}"
    if os.geteuid() != 0:
        return "a node needs root: it makes namespaces, mounts and cgroups"
    return _what_is_not_installed() or _what_the_kernel_lacks()


def _what_is_not_installed() -> str | None:
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    packages = {PROGRAMS[name] for name in missing}
    if network_plugins() is None:
        missing.append("the CNI plugins bridge, host-local, loopback and portmap")
        packages.add(_NETWORK_PLUGINS)
    if missing:
        return f"a node needs {', '.join(missing)}: {INSTALL} {' '.join(sorted(packages))}"
    return None


def _what_the_kernel_lacks() -> str | None:
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        return "a node needs the kernel's overlayfs: modprobe overlay"
    if not Path("/proc/sys/net/bridge").exists():
        return "a node needs the kernel's filter of bridges: modprobe br_netfilter"
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"a node needs namespaces, and creating one failed: {tried.stderr.strip()}"
    return None


def network_plugins() -> Path | None:
    """Return the folder of the CNI plugins."""
    names = ("bridge", "host-local", "loopback", "portmap")
    return next((folder for folder in _PLUGIN_FOLDERS if all((folder / name).exists() for name in names)), None)
