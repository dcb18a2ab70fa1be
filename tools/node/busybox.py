"""The two images that every node has, built from the machine's busybox."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.control_plane.errors import ControlPlaneError
from tools.image.archive import Settings, write_archive, write_layer

BUSYBOX = "localhost/busybox:node"
"""A shell and its tools, for Pods in tests. It is linked statically, so only its nslookup can look up names."""
PAUSE = "localhost/pause:node"
"""The image that holds a Pod's network namespace while its containers come and go."""

_USERS = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"


def write(folder: Path) -> list[Path]:
    """Write the images' archives into a folder, and return their paths."""
    found = shutil.which("busybox")
    if not found:
        raise ControlPlaneError("busybox is not installed; see `python -m tools.node packages`")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        root = Path(temporary)
        for name, mode in {"bin": 0o755, "etc": 0o755, "tmp": 0o1777}.items():
            (root / name).mkdir()
            (root / name).chmod(mode)
        (root / "etc" / "passwd").write_text(_USERS)
        (root / "etc" / "passwd").chmod(0o644)
        shutil.copy(found, root / "bin" / "busybox")
        tools = subprocess.run([found, "--list"], capture_output=True, text=True, check=True)
        for name in set(tools.stdout.split()) - {"busybox"}:
            (root / "bin" / name).symlink_to("busybox")
        layers = [write_layer(root, folder / "busybox.layer")]
        # The Pod gives the command.
        entrypoints = {BUSYBOX: (), PAUSE: ("/bin/sleep", "2147483647")}
        paths = []
        for tag, entrypoint in entrypoints.items():
            path = folder / f"{tag.rpartition('/')[2].replace(':', '-')}.tar"
            write_archive(path, tag, layers, Settings(environment={"PATH": "/bin"}, entrypoint=entrypoint))
            paths.append(path)
    return paths
