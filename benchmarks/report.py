"""How the benchmarks print what they have measured: numbers, Markdown tables, and the machine that they ran on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path


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
