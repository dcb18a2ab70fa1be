"""The plan of a target: steps that change files, and the configuration of its containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tools.image.archive import Settings
from tools.image.dockerfile import Dockerfile, Instruction, Stage, defaults

BASE_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""Environment variables that the base image sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A command to run in the image."""

    instruction: Instruction
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    user: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """Files to copy from the checkout, or from another stage."""

    instruction: Instruction
    stage: str | None
    """The stage to copy from, None for the checkout."""
    sources: Sequence[str]
    place: str
    """An absolute path. With a slash at its end, a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A folder to create."""

    instruction: Instruction
    path: str


Step = Run | Copy | Folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The plan of one stage."""

    name: str
    base: str
    """An image, or an earlier stage."""
    steps: tuple[Step, ...]
    settings: Settings


def plan(dockerfile: Dockerfile, target: str) -> list[Plan]:
    """Return the plans of a target and of the stages that it needs, in build order."""
    plans: dict[str, Plan] = {}
    _add(dockerfile, dockerfile.stage(target), plans)
    return list(plans.values())


def _add(dockerfile: Dockerfile, stage: Stage, plans: dict[str, Plan]) -> None:
    before = dockerfile.stages[: dockerfile.stages.index(stage)]
    needed = {stage.base} if dockerfile.is_stage(stage.base) else set()
    for each in stage.instructions:
        if origin := each.options.get("from"):
            if not any(origin == other.name for other in before):
                raise each.error(f"no stage {origin!r} before this one")
            needed.add(origin)
    for other in before:
        if other.name in needed and other.name not in plans:
            _add(dockerfile, other, plans)
    inherited = plans[stage.base].settings if stage.base in plans else Settings(environment=BASE_ENVIRONMENT)
    state = _State(globals_=defaults(list(dockerfile.arguments)), inherited=inherited)
    for each in stage.instructions:
        state.take(each)
    plans[stage.name] = Plan(name=stage.name, base=stage.base, steps=tuple(state.steps), settings=state.settings())


@dataclass(kw_only=True)
class _State:
    """The state after the instructions so far."""

    globals_: Mapping[str, str]
    inherited: Settings
    arguments: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        inherited = self.inherited
        self.environment, self.labels = dict(inherited.environment), dict(inherited.labels)
        self.folder, self.user = inherited.folder, inherited.user
        self.entrypoint, self.ports = tuple(inherited.entrypoint), list(inherited.ports)

    def settings(self) -> Settings:
        return Settings(
            environment=self.environment,
            folder=self.folder,
            user=self.user,
            entrypoint=self.entrypoint,
            ports=self.ports,
            labels=self.labels,
        )

    def take(self, instruction: Instruction) -> None:
        match instruction.word:
            case "ARG":
                self._take_argument(instruction)
            case "ENV" | "LABEL":
                into = self.environment if instruction.word == "ENV" else self.labels
                # All pairs of one instruction are expanded with the variables set before it.
                into.update(
                    [(name, instruction.fill_in(value, self._variables)) for name, value in instruction.pairs()]
                )
            case "WORKDIR":
                self.folder = self._absolute(instruction.fill_in(instruction.text, self._variables))
                self.steps.append(Folder(instruction=instruction, path=self.folder))
            case "USER":
                self.user = instruction.fill_in(instruction.text, self._variables)
            case "EXPOSE":
                ports = instruction.fill_in(instruction.text, self._variables).split()
                self.ports += [port if "/" in port else f"{port}/tcp" for port in ports]
            case "ENTRYPOINT":
                self.entrypoint = tuple(instruction.exec_form() or ("/bin/sh", "-c", instruction.text))
            case "COPY":
                self._take_copy(instruction)
            case "RUN":
                self._take_run(instruction)

    def _take_argument(self, instruction: Instruction) -> None:
        name, equals, value = instruction.text.partition("=")
        if equals:
            self.arguments[name] = instruction.fill_in(value.strip("\"'"), self._variables)
        elif name in self.globals_:
            self.arguments[name] = self.globals_[name]

    def _take_copy(self, instruction: Instruction) -> None:
        *sources, place = instruction.fill_in(instruction.text, self._variables).split()
        if not sources:
            raise instruction.error("COPY needs a source and a destination")
        if len(sources) > 1 and not place.endswith("/"):
            raise instruction.error(f"COPY of several sources needs a folder; end {place} with a /")
        for source in sources:
            if set(source) & set("*?["):
                raise instruction.error(f"{source} is a pattern, which is not supported")
        absolute = self._absolute(place) + ("/" if place.endswith("/") else "")
        self.steps.append(
            Copy(instruction=instruction, stage=instruction.options.get("from"), sources=sources, place=absolute)
        )

    def _take_run(self, instruction: Instruction) -> None:
        self.steps.append(
            Run(
                instruction=instruction,
                command=instruction.exec_form() or ["/bin/sh", "-c", instruction.text],
                environment=self._variables,
                folder=self.folder,
                user=self.user,
            )
        )

    @property
    def _variables(self) -> dict[str, str]:
        return {**self.arguments, **self.environment}

    def _absolute(self, path: str) -> str:
        return str(PurePosixPath(self.folder) / path)
