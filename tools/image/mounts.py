"""Mounts of a build. They are in a mount namespace of its own, so that none is left, however the build ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tools.image.errors import ImageError

_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")

_INSIDE = "QUEUELET_IMAGE_HAS_ITS_MOUNTS"


def enter_own_namespace(module: str) -> None:
    """Restart this process in a mount namespace of its own, unless it is in one."""
    if os.environ.get(_INSIDE) != str(os.getpid()):
        # exec keeps the pid.
        os.environ[_INSIDE] = str(os.getpid())
        own = ["unshare", "--mount", "--propagation=private", sys.executable, "-m", module, *sys.argv[1:]]
        os.execvp(own[0], own)  # noqa: S606  # no shell is wanted


@contextmanager
def overlaid(lower: Sequence[Path], upper: Path | None, parent: Path) -> Iterator[Path]:
    """Mount folders as an overlay, the lowest first, and yield its path. Changes are written to the upper folder."""
    place = parent / "merged"
    place.mkdir()
    if upper:
        work = parent / "work"
        work.mkdir()
        options = f"lowerdir={':'.join(map(str, reversed(lower)))},upperdir={upper},workdir={work}"
        command = ["-t", "overlay", "-o", f"{options},redirect_dir=off,metacopy=off,index=off", "overlay"]
    elif len(lower) > 1:
        command = ["-t", "overlay", "-o", f"lowerdir={':'.join(map(str, reversed(lower)))}", "overlay"]
    else:
        command = ["--bind", "-o", "ro", str(lower[0])]
    with _mounted([*command, str(place)], place):
        yield place
    place.rmdir()


@contextmanager
def ready_to_run(root: Path, shown: Mapping[str, Path], shared: Mapping[str, Path]) -> Iterator[None]:
    """Mount what a program needs into a root folder: files of the machine by path, read-only or writable."""
    with ExitStack() as stack:
        stack.enter_context(_mounted(["-t", "proc", "proc", str(root / "proc")], root / "proc"))
        stack.enter_context(_mounted(["-t", "tmpfs", "tmpfs", str(root / "dev")], root / "dev"))
        for name in _DEVICES:
            stack.enter_context(_placed(Path("/dev", name), root / "dev" / name, "rw"))
        (root / "dev" / "shm").mkdir()
        (root / "dev" / "shm").chmod(0o1777)
        for paths, mode in ((shown, "ro"), (shared, "rw")):
            for place, path in paths.items():
                stack.enter_context(_placed(path, root / place.lstrip("/"), mode))
        yield


@contextmanager
def _placed(path: Path, place: Path, mode: str) -> Iterator[None]:
    """Bind-mount a file or folder at another path.

    A mount point created for it is removed afterwards, if still empty.
    """
    made: list[Path] = []
    for folder in (*reversed(place.parents), *([place] if path.is_dir() else [])):
        if not folder.exists():
            folder.mkdir()
            made.append(folder)
    if not place.exists():
        place.touch()
        made.append(place)
    with _mounted(["--bind", "-o", mode, str(path), str(place)], place):
        yield
    for each in reversed(made):
        if each.is_file():
            each.unlink()
        else:
            with suppress(OSError):
                each.rmdir()


@contextmanager
def _mounted(arguments: Sequence[str], place: Path) -> Iterator[None]:
    _do(["mount", *arguments])
    try:
        yield
    finally:
        _do(["umount", str(place)])


def _do(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(command)} failed: {done.stderr.strip()}")
