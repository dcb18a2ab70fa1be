"""Process 1 of a sandbox: sets up its network and mounts, then reaps orphaned processes.

    unshare --net --mount --pid --fork --kill-child --mount-proc python init.py FOLDER ADDRESS DNS

All processes in the sandbox end with it. It creates FOLDER/laid-out when network and mounts are ready.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_OF_ITS_OWN = ("/var/lib", "/var/log")
"""Folders that programs write to. In the sandbox, folders of its own are mounted over them, and over /run."""

_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""Kernel settings that the kubelet requires. It reads files mounted over the machine's own ones."""

_OF_THE_NETWORK = ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables")
"""Settings that must be 1. Each network namespace has its own."""


def main() -> None:
    """Set up the sandbox, then wait for orphans."""
    folder, address, dns = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.umask(0o022)
    _lay_out_network(address, dns)
    _lay_out_mounts(folder)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    (folder / "laid-out").touch()
    while True:
        signal.sigwait({signal.SIGCHLD})
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def _lay_out_network(address: str, dns: str) -> None:
    steps = [
        "link set lo up",
        # The node's address belongs to an interface that has to be up. Both ends of the pair stay in the sandbox.
        "link add node type veth peer name nowhere",
        f"addr add {address}/24 dev node",
        "link set node up",
        "link set nowhere up",
        f"route add default via {address} dev node",
        f"addr add {dns}/32 dev lo",
    ]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(steps), text=True, check=True)
    for name in _OF_THE_NETWORK:
        setting = Path("/proc/sys/net", name)
        if setting.read_text().strip() != "1":
            setting.write_text("1")


def _lay_out_mounts(folder: Path) -> None:
    if hiding := [path for path in ("/run", *_OF_ITS_OWN) if folder.is_relative_to(path)]:
        sys.exit(f"{folder} is hidden in the sandbox, which mounts its own {hiding[0]}; set TMPDIR to another folder")
    for path in _OF_ITS_OWN:
        replacement = folder / path.strip("/")
        replacement.mkdir(parents=True)
        _mount("--bind", str(replacement), path)
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    # Volumes of Pods reach the node by mount propagation. Nothing propagates out of the sandbox.
    _mount("--make-rshared", "/")
    for name, value in _SYSCTLS.items():
        if not Path("/proc/sys", name).exists():
            continue
        replacement = folder / "sysctl" / name
        replacement.parent.mkdir(parents=True, exist_ok=True)
        replacement.write_text(f"{value}\n")
        _mount("--bind", str(replacement), f"/proc/sys/{name}")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main()
