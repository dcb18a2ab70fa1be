"""Does for Pods what a kubelet does, as far as helm and controllers see it, for a control plane without nodes.

The image decides whether a Pod becomes ready. tests/node shows the same with a real kubelet.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tools.control_plane import ApiError, ControlPlane

Object = dict[str, Any]

WRONG = "no-such-tag"
"""The tag of images that cannot be pulled."""

_EVERY = 0.1
"""Seconds between two checks of the Pods."""


class PodsWithoutNode:
    """Makes the Pods of a namespace ready, unless their image can't be pulled, and removes those that are deleted."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self._api = control_plane.api_of_admin()
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pods without a node")

    def __enter__(self) -> Self:
        """Start to manage the Pods."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop managing them."""
        self._stop.set()
        self._thread.join()
        self._api.close()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            for pod in self._api.get(self._path)["items"]:
                # A controller may have changed or deleted it meanwhile.
                with suppress(ApiError):
                    self._look_after(pod)

    def _look_after(self, pod: Object) -> None:
        path = f"{self._path}/{pod['metadata']['name']}"
        if "deletionTimestamp" in pod["metadata"]:
            self._api.delete(path, gracePeriodSeconds="0")
        elif pod["status"]["phase"] == "Pending" and "containerStatuses" not in pod["status"]:
            self._api.merge(f"{path}/status", {"status": _status(pod)})


def _status(pod: Object) -> Object:
    (container,) = pod["spec"]["containers"]
    runs = not container["image"].endswith(f":{WRONG}")
    state: Object = {"running": {}} if runs else {"waiting": {"reason": "ErrImagePull"}}
    return {
        "phase": "Running" if runs else "Pending",
        "conditions": [{"type": each, "status": str(runs)} for each in ("Ready", "ContainersReady")],
        "containerStatuses": [
            {
                "name": container["name"],
                "ready": runs,
                "started": runs,
                "restartCount": 0,
                "image": container["image"],
                "imageID": "",
                "state": state,
            }
        ],
    }
