"""Three PostgreSQL nodes on loopback under Patroni and etcd: a primary, and quorum commit on one of two standbys.

Patroni fails over as in production: when the primary's PostgreSQL dies, its agent hands the leadership over, and when
the agent dies with it, the others wait for the end of its lease in etcd, which is at least 20 seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from support.patience import patient
from support.ports import lasting_port
from tools.control_plane import binaries
from tools.control_plane.guard import Guard
from tools.postgres import NOBODY, package_programs

NODES = 3

USER, PASSWORD = "app", "first"  # of a database for tests
"""A user who needs a password; everyone on this machine may be the user `postgres` without one."""

_DYNAMIC = {
    # The smallest values that Patroni allows.
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    # A primary that was killed is not started again: a standby takes its place at once.
    "primary_start_timeout": 0,
    "maximum_lag_on_failover": 1 << 20,
    "synchronous_mode": "quorum",
    "synchronous_mode_strict": True,
    "synchronous_node_count": 1,
    "postgresql": {"use_pg_rewind": True, "use_slots": True},
}

_PARAMETERS = {
    "wal_level": "replica",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "wal_keep_size": "256MB",
    "wal_log_hints": "on",
    "max_connections": "100",
}

_HBA = (
    "local all all trust",
    f"host all {USER} 127.0.0.1/32 scram-sha-256",
    "host all all 127.0.0.1/32 trust",
    "host replication all 127.0.0.1/32 trust",
)

_RESPONSE_SECONDS = 2.0

_STANDBY_ROLES = frozenset({"quorum_standby", "sync_standby"})


class Node:
    """One PostgreSQL and its agent, Patroni."""

    def __init__(self, root: Path, number: int, etcd: int, guard: Guard) -> None:
        self.name = f"node{number}"
        self.port, self._rest = lasting_port(), lasting_port()
        self.data = root / self.name
        self._log = root / f"{self.name}.log"
        self._programs = package_programs()
        self._guard = guard
        self._agent: subprocess.Popen[bytes] | None = None
        self._configuration = root / f"{self.name}.yaml"
        self._configuration.write_text(json.dumps(self._configured(root, etcd)))

    def start(self) -> None:
        """Start the agent, which starts the PostgreSQL."""
        patroni = Path(sys.executable).with_name("patroni")
        with self._log.open("ab") as log:
            self._agent = subprocess.Popen(
                [*_as_user(), sys.executable, patroni, self._configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data.parent,
                start_new_session=True,
            )
        self._guard.watch(self._agent.pid)

    @property
    def is_running(self) -> bool:
        """Whether the agent runs."""
        return self._agent is not None and self._agent.poll() is None

    def kill_postgres(self) -> None:
        """Kill all processes of its PostgreSQL at once. The agent goes on."""
        _kill(self._postgres())

    def kill(self) -> None:
        """Kill everything on the node at once, as the loss of its machine would."""
        agent = self._agent
        if agent is not None:
            agent.kill()
        self.kill_postgres()
        if agent is not None:
            agent.wait()
        self._agent = None

    def stop(self) -> None:
        """Stop the agent in order, which stops the PostgreSQL in order too."""
        if self._agent is not None:
            self._agent.terminate()
            self._agent.wait(patient(60))
        self._agent = None

    def freeze_agent(self) -> None:
        """Stop the agent without stopping its PostgreSQL, which then goes on as a primary if it is one."""
        if self._agent:
            self._agent.send_signal(signal.SIGSTOP)

    def thaw_agent(self) -> None:
        """Let a frozen agent go on."""
        if self._agent:
            self._agent.send_signal(signal.SIGCONT)

    def sql(self, statement: str) -> str:
        """Run a statement, and return what it prints. Raises CalledProcessError if it fails."""
        done = subprocess.run(
            [
                *(self._programs / "psql", "--host=127.0.0.1", f"--port={self.port}", "--username=postgres"),
                *("--dbname=postgres", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"),
                *("--command", statement),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=patient(30),
        )
        return done.stdout.strip()

    def request(self, path: str, patch: object = None) -> Any:  # noqa: ANN401  # JSON
        """Return what the agent's API responds. Raises OSError if it does not."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._rest}{path}")  # our own
        if patch is not None:
            request.method, request.data = "PATCH", json.dumps(patch).encode()
        with urllib.request.urlopen(request, timeout=_RESPONSE_SECONDS) as response:  # noqa: S310  # our own
            return json.load(response)

    def last_lines(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-3_000:] if self._log.exists() else "(no log)"

    def _postgres(self) -> list[int]:
        """Return the processes of its PostgreSQL, the postmaster first."""
        try:
            postmaster = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return []
        command = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(postmaster)], capture_output=True, text=True)  # noqa: PLW1510  # it may have ended
        if str(self.data) not in command.stdout:
            return []
        children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True)  # noqa: PLW1510  # as above
        return [postmaster, *map(int, children.stdout.split())]

    def _configured(self, root: Path, etcd: int) -> dict[str, object]:
        return {
            "scope": "queuelet",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self._rest}", "connect_address": f"127.0.0.1:{self._rest}"},
            "etcd3": {"host": f"127.0.0.1:{etcd}"},
            "bootstrap": {
                "dcs": _DYNAMIC,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.data),
                "bin_dir": str(self._programs),
                "pgpass": str(root / f"{self.name}.pgpass"),
                "pg_hba": list(_HBA),
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator"},
                    "rewind": {"username": "rewinder"},
                },
                "parameters": {**_PARAMETERS, "unix_socket_directories": str(root)},
            },
        }


