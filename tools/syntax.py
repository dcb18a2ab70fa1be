"""Parses Python source."""

from __future__ import annotations

import ast
import gc


def parse(source: str) -> ast.Module:
    """Return the syntax tree of a module, without a garbage collection meanwhile.

    A collection can log a traceback, for which Python 3.11 parses a line of code. If that happens while it parses other
    code, it raises `SystemError: AST constructor recursion depth mismatch`.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if was_enabled:
            gc.enable()
