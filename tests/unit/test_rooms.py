"""Who may import whom: docs/architecture.md, «Rooms and who may import whom», read from the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Room -> what nothing in it may import.
FORBIDDEN = {
    "protocols": ("wps_hpc.clusters", "wps_hpc.app", "wps_hpc.worker", "wps_hpc.cli"),
    "clusters": ("wps_hpc.protocols", "wps_hpc.jobs", "wps_hpc.app", "wps_hpc.worker", "wps_hpc.cli"),
    "jobs": (
        "wps_hpc.protocols",
        "wps_hpc.clusters.schedulers",
        "wps_hpc.clusters.transports",
        "wps_hpc.clusters.spooler",
        "wps_hpc.app",
        "wps_hpc.worker",
        "wps_hpc.cli",
    ),
    "processes": tuple(f"wps_hpc.{room}" for room in ("protocols", "clusters", "jobs", "config", "errors", "cli")),
}
#: The interface of all schedulers is nobody's in particular.
ALLOWED = {"wps_hpc.clusters.schedulers.base", "wps_hpc.clusters.transports.base"}


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a module imports, also within functions and for types alone."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(room: str, folder: Path) -> list[str]:
    """What the modules of a room import against the rules."""
    return [
        f"{file.relative_to(folder)}: {name}"
        for file in sorted(folder.rglob("*.py"))
        for name in imports(file)
        if any(f"{name}.".startswith(f"{other}.") for other in FORBIDDEN[room])
        and not any(f"{name}.".startswith(f"{common}.") for common in ALLOWED)
    ]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_that_it_must_not_know(room: str) -> None:
    assert breaches(room, ROOT / "wps_hpc" / room) == []


def test_a_breach_is_seen(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from wps_hpc.clusters.schedulers.base import JobOrder\n"
        "from wps_hpc.clusters import schedulers\n"
        "def late():\n    import wps_hpc.protocols.xml\n"
    )
    assert breaches("jobs", tmp_path) == ["bad.py: wps_hpc.clusters.schedulers", "bad.py: wps_hpc.protocols.xml"]
