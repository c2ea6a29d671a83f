"""Conformance: a test module per standard, a test per requirement, and the list of them in `docs/conformance.md`.

A module `test_<standard>.py` begins its docstring with the standard's title. Its tests say what they show:

    @requirement("http://www.opengis.net/spec/WPS/2.0/req/…", "What it asks, in one line.")
    def test_…(): …

A test may carry several. `NOT_SHOWN`, if the module has it, maps the identifiers of requirements that no test shows to
the reason. `make conformance` writes the list; a test compares it with the committed one.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "conformance.md"

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True)
class Requirement:
    """A requirement of a standard: its identifier there, and what it asks in one line."""

    identifier: str
    text: str


@dataclass(frozen=True)
class Row:
    """A requirement and what is known of it: the test that shows it, or why there is none."""

    requirement: Requirement
    test: str | None
    reason: str | None = None


def requirement(identifier: str, text: str) -> Callable[[Test], Test]:
    """Say which requirement a test shows. ``text`` is one line; several decorators are read from top to bottom."""
    if not identifier.strip() or "\n" in text or not text.strip():
        raise ValueError("a requirement has an identifier and a text of one line")

    def mark(test: Test) -> Test:
        test.__dict__.setdefault("requirements", []).insert(0, Requirement(identifier, text))
        return test

    return mark


# -------------------------------------------------------------------------------------------------------- the list


def modules() -> list[ModuleType]:
    """The modules of this folder that show the requirements of a standard, in the order of their names."""
    names = sorted(path.stem for path in HERE.glob("test_*.py"))
    found = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [module for module in found if any(True for _ in rows(module))]


def rows(module: ModuleType) -> Iterator[Row]:
    """What a module shows, in the order of its tests, then what it does not show."""
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test):
            for shown in getattr(test, "requirements", ()):
                yield Row(shown, name, _why_skipped(test))
    not_shown: Mapping[str, str] = getattr(module, "NOT_SHOWN", {})
    for identifier, reason in not_shown.items():
        yield Row(Requirement(identifier, ""), None, reason)


def _why_skipped(test: Any) -> str | None:
    """The reason that stands in a test's skip or xfail mark; a mark without one is an error."""
    marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
    for mark in marks:
        if mark.name in ("skip", "skipif", "xfail"):
            reason: str | None = mark.kwargs.get("reason")
            if not reason:
                raise ValueError(f"{test.__name__} has a mark {mark.name} without a reason")
            return reason
    return None


def document() -> str:
    """`docs/conformance.md` as it should be."""
    parts = [_INTRODUCTION, *(_section(module) for module in modules())]
    return "\n".join(parts)


def write() -> None:
    """Write `docs/conformance.md`."""
    DOCUMENT.write_text(document())


_INTRODUCTION = """\
# Conformance

Written by `make conformance` from the tests in `tests/conformance`; do not edit. Each row is a requirement or an
abstract test of a standard, named by the standard's own identifier, and the test that shows it.
"""


def _section(module: ModuleType) -> str:
    title = (module.__doc__ or module.__name__).strip().splitlines()[0].rstrip(".")
    listed = list(rows(module))
    shown = sum(row.test is not None and row.reason is None for row in listed)
    place = f"tests/conformance/{module.__name__.rpartition('.')[2]}.py"
    head = f"## {title}\n\n{shown} of {len(listed)} shown by `{place}`."
    return "\n".join([head, "", "| requirement | what | shown by |", "|---|---|---|", *map(_line, listed), ""])


def _line(row: Row) -> str:
    test = f"`{row.test}`" if row.test else "no test"
    by = f"{test}: {row.reason}" if row.reason else test
    cells = (f"`{_short(row.requirement.identifier)}`", row.requirement.text, by)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _short(identifier: str) -> str:
    """An identifier without the part that all of a standard share."""
    return identifier.removeprefix("http://www.opengis.net/spec/")
