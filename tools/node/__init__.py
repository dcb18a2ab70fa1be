"""A real Kubernetes node for tests, with its control plane, in a sandbox: Pods run, Services and their names work.

    with Node(images=[Path("server.tar")]) as node:
        subprocess.run(["kubectl", "get", "pods"], env=os.environ | node.environment)
        node.run(["curl", "http://10.96.3.4:8080"])

The sandbox has its own network, mounts and processes, so that nothing of the machine changes: not its /run, its
sysctls, its firewall or its interfaces. Its network leads nowhere: images are those that are given, and no Pod reaches
the Internet. Loopback of the machine reaches the API server, so kubectl and helm need no more than the kubeconfig.
`run` does a command in the network of the node. Sixteen volumes wait for PersistentVolumeClaims, each for one.
Several may run at once. When its owner ends, even by SIGKILL, all of it goes.

It needs Linux, root, and programs of the distribution: `why_not()` tells what is missing, and
`python -m tools.node packages` the packages. `python -m tools.node start` starts one from a shell.
It was tried with cgroup v1; for v2 it has what the documents say, and was not tried.
"""

from tools.node.machine import why_not
from tools.node.node import BUSYBOX, Node

__all__ = ["BUSYBOX", "Node", "why_not"]
