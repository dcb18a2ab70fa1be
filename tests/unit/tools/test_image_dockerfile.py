"""Our Dockerfile, and the parser of Dockerfiles. No test builds anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.documents import ROOT
from tools.image.archive import Settings
from tools.image.context import Context
from tools.image.dockerfile import parse
from tools.image.errors import ImageError
from tools.image.lint import complaints
from tools.image.plan import Copy, Folder, Run, plan

OURS = (ROOT / "Dockerfile").read_text()

# Ours


def test_nothing_is_wrong_with_ours() -> None:
    assert complaints(parse(OURS)) == []


def test_ours_has_a_target_for_each_program() -> None:
    dockerfile = parse(OURS)
    programs = {target.name: plan(dockerfile, target.name)[-1].settings.entrypoint for target in dockerfile.targets()}
    assert programs["server"] == ("queuelet", "server")
    assert set(programs) <= {"server", "operator"}


def test_what_ours_copies_is_there_and_not_left_out() -> None:
    context = Context(ROOT)
    dockerfile = parse(OURS)
    copies = [
        step
        for target in dockerfile.targets()
        for each in plan(dockerfile, target.name)
        for step in each.steps
        if isinstance(step, Copy) and step.stage is None
    ]
    sources = {source for step in copies for source in step.sources}
    assert sources >= {"pyproject.toml", "uv.lock", "server"}
    assert [source for source in sources if not (ROOT / source).exists() or not context.has(source)] == []


def test_a_build_gets_nothing_but_that() -> None:
    context = Context(ROOT)
    kept = [path.name for path in ROOT.iterdir() if context.has(path.name)]
    assert sorted(kept) == ["LICENSE", "README.md", "operator", "pyproject.toml", "server", "uv.lock"]
    assert not context.has("server/queuelet/__pycache__/ids.pyc")
    assert context.has("server/queuelet/ids.py")


# Lint rules

GOOD = """\
# To pin it: --build-arg BASE=python:3.13-slim@sha256:<digest>
ARG BASE=python:3.13-slim
FROM ${BASE} AS build
RUN make
FROM ${BASE} AS server
COPY --from=build /app /app
USER 65532:65532
ENTRYPOINT ["queuelet"]
"""


def test_a_good_one_has_no_complaints() -> None:
    assert complaints(parse(GOOD)) == []


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("python:3.13-slim\nFROM", "python\nFROM", "line 3: the base python has no fixed version; add a tag"),
        ("3.13-slim\nFROM", "latest\nFROM", "line 3: the base python:latest has no fixed version; add a tag"),
        ("@sha256:<digest>", "", "line 2: BASE has no digest; say in a comment how to pin it"),
        (
            "${BASE} AS build",
            "debian:12 AS build",
            "line 3: the base debian:12 is not an ARG, so no build can pin its digest",
        ),
        ("USER 65532:65532", "LABEL a=b", "line 5: the target server has no USER, so it runs as root; add one"),
        (
            "65532:65532",
            "app",
            "line 7: the user app is not a number; runAsNonRoot needs one",
        ),
        ("65532:65532", "0", "line 7: the user 0 is root's"),
        ("65532:65532", "65532:0", "line 7: the user 65532:0 is root's"),
        ('ENTRYPOINT ["queuelet"]', "", "line 5: the target server has no ENTRYPOINT"),
        (
            '["queuelet"]',
            "queuelet",
            "line 8: a shell would stand between the program and the signals: write it as a JSON list",
        ),
    ],
)
def test_a_bad_instruction_is_refused_with_its_line(good: str, bad: str, complaint: str) -> None:
    assert good in GOOD
    assert complaint in complaints(parse(GOOD.replace(good, bad)))


def test_a_stage_for_others_may_be_root_s_and_have_no_entrypoint() -> None:
    assert [target.name for target in parse(GOOD).targets()] == ["server"]


# Unsupported syntax


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the Dockerfile has no FROM"),
        ("RUN make", "line 1: RUN stands before the first FROM"),
        ("FROM", "line 1: FROM says nothing"),
        ("FROM a AS", "line 1: FROM needs an image, or an image AS a name; this is 'a AS'"),
        ("FROM $BASE", r"line 1: \$BASE names BASE, which has no value here"),
        ("ARG A=b\nFROM ${A:-c}", r"line 2: \$\{A:-c\} has a \$\{ that is not supported"),
        ("FROM a\n\nADD b c", "line 3: ADD is not supported, only ARG, FROM, ENV"),
        ("FROM a\nCMD b", "line 2: CMD is not supported"),
        ("FROM a\nRUN --mount=type=cache,target=/b c", "line 2: RUN with --mount=type=cache,target=/b is not"),
        ("FROM a\nCOPY --chown=1 b c", "line 2: COPY with --chown=1 is not supported"),
        ("FROM a\nRUN <<END\nb\nEND", "line 2: a here-document is not supported"),
        ("FROM a\nRUN b \\", r"line 2: the file ends after a \\"),
    ],
)
def test_an_unknown_instruction_is_refused_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ENV A", "line 2: ENV needs NAME=VALUE; this is 'A'"),
        ("ENV A=$B", r"line 2: \$B names B, which has no value here"),
        ("ENV A='b", "line 2: A='b can't be parsed: No closing quotation"),
        ("COPY a", "line 2: COPY needs a source and a destination"),
        ("COPY a b c", "line 2: COPY of several sources needs a folder; end c with a /"),
        ("COPY *.py ./", r"line 2: \*.py is a pattern, which is not supported"),
        ("COPY --from=later a b", "line 2: no stage 'later' before this one"),
        ('ENTRYPOINT ["a"', "line 2: .* starts like a JSON list but is not valid"),
        ("ENTRYPOINT [1]", "line 2: .* is not a JSON list of strings"),
    ],
)
def test_an_instruction_that_is_not_supported_is_refused_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        plan(parse(f"FROM a AS b\n{text}"), "b")


def test_a_missing_target_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ImageError, match="has no target 'c'; it has build, server"):
        plan(parse(GOOD), "c")


# Plans


def test_only_what_a_target_needs_is_built() -> None:
    two = f"{GOOD}FROM ${{BASE}} AS other\nCOPY --from=build /b /b\nFROM other AS last\nRUN c\n"
    assert [each.name for each in plan(parse(two), "server")] == ["build", "server"]
    assert [each.name for each in plan(parse(two), "last")] == ["build", "other", "last"]


def test_steps_know_what_was_set_before_them() -> None:
    text = """
        ARG VERSION=1.2
        FROM python:3.13-slim AS app
        ARG VERSION
        ARG NAME=made-$VERSION
        RUN first
        ENV NAME="a b" \\
            OTHER=$NAME
        WORKDIR /app
        COPY a b ./
        WORKDIR sub
        RUN ["second", "$NAME"]
        USER 7:8
        RUN third
    """
    (only,) = plan(parse(text), "app")
    runs = [step for step in only.steps if isinstance(step, Run)]
    assert [(*run.command,) for run in runs] == [
        ("/bin/sh", "-c", "first"),
        ("second", "$NAME"),
        ("/bin/sh", "-c", "third"),
    ]
    assert [run.folder for run in runs] == ["/", "/app/sub", "/app/sub"]
    assert [run.user for run in runs] == ["", "", "7:8"]
    assert (runs[0].environment["VERSION"], runs[0].environment["NAME"]) == ("1.2", "made-1.2")
    assert (runs[1].environment["NAME"], runs[1].environment["OTHER"]) == ("a b", "made-1.2")
    assert [step.path for step in only.steps if isinstance(step, Folder)] == ["/app", "/app/sub"]
    assert [(*step.sources, step.place) for step in only.steps if isinstance(step, Copy)] == [("a", "b", "/app/")]
    assert only.settings.folder == "/app/sub"
    assert "VERSION" not in only.settings.environment, "an ARG is of the build alone"


def test_a_stage_on_a_stage_has_its_settings() -> None:
    text = f'{GOOD}EXPOSE 80 81/udp\nLABEL a=b\nFROM server AS more\nENTRYPOINT ["more"]\nENV PATH=/more:$PATH\n'
    settings = plan(parse(text), "more")[-1].settings
    assert settings.as_oci() == {
        "Env": ["PATH=/more:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
        "WorkingDir": "/",
        "User": "65532:65532",
        "Entrypoint": ["more"],
        "ExposedPorts": {"80/tcp": {}, "81/udp": {}},
        "Labels": {"a": "b"},
    }
    assert Settings().as_oci() == {"WorkingDir": "/"}


# .dockerignore


def test_the_last_rule_that_a_path_matches_counts(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("# all\n*\n\n!kept\n!some/*.md\n**/left-out\nkept/not-?\n")
    context = Context(tmp_path)
    paths = ["a", "kept", "kept/b/c", "kept/b/left-out/d", "kept/not-1", "kept/not-12", "some/e.md", "some/e.py"]
    assert [path for path in paths if context.has(path)] == ["kept", "kept/b/c", "kept/not-12", "some/e.md"]


def test_without_rules_all_is_kept(tmp_path: Path) -> None:
    assert Context(tmp_path).has("a/b")
