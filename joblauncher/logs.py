"""``stdout.log`` and ``stderr.log``: what a process printed, its beginning and its end, never more than the cap."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

_PIECE = 1 << 16


class CappedLog:
    """A log of at most ``limit`` bytes (and one line that says what is missing): the first half and the last half.

    The first half is written as it comes, the rest is kept back until ``close``. A disk that is full costs log, never
    the process.
    """

    def __init__(self, path: Path, limit: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._head_left = limit // 2
        self._tail_limit = limit - limit // 2
        self._tail: deque[bytearray] = deque()
        self._tail_size = 0
        self._cut = 0
        self._unwritten = 0

    def feed(self, content: bytes) -> None:
        """Take in what was printed."""
        head, rest = content[: self._head_left], content[self._head_left :]
        if head:
            self._head_left -= len(head)
            self._write(head)
        if rest:
            self._keep(rest)

    def note(self, text: str) -> None:
        """Take in a line of the launcher's own."""
        self.feed(f"joblauncher: {text}\n".encode(errors="replace"))

    def close(self) -> None:
        """Write the end, with a line that says how much was cut before it."""
        tail = b"".join(self._tail)
        surplus = max(len(tail) - self._tail_limit, 0)
        self._cut += surplus
        if self._cut:
            self._write(f"\n[joblauncher: {self._cut} bytes cut here]\n".encode())
        self._write(tail[surplus:])
        if self._unwritten:
            self._write(f"\n[joblauncher: {self._unwritten} bytes not written: disk full]\n".encode())
        os.close(self._file)

    def _keep(self, content: bytes) -> None:
        # In pieces of some size: a process that prints byte by byte must not cost an object for each.
        if not self._tail or len(self._tail[-1]) >= _PIECE:
            self._tail.append(bytearray())
        self._tail[-1] += content
        self._tail_size += len(content)
        while self._tail and self._tail_size - len(self._tail[0]) >= self._tail_limit:
            dropped = len(self._tail.popleft())
            self._tail_size -= dropped
            self._cut += dropped

    def _write(self, content: bytes) -> None:
        while content:
            try:
                written = os.write(self._file, content)
            except OSError:
                self._unwritten += len(content)
                return
            content = content[written:]
