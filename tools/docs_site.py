"""Builds the documentation as a site: `make docs`.

Documents are written for readers of the repository, with links to each other and to files of all folders. So the site's
source is a copy of all pages in the folders where they are, with the files that they link to. A link to a folder leads
to its README, or to a list of its files. mkdocs then checks every link and every anchor.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

SOURCE = ROOT / "dist" / "site-source"

PAGES = ("*.md", "docs/**/*.md", "helm/*/README.md", "bench/README.md", "tools/README.md", "newsfragments/README.md")
"""The folders and files of the pages."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)(?=[)#])")
"""The path of a link into the repository."""


def pages() -> Iterator[Path]:
    """Yield the documents."""
    for pattern in PAGES:
        yield from ROOT.glob(pattern)


def stage(page: Path) -> None:
    """Copy a page, and the files that it links to."""

    def staged(link: re.Match[str]) -> str:
        target = (page.parent / link[0]).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            raise SystemExit(f"{page.relative_to(ROOT)}: the link {link[0]} leads nowhere; correct it")
        if target.is_dir():
            _list_folder(target)
            return f"{link[0].rstrip('/')}/README.md"
        if target.suffix != ".md":
            _copy(target)
        return link[0]

    # Every second part is code.
    parts = re.split(r"(```.*?```)", page.read_text(), flags=re.DOTALL)
    text = "".join(part if index % 2 else _LINK.sub(staged, part) for index, part in enumerate(parts))
    _place(page).write_text(text)


def _list_folder(folder: Path) -> None:
    """Make a page of a folder that has none, and copy the files of the folder."""
    if (folder / "README.md").exists():
        return
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for file in files:
        _copy(file)
    lines = [f"- [{name}]({name})" for name in (str(file.relative_to(folder)) for file in files)]
    _place(folder / "README.md").write_text("\n".join([f"# {folder.relative_to(ROOT)}", "", *lines, ""]))


def _copy(file: Path) -> None:
    shutil.copy(file, _place(file))


def _place(file: Path) -> Path:
    """Return the path of a file of the repository in the site's source, creating its folder."""
    place = SOURCE / file.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def main() -> int:
    """Build the site; return the exit code of mkdocs."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for page in pages():
        stage(page)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yaml")]
    # The theme would print a warning about mkdocs 2, which we do not use.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "true"}
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
