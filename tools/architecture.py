"""Draws docs/architecture.svg and writes the rules of imports into docs/architecture.md.

Run it by `make generate`, or by `python -m tools.architecture`. Both files come from the import contracts in
pyproject.toml, which `make check` compares with the code. So they are true as long as they are what this script makes,
and a test checks that.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]

PICTURE = ROOT / "docs" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"

BEGIN, END = "<!-- rules begin -->\n", "<!-- rules end -->\n"
"""What surrounds the generated table in the page."""

SOURCE_ROOTS = {"queuelet": ROOT / "server" / "queuelet", "queuelet_operator": ROOT / "operator" / "queuelet_operator"}

COLUMNS = (
    ("queuelet", "queuelet.server", "queuelet.server.handlers"),
    ("queuelet.core", "queuelet.client"),
    ("queuelet.stores.durable", "queuelet.stores.disk", "queuelet_operator", "queuelet_operator.plan"),
)
"""The packages to draw, from left to right, and below each other in a column."""

# All lengths are in pixels.
_COLUMN, _GAP, _MARGIN, _PADDING = 310, 24, 16, 12
_BOX, _BOX_GAP, _ROW_GAP, _HEADING = 24, 6, 10, 30
_LETTER = 7.3


@dataclass(frozen=True, slots=True)
class Box:
    """A module or a package in the picture. Positions are relative to its panel."""

    label: str
    is_package: bool
    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True)
class Panel:
    """A package whose layers are drawn: the upper rows may import the lower ones."""

    title: str
    boxes: Sequence[Box]
    rules: Sequence[float]
    """Where the lines between the layers are."""
    height: float


def contracts() -> list[dict[str, Any]]:
    """Return the import contracts of pyproject.toml."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[dict[str, Any]] = pyproject["tool"]["importlinter"]["contracts"]
    return found


def layers_of(package: str) -> list[list[str]]:
    """Return the modules of each layer of a package, from top to bottom."""
    (contract,) = (each for each in contracts() if package in each.get("containers", ()))
    return [re.split(r"\s*[|:]\s*", layer) for layer in contract["layers"]]


def is_package(name: str) -> bool:
    """Return whether a dotted name is a package instead of a module."""
    top, *rest = name.split(".")
    return SOURCE_ROOTS[top].joinpath(*rest).is_dir()


def panel(package: str) -> Panel:
    """Lay out the layers of a package: a row for each, or several where a row is full."""
    boxes: list[Box] = []
    rules: list[float] = []
    y: float = _HEADING + _PADDING
    for layer in layers_of(package):
        if boxes:
            rules.append(y - _ROW_GAP / 2)
        x: float = _PADDING
        for module in layer:
            in_folder = is_package(f"{package}.{module}")
            label = f"{module}/" if in_folder else module
            width = len(label) * _LETTER + 14
            if x > _PADDING and x + width > _COLUMN - _PADDING:
                x, y = _PADDING, y + _BOX + _BOX_GAP
            boxes.append(Box(label, in_folder, x, y, width))
            x += width + _BOX_GAP
        y += _BOX + _ROW_GAP
    return Panel(package, boxes, rules, y - _ROW_GAP + _PADDING)


def picture() -> str:
    """Return the picture as SVG."""
    columns = [[panel(package) for package in column] for column in COLUMNS]
    height = max(sum(each.height + _GAP for each in column) for column in columns) - _GAP + 2 * _MARGIN
    width = len(columns) * (_COLUMN + _GAP) - _GAP + 2 * _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}" '
        'role="img" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">'
    )
    lines = [
        head,
        "<title>The packages of Queuelet: a row may import the rows below it</title>",
        f'<rect width="{width}" height="{height:g}" fill="#ffffff"/>',
    ]
    x = float(_MARGIN)
    for column in columns:
        y = float(_MARGIN)
        for each in column:
            lines += _drawn(each, x, y)
            y += each.height + _GAP
        x += _COLUMN + _GAP
    return "\n".join([*lines, "</svg>", ""])


def _drawn(each: Panel, x: float, y: float) -> Iterator[str]:
    yield f'<g transform="translate({x:g} {y:g})">'
    yield f'<rect width="{_COLUMN}" height="{each.height:g}" rx="8" fill="#f6f8fa" stroke="#57606a"/>'
    yield f'<text x="{_PADDING}" y="22" font-size="15" font-weight="bold" fill="#1f2328">{escape(each.title)}</text>'
    for rule in each.rules:
        yield f'<path d="M{_PADDING} {rule:g}H{_COLUMN - _PADDING}" stroke="#d0d7de" stroke-dasharray="3 3"/>'
    for box in each.boxes:
        fill = "#cfe3fa" if box.is_package else "#ffffff"
        yield (
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{_BOX}" rx="4" fill="{fill}" '
            'stroke="#57606a"/>'
        )
        yield f'<text x="{box.x + 7:g}" y="{box.y + 16:g}" fill="#1f2328">{escape(box.label)}</text>'
    yield "</g>"


def rules() -> str:
    """Return a table of the contracts that forbid imports."""
    rows = [_rule(each) for each in contracts() if each["type"] in {"forbidden", "protected"}]
    return "\n".join(["| rule | this | does not import |", "| --- | --- | --- |", *rows, ""])


def _rule(contract: dict[str, Any]) -> str:
    """Return the row of a contract."""
    if contract["type"] == "protected":
        allowed = _names(contract["allowed_importers"])
        return f"| {contract['name']}. | all modules | {_names(contract['protected_modules'])}, except in {allowed} |"
    forbidden = f"{_names(contract['forbidden_modules'])}{_except(contract)}"
    return f"| {contract['name']}. | {_names(contract['source_modules'])} | {forbidden} |"


def _except(contract: dict[str, Any]) -> str:
    importers = dict.fromkeys(each.split(" -> ")[0].removesuffix(".**") for each in contract.get("ignore_imports", ()))
    return f", except in {_names(importers)}" if importers else ""


def _names(modules: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in modules)


def page() -> str:
    """Return the page with the table as the contracts have it."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{rules()}\n{END}{after}"


def main() -> None:
    """Write both files."""
    PICTURE.write_text(picture())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