class Quorum:
    """The three nodes. `with` starts and stops them."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="queuelet-quorum-"))
        if os.geteuid() == 0:
            os.chown(self.root, NOBODY, NOBODY)
        # It kills the agents. A PostgreSQL whose folder is gone stops by itself, within a minute.
        self._guard = Guard(self.root)
        self._etcd_port = lasting_port()
        self._etcd: subprocess.Popen[bytes] | None = None
        self.nodes = [Node(self.root, number, self._etcd_port, self._guard) for number in range(NODES)]

    def __enter__(self) -> Self:
        try:
            self._start_etcd()
            self.nodes[0].start()
            self.until(lambda: self.leader is not None, "the first node leads")
            for node in self.nodes[1:]:
                node.start()
            self.until_healthy()
            self.primary.sql(f"CREATE USER {USER} PASSWORD '{PASSWORD}'; GRANT CREATE ON DATABASE postgres TO {USER}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything, and remove the files."""
        for node in self.nodes:
            node.kill()
        if self._etcd:
            self._etcd.kill()
            self._etcd.wait()
        shutil.rmtree(self.root, ignore_errors=True)
        self._guard.dismiss()

    def url(self, user: str = "postgres", hosts: Sequence[str] = ()) -> str:
        """Return the connection string with all hosts, or with others that lead to them."""
        of_nodes = [f"127.0.0.1:{node.port}" for node in self.nodes]
        return f"postgresql://{user}@{','.join(hosts or of_nodes)}/postgres?target_session_attrs=read-write"

    def drop(self, schema: str) -> None:
        """Drop a schema with its tables."""
        self.primary.sql(f"SET client_min_messages = warning; DROP SCHEMA IF EXISTS {schema} CASCADE")

    @property
    def members(self) -> list[dict[str, Any]]:
        """What the agents know of the nodes; empty if no agent responds."""
        for node in self.nodes:
            if node.is_running:
                with suppress(OSError, ValueError):
                    members: list[dict[str, Any]] = node.request("/cluster")["members"]
                    return members
        return []

    @property
    def leader(self) -> Node | None:
        """The node with the running primary; None while there is none."""
        for member in self.members:
            if member["role"] == "leader" and member["state"] == "running":
                return next(node for node in self.nodes if node.name == member["name"])
        return None

    @property
    def primary(self) -> Node:
        """The node with the primary, once there is one."""
        self.until(lambda: self.leader is not None, "a node leads")
        leader = self.leader
        return leader if leader is not None else self.primary

    @property
    def standbys(self) -> list[Node]:
        """The other nodes."""
        primary = self.primary
        return [node for node in self.nodes if node is not primary]

    @property
    def is_healthy(self) -> bool:
        """Whether there is a primary from which all others stream, and commits wait for them."""
        members = self.members
        streaming = [each for each in members if each["state"] == "streaming" and each["role"] in _STANDBY_ROLES]
        return len(members) == NODES and len(streaming) == NODES - 1 and self.leader is not None

    def until_healthy(self) -> None:
        """Wait until all nodes are well.

        The primary writes a record at each look, because an old primary that was rewound may wait for one: pg_rewind
        has it replay the log up to where the new primary would insert, and at the beginning of a page this is after the
        page's header, which is written only with the next record.
        """

        def is_well() -> bool:
            if self.is_healthy:
                return True
            leader = self.leader
            if leader:
                with suppress(subprocess.SubprocessError):
                    leader.sql("SELECT pg_logical_emit_message(false, 'tests', '')")
            return False

        self.until(is_well, "all nodes are well")

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait for a condition of the nodes. Raises AssertionError with the ends of their logs."""
        end = time.monotonic() + patient(seconds)
        while not holds():
            if time.monotonic() > end:
                logs = "\n".join(f"--- {node.name}\n{node.last_lines()}" for node in self.nodes)
                raise AssertionError(f"not in {patient(seconds):.0f} s: {what}; {self.members}\n{logs}")
            time.sleep(0.1)

    def configure(self, **settings: object) -> None:
        """Change settings of Patroni. It applies them within a second or two."""
        self.primary.request("/config", settings)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop all nodes in order, and start them again at the end of the block, with the same primary."""
        primary = self.primary
        for node in [*self.standbys, primary]:
            node.stop()
        yield
        primary.start()
        self.until(lambda: self.leader is primary, "the primary leads again")
        for node in self.nodes:
            if node is not primary:
                node.start()
        self.until_healthy()

    def copy(self, name: str) -> None:
        """Copy the data of all nodes, which are stopped, under a name."""
        for node in self.nodes:
            subprocess.run(["cp", "-a", node.data, self.root / f"{node.data.name}-{name}"], check=True)

    def replace_by(self, name: str) -> None:
        """Replace the data of all nodes, which are stopped, by a copy."""
        for node in self.nodes:
            shutil.rmtree(node.data)
            (self.root / f"{node.data.name}-{name}").rename(node.data)

    @contextmanager
    def no_replication(self) -> Iterator[None]:
        """Freeze the processes of the standbys that receive commits, so that commits wait."""
        receivers = [int(node.sql("SELECT pid FROM pg_stat_wal_receiver")) for node in self.standbys]
        for receiver in receivers:
            os.kill(receiver, signal.SIGSTOP)
        try:
            yield
        finally:
            for receiver in receivers:
                with suppress(ProcessLookupError):
                    os.kill(receiver, signal.SIGCONT)

    @contextmanager
    def restored(self) -> Iterator[Quorum]:
        """At the end, start what was killed, go back to the usual settings, and wait until all nodes are well."""
        try:
            yield self
        finally:
            for node in self.nodes:
                node.thaw_agent()
                if not node.is_running:
                    node.start()
            self.configure(**_DYNAMIC)
            self.until_healthy()

    def _start_etcd(self) -> None:
        clients, peers = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{lasting_port()}"
        with (self.root / "etcd.log").open("ab") as log:
            self._etcd = subprocess.Popen(
                [
                    binaries.get("etcd"),
                    "--name=quorum",
                    f"--data-dir={self.root / 'etcd'}",
                    "--unsafe-no-fsync",
                    "--log-level=warn",
                    f"--listen-client-urls={clients}",
                    f"--advertise-client-urls={clients}",
                    f"--listen-peer-urls={peers}",
                    f"--initial-advertise-peer-urls={peers}",
                    f"--initial-cluster=quorum={peers}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._guard.watch(self._etcd.pid)

        def is_up() -> bool:
            url = f"{clients}/health"
            with suppress(OSError), urllib.request.urlopen(url, timeout=_RESPONSE_SECONDS) as response:  # noqa: S310  # our own
                return b"true" in response.read()
            return False

        self.until(is_up, "etcd responds")


def _kill(processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _as_user() -> list[str]:
    """Return the command that runs an agent as a user who may run PostgreSQL, if root calls.

    That user keeps the right to read, because Python may be in a folder that only root may read.
    """
    if os.geteuid() != 0:
        return []
    user = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return ["setpriv", *user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
