"""Configuration files of the programs that a node runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.node.sandbox import DNS

PODS = "10.244.0.0/24"
"""The address range of Pods."""
DOMAIN = "cluster.local"
"""The domain of Services' names."""
DNS_READY_PORT = 8181
PROXY_HEALTH_PORT = 10256

_COREDNS = """\
.:53 {{
  bind {dns}
  errors
  ready 127.0.0.1:{port}
  kubernetes {domain} in-addr.arpa {{
    kubeconfig {kubeconfig}
  }}
  cache 5
}}
"""

_CONTAINERD = """\
version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  # Where a machine is itself a container, it may not lower it.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""

RUNTIME_SOCKET = "/run/containerd/containerd.sock"
"""containerd's socket, inside the sandbox: its usual place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The paths of the configuration files in a folder."""

    folder: Path
    cgroup: str
    node: str
    pause: str
    """The image of the process that holds a Pod's network namespace."""
    plugins: Path
    """The folder of the CNI plugins."""

    @property
    def containerd(self) -> Path:
        """The configuration of containerd."""
        return self.folder / "containerd.toml"

    @property
    def kubelet(self) -> Path:
        """The kubelet's configuration."""
        return self.folder / "kubelet.json"

    @property
    def proxy(self) -> Path:
        """The configuration of kube-proxy."""
        return self.folder / "kube-proxy.json"

    @property
    def coredns(self) -> Path:
        """CoreDNS's configuration."""
        return self.folder / "Corefile"

    def write_containerd(self) -> None:
        """Write containerd's configuration."""
        networks = self.folder / "networks"
        networks.mkdir()
        (networks / "pods.conflist").write_text(json.dumps(self._network()))
        self.containerd.write_text(_CONTAINERD.format(pause=self.pause, plugins=self.plugins, networks=networks))

    def write_others(self, kubeconfig: Path) -> None:
        """Write the configuration of the programs that talk to the API server with a kubeconfig."""
        # Names outside the cluster get NXDOMAIN at once, because the sandbox has no network to ask for them.
        (self.folder / "resolv.conf").write_text(f"nameserver {DNS}\n")
        self.kubelet.write_text(json.dumps(self._kubelet()))
        self.proxy.write_text(json.dumps(self._proxy(kubeconfig)))
        self.coredns.write_text(_COREDNS.format(dns=DNS, port=DNS_READY_PORT, domain=DOMAIN, kubeconfig=kubeconfig))

    def _network(self) -> dict[str, Any]:
        addresses = {"type": "host-local", "ranges": [[{"subnet": PODS}]]}
        bridge = {"type": "bridge", "bridge": "pods", "isDefaultGateway": True, "hairpinMode": True, "ipam": addresses}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            # Reachable only from inside the sandbox.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{RUNTIME_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            # The kubelet only checks the kernel's settings, and changes none.
            "protectKernelDefaults": True,
            "clusterDNS": [DNS],
            "clusterDomain": DOMAIN,
            "resolvConf": str(self.folder / "resolv.conf"),
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            # No evictions and no image collection, even if the machine's disk is nearly full.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "10s",
            "oomScoreAdj": 0,
        }

    def _proxy(self, kubeconfig: Path) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": PODS,
            "hostnameOverride": self.node,
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            # Zero leaves the kernel's settings unchanged.
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            # A Service works as soon as its Pods are ready.
            "iptables": {"minSyncPeriod": "0s"},
            "healthzBindAddress": f"127.0.0.1:{PROXY_HEALTH_PORT}",
            "metricsBindAddress": "127.0.0.1:10249",
            "oomScoreAdj": 0,
        }
