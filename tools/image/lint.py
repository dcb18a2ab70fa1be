"""Rules for our Dockerfile that none of Docker's tools checks."""

from __future__ import annotations

from collections.abc import Iterator

from tools.image.dockerfile import Dockerfile, Instruction, Stage


def complaints(dockerfile: Dockerfile) -> list[str]:
    """Return each problem as a sentence with its line."""
    found = [*_about_bases(dockerfile)]
    for target in dockerfile.targets():
        found += _about_target(target)
    return found


def _about_bases(dockerfile: Dockerfile) -> Iterator[str]:
    arguments = {each.text.partition("=")[0]: each for each in dockerfile.arguments}
    for stage in dockerfile.stages:
        if dockerfile.is_stage(stage.base):
            continue
        name = stage.start.words()[0].removeprefix("${").removesuffix("}").removeprefix("$")
        if name not in arguments:
            yield _at(stage.start, f"the base {stage.base} is not an ARG, so no build can pin its digest")
        elif "@sha256:" not in stage.base + arguments[name].comment:
            yield _at(arguments[name], f"{name} has no digest; say in a comment how to pin it")
        tag = stage.base.partition("@")[0].rpartition("/")[2].partition(":")[2]
        if tag in {"", "latest"}:
            yield _at(stage.start, f"the base {stage.base} has no fixed version; add a tag")


def _about_target(stage: Stage) -> Iterator[str]:
    user = stage.last("USER")
    if user is None:
        yield _at(stage.start, f"the target {stage.name} has no USER, so it runs as root; add one")
    else:
        numbers = user.text.split(":")
        if not all(number.isdecimal() for number in numbers):
            yield _at(user, f"the user {user.text} is not a number; runAsNonRoot needs one")
        elif "0" in {str(int(number)) for number in numbers}:
            yield _at(user, f"the user {user.text} is root's")
    entrypoint = stage.last("ENTRYPOINT")
    if entrypoint is None:
        yield _at(stage.start, f"the target {stage.name} has no ENTRYPOINT")
    elif not entrypoint.exec_form():
        yield _at(entrypoint, "a shell would stand between the program and the signals: write it as a JSON list")


def _at(instruction: Instruction, sentence: str) -> str:
    return f"line {instruction.line}: {sentence}"
