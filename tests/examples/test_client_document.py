"""docs/client.md: its snippets print the output that it shows, and its tables of settings are complete."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trustme

import queuelet.client
from queuelet.client import Client, Connection, Consumer, Producer, Sharder, blocking
from queuelet.client.options import ConsumerOptions, ProducerOptions, PutOptions
from support.documents import ROOT, TOOLS, commands, free_ports, run_in_one_shell
from tools.api_reference import gaps, reference, unused

DOCUMENT = (ROOT / "docs/client.md").read_text()

PORTS = ("10002", "10003", "10004", "10005", "10006", "10007")

SNIPPET = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)

END = "== the next snippet =="

RUNNER = """
import ast, asyncio, inspect, json, sys, types
from queuelet.client import Client

async def main(snippets, server):
    names = {}
    for number, snippet in enumerate(snippets):
        async with Client(server) as client:
            names["client"] = client
            code = compile(snippet, f"snippet {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if "import blocking" in snippet:
                await asyncio.to_thread(exec, code, dict(names))
            elif code.co_flags & inspect.CO_COROUTINE:
                await types.FunctionType(code, names)()
            else:
                exec(code, names)
        print(sys.argv[2], flush=True)

asyncio.run(main(json.load(open("snippets.json")), sys.argv[1]))
"""
"""Runs snippets with top-level await in order, with the names of earlier ones, each with an open client."""


@pytest.mark.timeout(180)
def test_every_snippet_prints_what_the_document_shows(tmp_path: Path) -> None:
    """The commands run first, then the snippets as one program, all on free ports."""
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))

    def moved(text: str) -> str:
        return re.sub("|".join(PORTS), lambda found: ports[found[0]], text)

    found = SNIPPET.findall(DOCUMENT)
    write_secrets(tmp_path)
    (tmp_path / "snippets.json").write_text(json.dumps([moved(snippet) for snippet, _ in found]))
    (tmp_path / "runner.py").write_text(RUNNER)
    server = f"localhost:{ports['10002']}"
    script = [
        f'export PATH="{TOOLS}:$PATH"',
        *map(moved, commands("docs/client.md")),
        f"{sys.executable} runner.py {server} '{END}'",
    ]
    done = run_in_one_shell("\n".join(script), tmp_path, {"QUEUELET_SERVER_ADDRESS": server})
    printed = done.stdout.split(f"{END}\n")
    for (snippet, shown), text in zip(found, printed, strict=False):
        pattern = ".*".join(map(re.escape, shown.split("...")))
        assert re.fullmatch(pattern, text, re.DOTALL), f"{snippet}\nprints\n{text}\nand not\n{shown}"
    assert len(printed) == len(found) + 1


def write_secrets(folder: Path) -> None:
    """Write the files that the section about TLS uses: a CA, a certificate, its key and a token."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    (folder / "token").write_text("a secret\n")


# The settings


def table(heading: str) -> dict[str, object]:
    """Return the settings of a table in the document, with their default values."""
    section = re.split(r"\n##+ ", DOCUMENT.split("\n## Settings\n")[1].split(f"\n### {heading}\n")[1])[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section, re.MULTILINE)
    assert len(rows) == sum(line.startswith("| `") for line in section.splitlines()), f"{heading}: each row is read"
    return {name: eval(default, vars(queuelet.client)) for name, default in rows}  # noqa: S307  # the document is ours


def settings(make: Callable[..., object]) -> dict[str, object]:
    """Return the parameters and their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


@pytest.mark.parametrize(
    ("heading", "make"),
    [
        ("Connection", Connection),
        ("Producer", Producer.__init__),
        ("Put", Producer.put),
        ("Consumer", Consumer.__init__),
        ("Sharder", Sharder.__init__),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__qualname__,
)
def test_the_settings_and_defaults_are_those_of_the_code(heading: str, make: Callable[..., object]) -> None:
    shown, real = table(heading), settings(make)
    assert shown == real
    assert [type(value) for value in shown.values()] == [type(value) for value in real.values()]


@pytest.mark.parametrize(
    ("heading", "options", "by_place"),
    [
        ("Producer", ProducerOptions, {"serializer"}),
        ("Put", PutOptions, set()),
        ("Consumer", ConsumerOptions, {"handler", "serializer"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_sync_face_and_the_sharder_take_the_same_settings(
    heading: str, options: Mapping[str, object], by_place: set[str]
) -> None:
    assert table(heading).keys() - by_place == vars(options)["__annotations__"].keys()


def test_every_setting_of_a_client_is_one_of_its_connection() -> None:
    assert list(inspect.signature(Client).parameters) == ["connection"]


# The examples


def test_the_document_lists_every_example() -> None:
    listed = re.findall(r"\]\(\.\./examples/client/(\w+\.py)\)", DOCUMENT)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "examples/client").glob("*.py"))


# The reference


def test_the_reference_is_what_the_docstrings_say() -> None:
    assert (ROOT / "docs/client-api.md").read_text() == reference(), "run `make generate`"


def test_every_public_name_argument_and_result_is_documented() -> None:
    assert not list(gaps())


def test_every_name_that_the_reference_leaves_out_exists() -> None:
    assert not unused()


def test_the_reference_has_every_name() -> None:
    text = reference()
    for prefix, module in (("", queuelet.client), ("blocking.", blocking)):
        for name in module.__all__:
            assert f"\n### {prefix}{name}\n" in text
