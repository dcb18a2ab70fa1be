"""Documents list everything that exists, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from queuelet.cli.options import GLOBAL
from queuelet.cli.server import server
from queuelet.core.stored_form import NewMessage
from queuelet.definition import Owner, QueueDefinition
from queuelet.errors import QueueletError
from queuelet.fairness import Line
from queuelet.rest.routes import queue_routes
from queuelet.server.incoming import IncomingLimit
from queuelet.server.latency import Latencies
from queuelet.server.metrics import ShardFigures, exposition, server_registry
from queuelet.stores.disk import DiskStats, Distribution
from queuelet.stores.postgres.stats import PostgresStats
from queuelet.tags import Tag
from queuelet.web.connections import HttpConnections
from queuelet.wire.errors import CODES
from queuelet_operator.__main__ import main as operator
from support.documents import ROOT, TOOLS, first_cells, free_ports, run_in_one_shell, transcript
from support.queues import make_manager
from tools import architecture
from tools.syntax import parse

OF_THE_CLIENT = {"UNREACHABLE", "DEADLINE_EXCEEDED"}
STATS = DiskStats(
    is_open=True,
    is_full=False,
    failures=0,
    commits=1,
    changes=Distribution(bounds=(1,), buckets=(1, 0), total=1),
    commit_seconds=Distribution(bounds=(1,), buckets=(1, 0), total=1),
    file_bytes=1,
    free_bytes=1,
    disk_free_bytes=1,
    window_bytes=1,
    damaged_found=0,
)
POSTGRES_STATS = PostgresStats(
    is_open=True,
    is_replicated=True,
    is_full=False,
    failures=0,
    commits=1,
    changes=STATS.changes,
    commit_seconds=STATS.commit_seconds,
    dead_rows=1,
    table_bytes=1,
    window_bytes=1,
    damaged_found=0,
)
OF_LIBRARIES = ("process_", "python_")


SHARD_FIGURES = ShardFigures(
    servers=2, shards=4, owned=2, without_owner=0, taken_free=2, taken_lapsed=0, given=0, lost=0
)


def test_server_md_lists_every_reason() -> None:
    assert set(first_cells("docs/server.md", "Refusals")) | OF_THE_CLIENT == {kind.reason for kind in CODES}


def test_server_md_has_the_status_code_of_every_reason() -> None:
    text = (ROOT / "docs/server.md").read_text()
    for kind, code in CODES.items():
        if kind.reason not in OF_THE_CLIENT and kind is not QueueletError:
            assert f"| `{kind.reason}` | {code.name} |" in text


def test_server_md_lists_every_metric() -> None:
    manager = make_manager()
    definition = QueueDefinition(name="orders", limit=2, tags=(Tag("a", "b"),), owner=Owner(name="main/shop/orders"))
    queue = manager.new(definition, now=1)
    queue.add_batch([NewMessage(b"x")] * 3, now=1)
    queue.pop(now=1)
    queue.purge([2], now=1)
    queue.waiters.refused += 1
    latencies = Latencies()
    latencies.of("service", "Method").observe_refused(0.1, "NOT_FOUND")
    registry = server_registry(
        latencies=latencies,
        budget=manager.budget,
        incoming=IncomingLimit(manager.budget, 1, 1),
        http=HttpConnections(),
        gateway=HttpConnections(),
        long_work=Line(),
        disk=lambda: STATS,
        postgres=lambda: POSTGRES_STATS,
        shards=lambda: SHARD_FIGURES,
    )
    text = b"".join(exposition(registry, manager, 2, {"a"})).decode()
    metrics = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(text)
    }
    ours = {name for name in metrics if not name.startswith(OF_LIBRARIES)}
    assert set(first_cells("docs/server.md", "Metrics")) == ours


def packages() -> list[Path]:
    """Return the folders of all packages, without generated ones."""
    roots = (ROOT / "server" / "queuelet", ROOT / "operator" / "queuelet_operator")
    found = (path.parent for root in roots for path in root.rglob("__init__.py"))
    return [package for package in found if package.name not in {"v1", "compat"}]


@pytest.mark.parametrize("package", packages(), ids=lambda package: package.name)
def test_a_package_names_its_modules(package: Path) -> None:
    """In its docstring, or for those of the top level in the README's map."""
    is_top = package.name == "queuelet"
    text = (ROOT / "README.md").read_text() if is_top else (package / "__init__.py").read_text().split('"""')[1]
    for path in package.glob("*.py"):
        if not path.name.startswith("__"):
            assert f"`{path.name}`" in text, path.name
    for name in re.findall(r"`([a-z_]+\.py)`", "" if is_top else text):
        assert (package / name).exists(), name


def test_the_map_of_the_readme_names_every_package() -> None:
    text = (ROOT / "README.md").read_text().split("## A map")[1]
    for package in packages():
        assert f"{package.name}/" in text, package.name


@pytest.mark.timeout(180)
@pytest.mark.parametrize("document", ["docs/delivery.md", "docs/rest.md", "docs/console.md"])
def test_every_command_of_a_document_prints_what_it_shows(tmp_path: Path, document: str) -> None:
    """All of them in one shell that stops at the first failure, on free ports."""
    usual_ports = (10002, 10003, 8080, 8081, 10012, 10013, 8082)
    ports = free_ports(len(usual_ports))
    shown = transcript(document)
    end = "== the next command =="
    script = "".join(f"{each.command}\nprintf '\\n{end}\\n'\n" for each in shown)
    script = f'export PATH="{TOOLS}:$PATH"\n{script}'
    for usual, free in zip(usual_ports, ports, strict=True):
        script = re.sub(rf"\b{usual}\b", str(free), script)
    done = run_in_one_shell(script, tmp_path, {"QUEUELET_SERVER_ADDRESS": f"localhost:{ports[0]}"})
    printed = done.stdout.split(f"\n{end}\n")
    assert [(each.command, each.output) for each in shown] == [
        (each.command, text.splitlines()) for each, text in zip(shown, printed, strict=False)
    ]


