"""A real Kubernetes control plane for tests and laptops: etcd, kube-apiserver and kube-controller-manager on loopback.

    with ControlPlane() as control_plane:
        control_plane.api.apply(Path("crds/queues.yaml"))
        subprocess.run(["kubectl", "get", "queues"], env=os.environ | control_plane.environment)

`python -m tools.control_plane start` does the same from a shell. There is no node: Pods are accepted but never run.
"""

from tools.control_plane.api import Api
from tools.control_plane.errors import ApiError, ControlPlaneError
from tools.control_plane.plane import ControlPlane

__all__ = ["Api", "ApiError", "ControlPlane", "ControlPlaneError"]
