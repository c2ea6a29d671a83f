"""Files that are either whole or not there: temporary name, write, fsync, rename."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Union

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def write_atomic(path: Path, content: Union[bytes, str], *, durable: bool = True, mode: int = 0o600) -> None:
    """Replace ``path`` with ``content`` in one step, as readers on this and other hosts see it.

    ``durable`` adds fsync before the rename (control and final files); progress goes without. A failure (disk full,
    say) leaves the former file as it was and removes the temporary one; the ``OSError`` goes to the caller.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write_new(temporary, data, durable, mode)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _write_new(path: Path, data: bytes, durable: bool, mode: int) -> None:
    try:
        descriptor = os.open(path, _NEW, mode)
    except FileExistsError:
        # Left by a process of that number which died; or planted by a job: a link is not followed, no pipe waited for.
        path.unlink()
        descriptor = os.open(path, _NEW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
