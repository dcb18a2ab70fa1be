"""The settings of the programs of a node, each a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.node.sandbox import DNS

PODS = "10.244.0.0/24"
"""The addresses of Pods."""
DOMAIN = "cluster.local"
"""What names of Services end with."""
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
"""Where containerd listens, in the sandbox: as everywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The files, in a folder."""

    folder: Path
    cgroup: str
    node: str
    pause: str
    """The image of the process that holds a Pod's network."""
    plugins: Path
    """The folder of the plugins that make networks of containers."""

    @property
    def containerd(self) -> Path:
        """The file of containerd."""
        return self.folder / "containerd.toml"

    @property
    def kubelet(self) -> Path:
        """The file of the kubelet."""
        return self.folder / "kubelet.json"

    @property
    def proxy(self) -> Path:
        """The file of kube-proxy."""
        return self.folder / "kube-proxy.json"

    @property
    def coredns(self) -> Path:
        """The file of CoreDNS."""
        return self.folder / "Corefile"

    def write_containerd(self) -> None:
        """Write what containerd needs."""
        networks = self.folder / "networks"
        networks.mkdir()
        (networks / "pods.conflist").write_text(json.dumps(self._network()))
        self.containerd.write_text(_CONTAINERD.format(pause=self.pause, plugins=self.plugins, networks=networks))

    def write_others(self, kubeconfig: Path) -> None:
        """Write what the others need, who speak to the API server as a kubeconfig says."""
        # Lookups of other names than the cluster's end at once, there.
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
            # Only what is in the sandbox reaches it.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{RUNTIME_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            # It asks whether the kernel's settings are what it wants, and changes none.
            "protectKernelDefaults": True,
            "clusterDNS": [DNS],
            "clusterDomain": DOMAIN,
            "resolvConf": str(self.folder / "resolv.conf"),
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            # A machine that is nearly full is no reason to end Pods, or to remove images.
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
            # Zero leaves the kernel's settings as they are.
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            # A Service is there as soon as its Pods are ready.
            "iptables": {"minSyncPeriod": "0s"},
            "healthzBindAddress": f"127.0.0.1:{PROXY_HEALTH_PORT}",
            "metricsBindAddress": "127.0.0.1:10249",
            "oomScoreAdj": 0,
        }
