"""What commands print: aligned columns and times, readable by people and by ``awk``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """One line a row, its cells aligned two blanks apart."""
    table = [list(row) for row in rows]
    if not table:
        return []
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def moment(seconds: float | None) -> str:
    """Unix seconds as UTC, or a dash."""
    return "-" if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def printable(text: str) -> str:
    """Text from elsewhere without characters that could steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
