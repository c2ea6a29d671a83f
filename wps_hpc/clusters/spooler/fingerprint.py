"""Which code a spooler runs, so that a worker after an upgrade does not talk to the code of before."""

from __future__ import annotations

import functools
import hashlib
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

#: The packages whose source counts: what the spooler is made of, and what a warm job runs without starting a Python.
_PACKAGES = ("joblauncher", "wps_hpc.processes", "wps_hpc.clusters.spooler")


@functools.cache
def fingerprint() -> str:
    """A digest of this Python, of dill and of the source files on disk; computed once in a process's life."""
    digest = hashlib.sha256(f"{sys.prefix} {sys.version} dill {metadata.version('dill')}".encode())
    for file in sorted(_sources()):
        digest.update(str(file).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _sources() -> list[Path]:
    folders = [folder for package in _PACKAGES for folder in _folders(package)]
    return [file for folder in folders for file in folder.rglob("*.py")]


def _folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
