"""Makes a Debian package for glibc 2.38 run on 2.36: older_glibc.py FOLDER, with the package unpacked in FOLDER.

All that such a package may need of 2.38 is ``strtol`` and its kind under the names that C23 gave them: the older
functions differ in not reading a ``0b`` prefix. In each program's table of dynamic symbols the newer name is made to
begin behind its prefix, and the version that it asks for becomes that of the older function. Anything else that is
newer than 2.36 is an error, and nothing is half done: a file is written when all of it was understood.

ELF for 64 bits, least byte first: System V ABI, chapters 4 and 5; versions of symbols: LSB 5.0, chapter 10.
"""

import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "__isoc23_"
NEWER, OLDER = "GLIBC_2.38", "GLIBC_2.2.5"
NEWEST = 36
DYNAMIC_SYMBOLS, NEEDED_VERSIONS, SYMBOL_VERSIONS = 11, 0x6FFFFFFE, 0x6FFFFFFF
#: Fields: name, type, flags, address, offset, size, link, info, alignment, entry size.
SECTION = struct.Struct("<IIQQQQIIQQ")
#: A library's needs: version, count, file, first, next; and one of them: hash, flags, index, name, next.
LIBRARY, NEED = struct.Struct("<HHIII"), struct.Struct("<IHHII")
SYMBOL_BYTES = 24


class Unknown(Exception):
    """Something that this program does not know how to make older."""


@dataclass(frozen=True)
class Need:
    """One version that a program needs: where its entry lies, and what it says."""

    place: int
    hash: int
    index: int
    name: int
    version: str


class Program:
    """A dynamically linked file. ``content`` is changed in place."""

    def __init__(self, content: bytearray) -> None:
        self.content = content
        start, size, count = *struct.unpack_from("<Q", content, 0x28), *struct.unpack_from("<HH", content, 0x3A)
        sections = [SECTION.unpack_from(content, start + size * number) for number in range(count)]
        self.sections = {section[1]: section for section in sections}
        symbols = self.sections.get(DYNAMIC_SYMBOLS)
        self.names = sections[symbols[6]][4] if symbols else 0

    def text(self, offset: int) -> str:
        """A name in the table of names."""
        begin = self.names + offset
        return self.content[begin : self.content.index(0, begin)].decode()

    def needs(self) -> Iterator[Need]:
        """Every version of every library that the program needs."""
        place = self.sections[NEEDED_VERSIONS][4]
        while True:
            _, count, _, first, following = LIBRARY.unpack_from(self.content, place)
            entry = place + first
            for _ in range(count):
                number, _, index, name, step = NEED.unpack_from(self.content, entry)
                yield Need(entry, number, index, name, self.text(name))
                entry += step
            if not following:
                return
            place += following

    def make_older(self) -> list[str]:
        """Let the program need nothing newer; the names of the functions that it gets in their older form."""
        needs = list(self.needs())
        too_new = [need for need in needs if _minor(need.version) > NEWEST]
        if not too_new:
            return []
        older = next((need for need in needs if need.version == OLDER), None)
        if older is None or any(need.version != NEWER for need in too_new):
            raise Unknown(", ".join(sorted({need.version for need in too_new})))
        functions = [self._rename(place) for place in self._symbols({need.index for need in too_new})]
        for need in too_new:
            struct.pack_into("<I", self.content, need.place, older.hash)
            struct.pack_into("<I", self.content, need.place + 8, older.name)
        return functions

    def _symbols(self, versions: set[int]) -> Iterator[int]:
        table, numbers = self.sections[DYNAMIC_SYMBOLS], self.sections[SYMBOL_VERSIONS][4]
        for number in range(table[5] // SYMBOL_BYTES):
            (version,) = struct.unpack_from("<H", self.content, numbers + 2 * number)
            if version & 0x7FFF in versions:
                yield table[4] + SYMBOL_BYTES * number

    def _rename(self, place: int) -> str:
        (name,) = struct.unpack_from("<I", self.content, place)
        text = self.text(name)
        if text not in (f"{PREFIX}strtol", f"{PREFIX}strtoul", f"{PREFIX}strtoll", f"{PREFIX}strtoull"):
            raise Unknown(text)
        struct.pack_into("<I", self.content, place, name + len(PREFIX))
        return text.removeprefix(PREFIX)


def _minor(version: str) -> int:
    found = re.fullmatch(r"GLIBC_2\.(\d+)(?:\.\d+)?", version)
    return int(found[1]) if found else 0


def programs(folder: Path) -> Iterator[tuple[Path, Program]]:
    """Every dynamically linked file in a folder that needs versions of symbols."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = bytearray(path.read_bytes())
            if content[:6] == b"\x7fELF\x02\x01":
                program = Program(content)
                if NEEDED_VERSIONS in program.sections:
                    yield path, program


def relax_control(folder: Path) -> None:
    """Let the package's description ask for the older glibc, and say that it was changed."""
    control = folder / "DEBIAN" / "control"
    text = re.sub(r"libc6 \(>= 2\.3[78]\)", f"libc6 (>= 2.{NEWEST})", control.read_text())
    control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1+older.glibc", text))
    # The sums of the files as they came.
    (folder / "DEBIAN" / "md5sums").unlink(missing_ok=True)


def main(folder: Path) -> int:
    """Change the package that is unpacked in a folder; 1 when it needs what is not known here."""
    changed = []
    for path, program in programs(folder):
        try:
            functions = program.make_older()
        except Unknown as unknown:
            print(f"{path.relative_to(folder)} needs {unknown}, for which this glibc has nothing", file=sys.stderr)
            return 1
        if functions:
            changed.append((path, program.content, functions))
    for path, content, functions in changed:
        path.write_bytes(content)
        print(f"{path.relative_to(folder)}: {', '.join(functions)}")
    relax_control(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
