"""Runs the steps of a plan, each in a layer of its own on top of those before it. Results of steps are cached."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.control_plane import binaries
from tools.image import base, copying, machine
from tools.image.archive import Layer, write_archive, write_layer
from tools.image.context import Context
from tools.image.dockerfile import parse
from tools.image.errors import ImageError
from tools.image.mounts import overlaid, ready_to_run
from tools.image.plan import Copy, Folder, Plan, Run, Step, plan

_KEPT = 14 * 24 * 3600.0
"""Seconds that a cached result is kept after its last use."""

_LAST_LINES = 40
"""Lines of a command's output that are shown if it fails."""

_BUILDING = "building."

_REPLACED_BASE = "python:"
"""The name prefix of the base images that we have a substitute for."""


def build(checkout: Path, target: str, output: Path, tag: str) -> None:
    """Build a target of a checkout's Dockerfile, and write its archive."""
    if reason := machine.why_not():
        raise ImageError(reason)
    plans = plan(parse((checkout / "Dockerfile").read_text()), target)
    began = time.monotonic()
    # Users other than root need to read the files.
    os.umask(0o022)
    with binaries.one_at_a_time("image.lock"):
        builder = _Builder(Context(checkout))
        for each in plans:
            builder.build(each)
        done = builder.stages[target]
        digest = write_archive(output, tag, [_layer(folder) for folder in done.layers], plans[-1].settings)
        builder.forget_old()
    size, seconds = output.stat().st_size / 2**20, time.monotonic() - began
    say(f"wrote {tag} to {output}: {digest[:19]}, {size:.0f} MiB, in {seconds:.1f} s")


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"image: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Built:
    """The state of a stage so far."""

    key: str
    """A digest of everything that it depends on: the same key means the same files."""
    layers: tuple[Path, ...]
    """The folders of its layers, the lowest first."""

    @property
    def files(self) -> list[Path]:
        """The files of each layer."""
        return [layer / "files" for layer in self.layers]


class _Builder:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._cache = binaries.cache() / "image"
        self._downloads = self._cache / "downloads"
        self._downloads.mkdir(parents=True, exist_ok=True)
        for left_behind in self._cache.glob(f"{_BUILDING}*"):
            shutil.rmtree(left_behind)
        # By name, with the base image among them.
        self.stages: dict[str, _Built] = {}

    def build(self, wanted: Plan) -> None:
        """Build a stage. The stages that it needs are already built."""
        built = self.stages.get(wanted.base) or self._base(wanted.base)
        for step in wanted.steps:
            built = self._after(built, step, wanted.name)
        self.stages[wanted.name] = built

    def forget_old(self) -> None:
        """Remove cached results that were not used for long."""
        for folder in self._cache.glob("step-*"):
            if time.time() - folder.stat().st_mtime > _KEPT:
                shutil.rmtree(folder)

    def _base(self, name: str) -> _Built:
        if not name.startswith(_REPLACED_BASE):
            raise ImageError(f"no substitute for the base image {name}; use {_REPLACED_BASE}<version>")
        began = time.monotonic()
        layer = base.get(self._cache)
        _say_done(f"{layer.name} instead of {name}", began)
        self.stages[name] = _Built(key=layer.name, layers=(layer,))
        return self.stages[name]

    def _after(self, built: _Built, step: Step, stage: str) -> _Built:
        """Return the state of a stage after a step."""
        instruction, began = step.instruction, time.monotonic()
        known = [built.key, type(step).__name__, *self._depends_on(step)]
        key = hashlib.sha256("\0".join(known).encode()).hexdigest()[:16]
        place = self._cache / f"step-{key}"
        if place.exists():
            os.utime(place)
        else:
            with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=self._cache) as temporary:
                made = Path(temporary, "made")
                (made / "files").mkdir(parents=True)
                (made / "files").chmod(0o755)
                with overlaid(built.files, made / "files", Path(temporary)) as root:
                    self._do(step, root)
                made.rename(place)
            _say_done(f"{stage}: {instruction.word} {instruction.text}", began)
        return _Built(key=key, layers=(*built.layers, place))

    def _depends_on(self, step: Step) -> list[str]:
        """Return everything that the outcome of a step depends on, in addition to the files before it."""
        match step:
            case Run():
                return [repr(step.command), repr(sorted(step.environment.items())), step.folder, step.user]
            case Copy(stage=None):
                for source in step.sources:
                    if not (self._context.folder / source).exists():
                        raise step.instruction.error(f"no {source} in {self._context.folder}")
                    if not self._context.has(source):
                        raise step.instruction.error(f".dockerignore excludes {source}")
                content = copying.digest(self._context.folder, step.sources, self._context.has)
                return [repr(step.sources), step.place, content]
            case Copy():
                return [repr(step.sources), step.place, self.stages[str(step.stage)].key]
            case Folder():
                return [step.path]

    def _do(self, step: Step, root: Path) -> None:
        match step:
            case Run():
                self._run(step, root)
            case Copy(stage=None):
                copying.copy(self._context.folder, step.sources, root, step.place, self._context.has)
            case Copy():
                with self._files_of(str(step.stage)) as origin:
                    for source in step.sources:
                        if not os.path.lexists(origin / source.lstrip("/")):
                            raise step.instruction.error(f"no {source} in the stage {step.stage}")
                    copying.copy(origin, step.sources, root, step.place, lambda _: True)
            case Folder():
                (root / step.path.strip("/")).mkdir(parents=True, exist_ok=True)

    def _run(self, step: Run, root: Path) -> None:
        # The Dockerfile's variables override the machine's.
        environment = {**machine.environment(), "HOME": machine.HOME, **step.environment}
        command = ["chroot", f"--userspec={step.user or '0:0'}", str(root), "env", f"--chdir={step.folder}"]
        with ready_to_run(root, machine.files(), {f"{machine.HOME}/.cache": self._downloads}):
            done = subprocess.run(
                [*command, *step.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        if done.returncode:
            end = "\n".join(done.stdout.splitlines()[-_LAST_LINES:])
            raise step.instruction.error(f"RUN ended with exit code {done.returncode}:\n{end}")

    @contextmanager
    def _files_of(self, stage: str) -> Iterator[Path]:
        with (
            tempfile.TemporaryDirectory(prefix=_BUILDING, dir=self._cache) as temporary,
            overlaid(self.stages[stage].files, None, Path(temporary)) as origin,
        ):
            yield origin


def _layer(folder: Path) -> Layer:
    """Return the layer of a folder, written only once."""
    for known in folder.glob("layer-*.tar"):
        return Layer(path=known, digest=known.stem.removeprefix("layer-"), size=known.stat().st_size)
    written = write_layer(folder / "files", folder / "layer.new")
    path = written.path.rename(folder / f"layer-{written.digest}.tar")
    return Layer(path=path, digest=written.digest, size=written.size)


def _say_done(text: str, began: float) -> None:
    say(f"{text} ({time.monotonic() - began:.1f} s)")
