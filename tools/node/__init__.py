"""A real Kubernetes node for tests, with its control plane, in a sandbox: Pods run, Services and their names work.

    with Node(images=[Path("server.tar")]) as node:
        subprocess.run(["kubectl", "get", "pods"], env=os.environ | node.environment)
        node.run(["curl", "http://10.96.3.4:8080"])

Contributors do not need this: the tests with a node are skipped if the machine can't run one, and CI runs them.

The sandbox has its own network, mounts and processes, so that it changes nothing on the machine: not /run, sysctls,
the firewall or interfaces. Its network has no way out: only the given images are available, and no Pod reaches the
Internet. The machine's loopback reaches the API server, so kubectl and helm need only the kubeconfig. `run` runs a
command in the network of the node. Sixteen volumes are available, one for each PersistentVolumeClaim. Several nodes
may run at once. When the owner ends, even by SIGKILL, everything is cleaned up.

It needs Linux, root, and programs of the distribution: `why_not()` returns the reason if the machine can't run a node,
and `python -m tools.node packages` prints the packages. `python -m tools.node start` starts a node from a shell.
It was tested with cgroup v1. The code for v2 follows the kernel's documentation, and was not tested.
"""

from tools.node.machine import why_not
from tools.node.node import BUSYBOX, Node

__all__ = ["BUSYBOX", "Node", "why_not"]
