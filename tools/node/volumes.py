"""Local volumes for PersistentVolumeClaims: one folder of the node for each claim."""

from __future__ import annotations

from pathlib import Path

from tools.control_plane.api import Api

COUNT = 16
SIZE = "10Gi"
"""The capacity that each volume declares: more than any test claims."""

_CLASS = "local"
_IS_DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def create(api: Api, folder: Path, node: str) -> None:
    """Create the default StorageClass and its volumes.

    They are of kind `local`, because only there does a Pod's fsGroup change the owner of the folder, as it does on a
    real disk. A `hostPath` volume ignores fsGroup.
    """
    api.create(
        "/apis/storage.k8s.io/v1/storageclasses",
        {
            "metadata": {"name": _CLASS, "annotations": _IS_DEFAULT},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
    )
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    for number in range(COUNT):
        place = folder / f"volume-{number}"
        place.mkdir(parents=True)
        spec = {
            "storageClassName": _CLASS,
            "capacity": {"storage": SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(place)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
        }
        api.create("/api/v1/persistentvolumes", {"metadata": {"name": place.name}, "spec": spec})
