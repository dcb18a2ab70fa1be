"""Detection of whether a machine can run a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.node import machine, why_not


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Simulates another machine, which has everything except the parts that the test removes."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(machine, "network_plugins", lambda: Path("/usr/lib/cni"))
    return monkeypatch


def test_another_system_is_reported(other: pytest.MonkeyPatch) -> None:
    other.setattr("sys.platform", "darwin")
    assert why_not() == "a node needs Linux; this is darwin"


def test_another_user_than_root_is_reported(other: pytest.MonkeyPatch) -> None:
    other.setattr("os.geteuid", lambda: 1000)
    assert why_not() == "a node needs root: it makes namespaces, mounts and cgroups"


def test_missing_programs_are_reported_with_how_to_install_them(other: pytest.MonkeyPatch) -> None:
    other.setattr("shutil.which", lambda name: None if name in {"containerd", "ctr", "ip"} else f"/usr/bin/{name}")
    other.setattr(machine, "network_plugins", lambda: None)
    assert why_not() == (
        "a node needs containerd, ctr, ip, the CNI plugins bridge, host-local, loopback and portmap: "
        "apt-get install --yes --no-install-recommends containerd containernetworking-plugins iproute2"
    )
