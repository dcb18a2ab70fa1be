"""A substitute for the base image `python:<version>-slim`: Python and pip of this machine's Debian, unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tools.image.errors import ImageError

_PACKAGES = ("python3", "python3-pip", "ca-certificates", "libstdc++6", "dash", "coreutils")
"""Packages that our Dockerfile expects in such an image. Wheels with compiled code link to libstdc++."""

_LEFT_OUT = {"debconf", "dpkg", "perl-base", "tar"}
"""Packages that those need only for their installation scripts."""

_FOLDERS = ("dev", "etc/ssl/certs", "proc", "root", "run", "sys", "tmp", "usr/local/bin", "var/tmp")
_EMPTY = ("etc/hosts", "etc/resolv.conf")
_REMOVED = ("usr/share/doc", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man")
_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
_GROUPS = "root:x:0:\nnogroup:x:65534:\n"


def get(cache: Path) -> Path:
    """Return the folder of the base image in a cache, building it first if it is missing. Its files are in `files`."""
    # The recipe is part of the key, because another recipe makes another image.
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    place = cache / f"base-{recipe}"
    if not place.exists():
        for old in cache.glob("base-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            folder = Path(temporary)
            made = folder / "made"
            _unpack(folder, made / "files")
            _finish(made / "files")
            made.rename(place)
    return place


def _unpack(folder: Path, root: Path) -> None:
    """Download the packages and unpack them. Their scripts do not run."""
    downloads, nothing = folder / "packages", folder / "nothing"
    downloads.mkdir()
    nothing.touch()
    root.mkdir(parents=True)
    root.chmod(0o755)
    # An empty status file, so that apt downloads every dependency.
    options = [f"-oDir::State::status={nothing}", "-oAPT::Install-Recommends=0", "-oDebug::NoLocking=1"]
    output = _output(["apt-get", "--simulate", *options, "install", *_PACKAGES], folder)
    names = [line.split()[1] for line in output.splitlines() if line.startswith("Inst ")]
    wanted = sorted(set(names) - _LEFT_OUT)
    _output(["apt-get", "--quiet", "-oAPT::Sandbox::User=root", "download", *wanted], downloads)
    for package in sorted(downloads.iterdir()):
        _output(["dpkg", "--extract", str(package), str(root)], folder)


def _finish(root: Path) -> None:
    """Do what the scripts of the packages would have done, and make the differences to the Python image small."""
    began = time.time()
    for name in _FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for name in _EMPTY:
        (root / name).touch()
    for name in _REMOVED:
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text(_GROUPS)
    trusted = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    (root / "etc/ssl/certs/ca-certificates.crt").write_bytes(b"".join(path.read_bytes() for path in trusted))
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    # Debian forbids pip outside of virtual environments; the Python image allows it.
    for path in root.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
        path.unlink()
    # Debian's scripts compile everything too. Here the compiled files do not depend on file times, so that builds are
    # reproducible.
    folders = [str(Path("/", path.relative_to(root))) for path in sorted(root.glob("usr/lib/python3*"))]
    compiling = ["python3", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
    _output(["chroot", str(root), *compiling, *folders], root)
    # Created files get the time of the rest, so that builds are reproducible.
    for folder, folders_in_it, files in os.walk(root):
        for name in (*folders_in_it, *files):
            path = Path(folder, name)
            if path.lstat().st_mtime >= began - 1:
                os.utime(path, (0, 0), follow_symlinks=False)
    os.utime(root, (0, 0))


def _output(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ImageError(
            f"{' '.join(command[:2])} failed, so there is no base image. If it found no package, "
            f"apt-get update may help.\n{done.stderr[-2000:]}"
        )
    return done.stdout
