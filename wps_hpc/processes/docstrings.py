"""Docstrings in Google, NumPy and reST field style, read for the words that a process description needs.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Callable, Optional

#: Section headings of the Google and NumPy styles -> what they hold here; others end a section and are left out.
_SECTIONS: Mapping[str, str] = {
    "args": "parameters",
    "arguments": "parameters",
    "parameters": "parameters",
    "other parameters": "parameters",
    "keyword args": "parameters",
    "keyword arguments": "parameters",
    "inputs": "parameters",
    "returns": "returns",
    "return": "returns",
    "outputs": "returns",
    "attributes": "parameters",
    "raises": "",
    "yields": "",
    "example": "",
    "examples": "",
    "note": "",
    "notes": "",
    "see also": "",
    "references": "",
    "warnings": "",
    "warns": "",
}
_GOOGLE_HEADING = re.compile(r"(?P<name>[A-Za-z ]+):\s*$")
_NUMPY_RULE = re.compile(r"-{3,}\s*$")
_GOOGLE_ITEM = re.compile(r"\*{0,2}(?P<name>[A-Za-z_][\w.]*)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)$")
_NUMPY_ITEM = re.compile(r"\*{0,2}(?P<names>[A-Za-z_][\w.]*(?:\s*,\s*[A-Za-z_][\w.]*)*)\s*(?::.*)?$")
_FIELD = re.compile(r":(?P<kind>\w+)(?:\s+(?P<argument>[^:]*))?:\s*(?P<text>.*)$")
_PARAMETER_FIELDS = frozenset({"param", "parameter", "arg", "argument", "key", "keyword", "ivar", "var", "cvar"})


@dataclass(frozen=True)
class Docstring:
    """What a docstring says: first line, following paragraphs, a text for each parameter, a text of what it returns.

    ``parts`` has the named items of the returns section, where it names any (several outputs).
    """

    title: str = ""
    abstract: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    returns: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)


def parse(text: Optional[str]) -> Docstring:
    """Read a docstring; one that is None or empty gives empty words, an unknown style gives title and abstract."""
    lines = inspect.cleandoc(text or "").splitlines()
    body, sections, numpy = _split_sections(lines)
    body, fields, returned = _take_fields(body)
    title, abstract = _words(body)
    items = _numpy_items if numpy else _google_items
    returns = sections.get("returns", [])
    parts = items(returns)
    return Docstring(
        title,
        abstract,
        {**items(sections.get("parameters", [])), **fields},
        returned or _returns_text(returns, numpy),
        parts,
    )


def _split_sections(lines: list[str]) -> tuple[list[str], dict[str, list[str]], bool]:
    """Lines before any section; the lines of each section; whether the headings were NumPy's underlined ones."""
    body: list[str] = []
    sections: dict[str, list[str]] = {}
    current, numpy, index = body, False, 0
    while index < len(lines):
        heading, length = _heading(lines, index)
        if heading is None:
            current.append(lines[index])
        else:
            current = sections.setdefault(heading, [])
            numpy = numpy or length == 2
        index += length
    return body, sections, numpy


def _heading(lines: list[str], index: int) -> tuple[Optional[str], int]:
    """What the heading at this line begins, and how many lines it takes; None when it is no heading."""
    line = lines[index]
    underlined = index + 1 < len(lines) and _NUMPY_RULE.match(lines[index + 1])
    if underlined and line.strip().lower() in _SECTIONS:
        return _SECTIONS[line.strip().lower()], 2
    google = _GOOGLE_HEADING.match(line)
    if google and google["name"].strip().lower() in _SECTIONS:
        return _SECTIONS[google["name"].strip().lower()], 1
    return None, 1


def _words(lines: list[str]) -> tuple[str, str]:
    """The first line, and the paragraphs after it, each on one line."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", "\n".join(lines).strip()) if part.strip()]
    if not paragraphs:
        return "", ""
    return paragraphs[0].rstrip("."), "\n\n".join(paragraphs[1:])


def _take_fields(lines: list[str]) -> tuple[list[str], dict[str, str], str]:
    """Lines without reST fields; the texts of the parameters' fields; the text of ``:returns:``."""
    rest: list[str] = []
    found: list[tuple[str, str, list[str]]] = []
    for line in lines:
        match = _FIELD.match(line)
        if match:
            found.append((match["kind"], (match["argument"] or "").split(" ")[-1], [match["text"]]))
        elif found and (not line.strip() or line[:1].isspace()):
            found[-1][2].append(line)
        else:
            rest.append(line)
    fields = {name: _joined(text) for kind, name, text in found if kind in _PARAMETER_FIELDS}
    returned = [_joined(text) for kind, _, text in found if kind in ("return", "returns")]
    return rest, fields, returned[0] if returned else ""


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def _google_items(lines: list[str]) -> dict[str, str]:
    """``name (type): text`` with indented continuations."""
    depth = _depth(lines)
    return _items(lines, lambda line: _google_item(line[depth:]) if not line[depth : depth + 1].isspace() else None)


def _google_item(line: str) -> Optional[tuple[list[str], str]]:
    match = _GOOGLE_ITEM.match(line)
    return ([match["name"]], match["text"]) if match else None


def _numpy_items(lines: list[str]) -> dict[str, str]:
    """``name : type`` with the text indented below it."""
    return _items(lines, lambda line: _numpy_item(line) if not line[:1].isspace() else None)


def _numpy_item(line: str) -> Optional[tuple[list[str], str]]:
    match = _NUMPY_ITEM.match(line)
    return ([name.strip() for name in match["names"].split(",")], "") if match else None


def _items(lines: list[str], begins: Callable[[str], Optional[tuple[list[str], str]]]) -> dict[str, str]:
    texts: dict[str, list[str]] = {}
    names: list[str] = []
    for line in lines:
        item = begins(line)
        if item is not None:
            names = item[0]
            texts.update({name: [item[1]] for name in names})
        else:
            for name in names:
                texts[name].append(line)
    return {name: _joined(text) for name, text in texts.items()}


def _depth(lines: list[str]) -> int:
    return min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)


def _returns_text(lines: list[str], numpy: bool) -> str:
    """The text of a returns section without its type: NumPy has it on a line of its own, Google before a colon."""
    if numpy:
        return _joined([line for line in lines if line[:1].isspace()]) or _joined(lines)
    return re.sub(r"^[A-Za-z_][\w.\[\], ]*:\s+", "", _joined(lines))