def test_rest_md_lists_every_route() -> None:
    listed = {
        tuple(cell.strip(" `") for cell in line.split("|")[1:4])
        for line in (ROOT / "docs/rest.md").read_text().splitlines()
        if line.startswith(("| GET", "| POST", "| DELETE"))
    }
    assert listed == {(route.verb, route.template, route.method) for route in queue_routes()}


def test_console_md_lists_every_key() -> None:
    listed = {
        key for cell in first_cells("docs/console.md", "Keys") for key in re.findall(r"[^`]+", cell) if key != ", "
    }
    modules = (ROOT / "server/queuelet/console/static/app").rglob("*.mjs")
    # A binding is a list of keys, what they do, and a function.
    bound = {
        key for each in modules for key in re.findall(r'\["([^"]+)", "[^"]+", (?:\(\) =>|[a-z]\w+\])', each.read_text())
    }
    assert listed == {"Space" if key == " " else key for key in bound}


PICTURES = sorted((ROOT / "docs/images").glob("*"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_small_and_part_of_a_document(picture: Path) -> None:
    assert picture.stat().st_size < 150_000
    assert any(f"images/{picture.name})" in page.read_text() for page in (ROOT / "docs").glob("*.md"))


def test_security_md_names_flags_and_tests_that_there_are() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    flags = {name for command in (server, operator) for option in command.params for name in option.opts}
    flags |= {name for option in GLOBAL for name in option.opts}
    named = set(re.findall(r"`(--[a-z-]+)`", text))
    assert named <= flags
    tests = re.findall(r"`(tests/[^`]+)`", text)
    assert tests
    for path in tests:
        assert (ROOT / path).exists(), path


# Pages about the project


DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))

SOURCES = [ROOT / "server/queuelet", ROOT / "operator/queuelet_operator"]


def glossary() -> list[str]:
    """Return the terms of the glossary."""
    return re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def all_texts() -> str:
    """All text that may use a term: documents and code, without the glossary, in lower case."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("helm/**/*.md"), *ROOT.glob("crds/*.yaml")]
    code = [path for root in SOURCES for path in (*root.rglob("*.py"), *root.rglob("*.proto"))]
    files = [path for path in (*pages, *code) if path.name != "glossary.md" and not path.name.endswith("_pb2.py")]
    return " ".join(path.read_text() for path in files).lower()


def test_the_glossary_defines_each_term_once() -> None:
    terms = glossary()
    assert len(terms) > 50
    assert len(terms) == len(set(terms))


@pytest.mark.parametrize("term", glossary())
def test_a_term_of_the_glossary_is_in_use(term: str, all_texts: str) -> None:
    """On one line or two, in singular or plural."""
    words = r"[\s#*`]+".join(map(re.escape, term.lower().split()))
    assert re.search(rf"\b{words}(s|es|d|ed|ing)?\b", all_texts)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_record_has_its_parts_and_names_files_that_there_are(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {int(page.stem[:4])}. ")
    assert re.findall(r"^(?:## )?(Status|Context|Decision|Consequences)", text, re.MULTILINE) == [
        "Status",
        "Context",
        "Decision",
        "Consequences",
    ]
    assert f"]({page.name})" in (page.parent / "README.md").read_text()
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert any((root / name).exists() for root in (ROOT, *SOURCES)), name


def names_in(path: Path) -> set[str]:
    """Return what a module defines: functions, classes and constants, and methods as `Class.method`."""
    found: set[str] = set()
    for node in parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            functions = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {node.name, *(f"{node.name}.{each.name}" for each in functions)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {each.id for each in targets if isinstance(each, ast.Name)}
    return found


def test_the_table_of_where_things_are_names_what_there_is() -> None:
    section = (ROOT / "docs/architecture.md").read_text().split("## Where is ...")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    rows = [row for row in rows if not row[0].startswith("---")]
    assert len(rows) >= 8
    for question, module, where in rows:
        (path,) = (root / module.strip("`") for root in SOURCES if (root / module.strip("`")).exists())
        names = re.findall(r"`([^`]+)`", where)
        assert names, question
        assert set(names) <= names_in(path), question


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_a_page_for_contributors_names_files_that_there_are(page: str) -> None:
    for name in re.findall(r"`([\w.-]+/[\w./-]*)`", (ROOT / page).read_text()):
        # Made by `make`, so not in the repository.
        if not name.startswith("dist/"):
            assert any((root / name).exists() for root in (ROOT, *SOURCES)), name


def test_the_architecture_is_that_of_the_import_contracts() -> None:
    remedy = "run `make generate`"
    assert architecture.PICTURE.read_text() == architecture.picture(), remedy
    assert architecture.PAGE.read_text() == architecture.page(), remedy


def prose(page: Path) -> str:
    """Return a page without its code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "`code`", page.read_text(), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages_with_links() -> list[Path]:
    """Return all documents, without news fragments, whose links are those of the changelog."""
    folders = ("", "docs/", "docs/decisions/", "helm/*/", "bench/", "tools/", "newsfragments/", ".github/")
    found = [path for folder in folders for path in sorted(ROOT.glob(f"{folder}*.md"))]
    return [path for path in found if path.parent.name != "newsfragments" or path.name == "README.md"]


@pytest.mark.parametrize("page", pages_with_links(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
