"""Types that exist for Python only."""

from typing import TypeAlias

Event: TypeAlias = tuple[int, int, int, int, bytes]
"""kind, call, index, number, data"""

Metadata: TypeAlias = list[tuple[str, str | bytes]]
"""Pairs; those of one key are together, in order of arrival. Keys are lower case; values of `-bin` keys are bytes."""
