"""What a protocol gives back to the web side, and two small caches of ready bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO

XML_TYPE = "text/xml; charset=utf-8"
#: Documents about jobs and the catalogue change; none may be kept by a cache on the way.
NO_STORE = (("Cache-Control", "no-store"),)


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response held in memory. ``headers`` come on top of type and length."""

    body: bytes
    content_type: str = XML_TYPE
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FileAnswer:
    """A file to send: from an open stream, under a name, as that MIME type, in Base64 if ``as_base64``.

    The web side closes the stream.
    """

    stream: BinaryIO
    name: str
    content_type: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    as_base64: bool = False


@dataclass(frozen=True)
class StreamAnswer:
    """A body that is sent a piece at a time, of a length that is not known before."""

    chunks: Iterator[bytes]
    content_type: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class RevisionCache:
    """Rendered documents of one catalogue revision. A new revision empties it; keys must come from a bounded set."""

    def __init__(self) -> None:
        self._held: tuple[int | None, dict[Hashable, bytes]] = (None, {})

    def get(self, revision: int, key: Hashable, render: Callable[[], bytes]) -> bytes:
        """The document under ``key``, rendered at most once a revision (or a few times, by threads at once)."""
        held_revision, documents = self._held
        if held_revision != revision:
            documents = {}
            self._held = (revision, documents)
        document = documents.get(key)
        if document is None:
            document = documents[key] = render()
        return document


class RecentDocuments:
    """The last small documents, by key: what clients poll. Larger ones than ``largest`` bytes are not kept."""

    def __init__(self, count: int = 1000, largest: int = 32_000) -> None:
        self._count = count
        self._largest = largest
        self._documents: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> bytes | None:
        """The document under ``key``, if it is still held."""
        with self._lock:
            document = self._documents.get(key)
            if document is not None:
                self._documents.move_to_end(key)
            return document

    def put(self, key: Hashable, document: bytes) -> None:
        """Hold a document, and let go of the one used least recently."""
        if len(document) > self._largest:
            return
        with self._lock:
            self._documents[key] = document
            while len(self._documents) > self._count:
                self._documents.popitem(last=False)
