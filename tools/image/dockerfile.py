"""Parses a Dockerfile: only the part of the language that ours uses. Everything else is an error with its line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tools.image.errors import ImageError

WORDS = ("ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "ENTRYPOINT", "LABEL")
"""Supported instructions."""

_OPTIONS = {"COPY": ("from",)}
"""Supported options, such as `--from=build`."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+)|(\S))")


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One instruction."""

    line: int
    word: str
    """One of `WORDS`."""
    text: str
    """The text after the word and its options, in one line."""
    options: Mapping[str, str]
    comment: str
    """The comment directly above it."""

    def error(self, sentence: str) -> ImageError:
        """Return an error that names the line."""
        return ImageError(f"Dockerfile, line {self.line}: {sentence}")

    def exec_form(self) -> list[str] | None:
        """Return the program and its arguments if they are a JSON list, else None."""
        if not self.text.startswith("["):
            return None
        try:
            parsed = json.loads(self.text)
        except ValueError as error:
            raise self.error(f"{self.text} starts like a JSON list but is not valid: {error}") from error
        if not parsed or not all(isinstance(each, str) for each in parsed):
            raise self.error(f"{self.text} is not a JSON list of strings")
        return list(parsed)

    def pairs(self) -> list[tuple[str, str]]:
        """Return its NAME=VALUE pairs."""
        found = []
        for each in self.words():
            name, equals, value = each.partition("=")
            if not equals or not name:
                raise self.error(f"{self.word} needs NAME=VALUE; this is {each!r}")
            found.append((name, value))
        return found

    def words(self) -> list[str]:
        """Return its words, without quotes."""
        try:
            return shlex.split(self.text)
        except ValueError as error:
            raise self.error(f"{self.text} can't be parsed: {error}") from error

    def fill_in(self, text: str, variables: Mapping[str, str]) -> str:
        """Return a text with its variables expanded."""

        def value(match: re.Match[str]) -> str:
            if match[3]:
                raise self.error(f"{text} has a ${match[3]} that is not supported; use $NAME or ${{NAME}}")
            name = match[1] or match[2]
            if name not in variables:
                raise self.error(f"{text} names {name}, which has no value here")
            return variables[name]

        return _VARIABLE.sub(value, text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A FROM and the instructions after it."""

    start: Instruction
    name: str
    """The name that other stages use: a number, if it has no other name."""
    base: str
    """The image or the stage that it starts from."""
    instructions: tuple[Instruction, ...]

    def last(self, word: str) -> Instruction | None:
        """Return the last instruction of a word, which is the effective one."""
        return next((each for each in reversed(self.instructions) if each.word == word), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile."""

    arguments: tuple[Instruction, ...]
    """The ARGs before the first stage, which FROM may use."""
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """Return a stage by its name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ImageError(
            f"the Dockerfile has no target {name!r}; it has {', '.join(each.name for each in self.stages)}"
        )

    def is_stage(self, name: str) -> bool:
        """Return whether a base is a stage of this file."""
        return any(stage.name == name for stage in self.stages)

    def targets(self) -> list[Stage]:
        """Return the stages that no other stage uses: the images that it builds."""
        used = {stage.base for stage in self.stages}
        used |= {each.options.get("from", "") for stage in self.stages for each in stage.instructions}
        return [stage for stage in self.stages if stage.name not in used]


def parse(text: str) -> Dockerfile:
    """Parse a Dockerfile. Raises `ImageError` for unsupported syntax."""
    arguments: list[Instruction] = []
    stages: list[tuple[Instruction, list[Instruction]]] = []
    for instruction in _instructions(text):
        if instruction.word == "FROM":
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif instruction.word == "ARG":
            arguments.append(instruction)
        else:
            raise instruction.error(f"{instruction.word} stands before the first FROM")
    if not stages:
        raise ImageError("the Dockerfile has no FROM")
    values = defaults(arguments)
    return Dockerfile(
        arguments=tuple(arguments),
        stages=tuple(_stage(number, start, own, values) for number, (start, own) in enumerate(stages)),
    )


def defaults(arguments: list[Instruction]) -> dict[str, str]:
    """Return the default values of ARGs."""
    values: dict[str, str] = {}
    for each in arguments:
        name, equals, value = each.text.partition("=")
        if equals:
            values[name] = each.fill_in(value.strip("\"'"), values)
    return values


def _stage(number: int, start: Instruction, instructions: list[Instruction], values: Mapping[str, str]) -> Stage:
    match start.words():
        case [base]:
            name = str(number)
        case [base, word, name] if word.upper() == "AS":
            pass
        case _:
            raise start.error(f"FROM needs an image, or an image AS a name; this is {start.text!r}")
    return Stage(start=start, name=name, base=start.fill_in(base, values), instructions=tuple(instructions))


def _instructions(text: str) -> Iterator[Instruction]:
    comment: list[str] = []
    begun, begun_at = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped)
        elif stripped or begun:
            begun_at = begun_at if begun else number
            begun += stripped.removesuffix("\\")
            if not stripped.endswith("\\"):
                yield _instruction(begun_at, begun, "\n".join(comment))
                begun, comment = "", []
        else:
            comment = []
    if begun:
        raise ImageError(f"Dockerfile, line {begun_at}: the file ends after a \\")


def _instruction(line: int, text: str, comment: str) -> Instruction:
    word, _, rest = text.partition(" ")
    word, rest, options = word.upper(), rest.strip(), {}
    where = f"Dockerfile, line {line}"
    if word not in WORDS:
        raise ImageError(f"{where}: {word} is not supported, only {', '.join(WORDS)}")
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        name, _, value = option.removeprefix("--").partition("=")
        rest = rest.strip()
        if name not in _OPTIONS.get(word, ()) or not value:
            raise ImageError(f"{where}: {word} with {option} is not supported")
        options[name] = value
    if not rest:
        raise ImageError(f"{where}: {word} says nothing")
    if "<<" in rest:
        raise ImageError(f"{where}: a here-document is not supported")
    return Instruction(line=line, word=word, text=rest, options=options, comment=comment)
