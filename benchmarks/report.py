"""How the benchmarks print what they have measured: numbers, Markdown tables, and the machine that they ran on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """The same thing by the server and by what it stands beside, in ``unit``; ``load`` is the machine's, before."""

    title: str
    beside: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    load: float

    @property
    def medians(self) -> tuple[float | None, float | None]:
        """Of either side; None where nothing could be measured."""
        ours, theirs = (statistics.median(values) if values else None for values in (self.ours, self.theirs))
        return ours, theirs

    @property
    def ratio(self) -> float | None:
        """How many times the other side."""
        ours, theirs = self.medians
        return None if ours is None or not theirs else ours / theirs


def number(value: float | None, unit: str = "") -> str:
    """A figure with a sensible number of digits; «invalid» for none."""
    if value is None:
        return "invalid"
    digits = 0 if value >= 100 else 1
    return f"{value:,.{digits}f}{' ' if unit else ''}{unit}"


def table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its heading, all columns but the first are aligned to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    ruler = ["-" * (width - 1) + (":" if column else "-") for column, width in enumerate(widths)]
    rows = [lines[0], ruler, *lines[1:]]
    return "\n".join(f"| {' | '.join(map(_aligned, row, widths, range(len(row))))} |" for row in rows)


def machine() -> str:
    """Time, processors, load, system and Python, so that figures can be compared."""
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} × {_processor()}, "
        f"load {os.getloadavg()[0]:.1f} before, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def versions(packages: Iterable[str]) -> str:
    """The installed versions of these packages."""
    return ", ".join(f"{name} {version(name)}" for name in packages)


def _aligned(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column else text.ljust(width)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
