"""The control plane: its three processes, started in order and ended together."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.control_plane import binaries
from tools.control_plane.api import Api
from tools.control_plane.certificates import Certificates
from tools.control_plane.errors import ApiError, ControlPlaneError, Unreachable
from tools.control_plane.guard import Guard
from tools.control_plane.kubeconfig import write_kubeconfig
from tools.control_plane.ports import free_ports
from tools.control_plane.processes import Process
from tools.control_plane.steps import Steps, say

_READY_WITHIN = 90.0
"""Seconds that each process has to become ready: generous, because the machine may be busy."""

_RESPONSE_TIMEOUT = 2.0
"""Timeout of one readiness request, in seconds."""

_TRIES = 3
"""How often to start again after another process took a port that was free a moment before."""

_ISSUER = "https://kubernetes.default.svc.cluster.local"

CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
)
"""Controllers to run: those that matter without Pods."""


class ControlPlane:
    """A Kubernetes control plane on loopback, without nodes. Several may run at once.

    Its state is in a temporary folder that is removed with it. If it fails, its logs stay. For tests only, because what
    it stores is not flushed to disk, and its tokens are in files.
    """

    def __init__(
        self,
        *,
        api_server_flags: Sequence[str] = (),
        controllers: Sequence[str] = CONTROLLERS,
        prefix: Sequence[str] = (),
        ports: Callable[[int], list[int]] | None = None,
    ) -> None:
        """Take more flags for the API server, and the controllers to run.

        To run it in another network namespace, pass the prefix of commands that run there, and a function that returns
        free ports, each the same port of loopback in both networks.
        """
        self._api_server_flags = api_server_flags
        self._enabled = controllers
        self._prefix = prefix
        self._find_ports = ports
        self._tokens = {"admin": secrets.token_hex(16), "controllers": secrets.token_hex(16)}

    def __enter__(self) -> Self:
        """Start the control plane."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it; keep its logs if the block failed."""
        self.stop(keep_logs=error is not None)

    def start(self) -> None:
        """Start it; return when all of it works. Raises `ControlPlaneError` with the reason if it fails."""
        found = {name: binaries.get(name) for name in binaries.SERVERS}
        for left in reversed(range(_TRIES)):
            steps = Steps()
            with steps.step("certificates"):
                self._lay_out(found)
            try:
                self._start(steps)
            except BaseException as error:
                lost_a_port = isinstance(error, ControlPlaneError) and self._lost_a_port()
                self.stop(keep_logs=not lost_a_port)
                if not (lost_a_port and left):
                    raise
                say("another process took a port; starting again")
            else:
                return

    def stop(self, *, keep_logs: bool = False) -> None:
        """Kill it and remove its state, except for its logs if asked to keep them."""
        # SIGKILL, because nothing that the processes hold is needed any more.
        for process in (self.controllers, self.api_server, self.etcd):
            process.kill()
        self._guard.dismiss()
        self.api.close()
        if not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for path in self.folder.iterdir():
            if path.is_dir() and path != self._logs:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file():
                path.unlink()
        say(f"the control plane's logs are in {self._logs}")

    def check(self) -> None:
        """Raise `ControlPlaneError` with the last lines of its log if one of the processes has ended."""
        for process in (self.etcd, self.api_server, self.controllers):
            process.check()

    def start_api_server(self) -> None:
        """Start the API server again, on the same port, after it was killed; return when it is ready."""
        self._begin(self.api_server, self._api_server_is_ready)

    @property
    def environment(self) -> dict[str, str]:
        """Environment with which kubectl and helm talk to it as admin, and leave nothing behind."""
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.folder / "kubectl")}

    # Users other than the admin

    def service_account_token(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """Return a token of a ServiceAccount, like the one a Pod gets."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        response = self.api.create(path, {"spec": {"expirationSeconds": seconds}})
        return str(response["status"]["token"])

    def api_of_admin(self) -> Api:
        """Return an API client as admin, with a connection of its own: for another thread."""
        return self.api_as(self._tokens["admin"])

    def api_as(self, token: str) -> Api:
        """Return an API client as the user of a token."""
        return Api(self.url, self.certificates.authority, token)

    def kubeconfig_as(self, user: str, token: str) -> Path:
        """Write a kubeconfig for the user of a token, and return its path."""
        path = self.folder / f"{user.replace('/', '-').replace(':', '-')}.kubeconfig"
        write_kubeconfig(path, url=self.url, authority=self.certificates.authority, user=user, token=token)
        return path

    # Internals

    def _lay_out(self, found: dict[str, Path]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="queuelet-control-plane-"))
        """The folder of its state."""
        self._logs = self.folder / "logs"
        self._logs.mkdir()
        self._clients, self._peers, port = (self._find_ports or free_ports)(3)
        self.url = f"https://127.0.0.1:{port}"
        """The API server's URL."""
        self.certificates = Certificates(self.folder)
        """The file of the CA that signed the API server's certificate."""
        self.certificates.write()
        self.kubeconfig = self.folder / "kubeconfig"
        """The token of the admin, who has all rights."""
        self._write_identities()
        self.api = self.api_of_admin()
        """An API client as admin."""
        self.etcd = Process("etcd", [*self._prefix, found["etcd"], *self._etcd_flags()], self._logs / "etcd.log")
        self.api_server = Process(
            "kube-apiserver",
            [*self._prefix, found["kube-apiserver"], *self._flags_of_the_api_server(port), *self._api_server_flags],
            self._logs / "kube-apiserver.log",
        )
        self.controllers = Process(
            "kube-controller-manager",
            [*self._prefix, found["kube-controller-manager"], *self._controllers_flags()],
            self._logs / "kube-controller-manager.log",
        )
        self._guard = Guard(self.folder)

    def _start(self, steps: Steps) -> None:
        with steps.step("etcd"):
            self._begin(self.etcd, self._etcd_is_ready)
        with steps.step("API server"):
            self.start_api_server()
        with steps.step("controllers"):
            self._begin(self.controllers, self._controllers_work)
        say(f"ready after {steps}: {self.url}")

    def _write_identities(self) -> None:
        lines = [f'{token},{user},{user},"system:masters"\n' for user, token in self._tokens.items()]
        (self.folder / "tokens.csv").write_text("".join(lines))
        for path, user in ((self.kubeconfig, "admin"), (self._controllers_kubeconfig, "controllers")):
            authority = self.certificates.authority
            write_kubeconfig(path, url=self.url, authority=authority, user=user, token=self._tokens[user])

    @property
    def _controllers_kubeconfig(self) -> Path:
        return self.folder / "controllers.kubeconfig"

    def _etcd_flags(self) -> list[str]:
        clients, peers = f"http://127.0.0.1:{self._clients}", f"http://127.0.0.1:{self._peers}"
        return [
            f"--name={self.folder.name}",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            # There is only one replica, so it needs no leader election.
            "--heartbeat-interval=20",
            "--election-timeout=200",
            "--log-level=warn",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster={self.folder.name}={peers}",
        ]

    def _flags_of_the_api_server(self, port: int) -> list[str]:
        made = self.certificates
        return [
            f"--etcd-servers=http://127.0.0.1:{self._clients}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={made.server}",
            f"--tls-private-key-file={made.server_key}",
            f"--client-ca-file={made.authority}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={made.service_accounts}",
            f"--service-account-signing-key-file={made.service_accounts_key}",
            "--profiling=false",
        ]

    def _controllers_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self._controllers_kubeconfig}",
            f"--controllers={','.join(self._enabled)}",
            # Its own endpoints are not used here.
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            f"--root-ca-file={self.certificates.authority}",
            f"--service-account-private-key-file={self.certificates.service_accounts_key}",
            "--profiling=false",
        ]

    def _begin(self, process: Process, ready: Callable[[], bool]) -> None:
        process.start()
        self._guard.watch(process.pid)
        end = time.monotonic() + _READY_WITHIN
        while not ready():
            process.check()
            if time.monotonic() > end:
                raise ControlPlaneError(
                    f"{process.name} was not ready after {_READY_WITHIN:.0f} s; the end of {process.log}:\n"
                    f"{process.last_lines()}"
                )
            time.sleep(0.05)

    def _etcd_is_ready(self) -> bool:
        """Return whether our etcd responds, by its name: another process may have taken the port."""
        url = f"http://127.0.0.1:{self._clients}/v3/cluster/member/list"
        try:
            with urllib.request.urlopen(url, data=b"{}", timeout=_RESPONSE_TIMEOUT) as response:
                return self.folder.name in response.read().decode()
        except OSError:
            return False

    def _api_server_is_ready(self) -> bool:
        return self._is_there("/readyz")

    def _controllers_work(self) -> bool:
        """Return whether the controller has created the default ServiceAccount."""
        return self._is_there("/api/v1/namespaces/default/serviceaccounts/default")

    def _is_there(self, path: str) -> bool:
        api = Api(self.url, self.certificates.authority, self._tokens["admin"], timeout=_RESPONSE_TIMEOUT)
        try:
            api.get(path)
        except (ApiError, Unreachable):
            return False
        finally:
            api.close()
        return True

    def _lost_a_port(self) -> bool:
        return any("address already in use" in process.last_lines() for process in (self.etcd, self.api_server))
