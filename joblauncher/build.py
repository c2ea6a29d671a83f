"""``joblauncher.pyz``: the node half in one file, so that a node needs nothing but Python.

Beside each source lies what this Python has compiled of it, since compiling took longer than all else that a launcher
does; a node with another Python passes it over. The same sources and the same Python always give the same bytes, and
name the folder that the file is installed in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from joblauncher.version import VERSION

#: Every file of ``wps_hpc`` that runs on a node (Python 3.9, standard library and dill alone), beside all of
#: ``joblauncher``.
NODE_HALF = (
    "__init__.py",
    "processes/__init__.py",
    "processes/checks.py",
    "processes/conversion.py",
    "processes/declarations.py",
    "processes/description.py",
    "processes/docstrings.py",
    "processes/formats.py",
    "processes/functions.py",
    "processes/inputs.py",
    "processes/literals.py",
    "processes/outputs.py",
    "processes/payload.py",
    "processes/pywps_description.py",
    "processes/pywps_inputs.py",
    "processes/pywps_outputs.py",
    "processes/pywps_process.py",
    "processes/pywps_run.py",
    "processes/run.py",
    "processes/signature.py",
    "processes/values.py",
)

NAME = "joblauncher.pyz"
#: Beside the file: its SHA-256, by which damage is seen.
DIGEST = "sha256"
#: Flags of a ``.pyc`` that is not compared with its source (PEP 552).
_UNCHECKED = (1).to_bytes(4, "little")
#: The earliest time that a zip file can hold: the same for every file, so that no build differs by its hour.
_EPOCH = (1980, 1, 1, 0, 0, 0)
#: Processes may live in parts of an installed wps_hpc that do not travel along, such as its examples.
_MAIN = b"""import pkgutil
import sys

import wps_hpc
from joblauncher.__main__ import main

wps_hpc.__path__ = pkgutil.extend_path(wps_hpc.__path__, "wps_hpc")
sys.exit(main())
"""
_READ_ONLY = 0o444
_READ_ONLY_FOLDER = 0o555


def build_pyz(target: Path) -> str:
    """Write ``joblauncher.pyz`` to ``target``, whole or not at all; returns its SHA-256 in hexadecimal."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
        temporary = Path(stream.name)
        try:
            stream.write(b"#!/usr/bin/env python3\n")
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in _files():
                    archive.writestr(_entry(name), content)
            stream.flush()
            os.fsync(stream.fileno())
            temporary.chmod(_READ_ONLY)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return hashlib.sha256(target.read_bytes()).hexdigest()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | _READ_ONLY) << 16
    return entry


def _compiled(name: str, source: bytes) -> bytes:
    """The content of a ``.pyc`` that is taken as it is (PEP 552). Marshalled in the version without references, which
    depend on what else the process that compiles has in memory."""
    code = compile(source, f"{NAME}/{name}", "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source) + marshal.dumps(code, 2)


def _files() -> Iterator[tuple[str, bytes]]:
    """Everything that goes into the file, by name."""
    for name, content in sorted(_contents()):
        yield name, content
        if name.endswith(".py") and name != "__main__.py":
            yield f"{name}c", _compiled(name, content)


def _fingerprint() -> str:
    """Names the build that these sources and this Python give, in hexadecimal, without making it."""
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for name, content in sorted(_contents()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _contents() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN
    yield "joblauncher/VERSION", VERSION.encode()
    for package in ("joblauncher", "dill"):
        folder = _folder(package)
        for file in folder.rglob("*.py"):
            if "tests" not in file.relative_to(folder).parts:
                yield f"{package}/{file.relative_to(folder).as_posix()}", file.read_bytes()
    for name in NODE_HALF:
        yield f"wps_hpc/{name}", (_folder("wps_hpc") / name).read_bytes()


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed as files", name=package)
    return Path(spec.origin).parent


def install_launcher(root: Path) -> Path:
    """The path of this version's launcher below the storage root, built and installed unless it is there.

    ``<root>/launcher/<version>-<hash>/joblauncher.pyz``, read-only. Any number of servers may do so at once, on any
    number of hosts: what one installs is what the others with that Python would have.
    """
    parent = root / "launcher"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = parent / f"{VERSION}-{_fingerprint()[:12]}"
    if not _is_whole(target):
        staging = Path(tempfile.mkdtemp(prefix=".", dir=parent))
        try:
            (staging / DIGEST).write_text(build_pyz(staging / NAME))
            _install(staging, target)
        finally:
            _remove(staging)
    return target / NAME


def _is_whole(folder: Path) -> bool:
    try:
        return hashlib.sha256((folder / NAME).read_bytes()).hexdigest() == (folder / DIGEST).read_text()
    except FileNotFoundError:
        return False


def _install(staging: Path, target: Path) -> None:
    """Rename the folder into place. One that is there and differs (a torn disk, a hand) is put right file by file."""
    staging.chmod(0o700)
    try:
        staging.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        target.chmod(0o700)
        for name in (NAME, DIGEST):
            (staging / name).replace(target / name)
    target.chmod(_READ_ONLY_FOLDER)


def prune_launchers(root: Path, in_use: Collection[Path]) -> list[Path]:
    """Remove the launchers below the storage root that are not ``in_use`` (paths as ``install_launcher`` gave them).

    Returns the folders that were removed. Folders of builds under way are left alone.
    """
    kept = {path.parent for path in in_use}
    parent = root / "launcher"
    unused = [folder for folder in sorted(parent.glob("[!.]*")) if folder.is_dir() and folder not in kept]
    for folder in unused:
        _remove(folder)
    return unused


def _remove(folder: Path) -> None:
    if folder.is_dir():
        folder.chmod(0o700)
        shutil.rmtree(folder)
