"""Files that are either whole or not there: temporary name, write, fsync, rename."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union


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
        temporary.unlink(missing_ok=True)
        raise


def _write_new(path: Path, data: bytes, durable: bool, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
