"""Nothing is believed of a job folder before it is checked: owner, no links, digests, versions.

The batch script carries the manifest's SHA-256; the manifest carries that of every file. What is loaded later is loaded
from the very bytes that were checked here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import ListedFile, Manifest, RecordError, RequestRecord, SharedFile, load
from joblauncher.formats.values import FileValue, NestedValue, Values

_CHUNK = 1 << 20
#: Asked once, before a warm process forks.
_HERE = platform.python_version()
_MANIFEST_LIMIT = 64 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: opening a fifo that stands in for a file must not wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HOW_LOADED = ("reference", "source", "value")


class Refused(Exception):
    """The job folder is not what was submitted. ``text`` is for the client, ``detail`` for the operator."""

    def __init__(self, detail: str, text: str = "", cause: str = "payload refused") -> None:
        super().__init__(detail)
        self.detail = detail
        self.text = text or "The job's files on the node are not those that the server submitted."
        self.cause = cause


@dataclass(frozen=True)
class OpenedJob:
    """A job folder whose manifest has been checked. ``descriptor`` stays open and is what its files are opened by."""

    descriptor: int
    folder: JobFolder
    manifest: Manifest


@dataclass(frozen=True)
class Checked:
    """The contents that the process is loaded from and run with, exactly as checked."""

    request: RequestRecord
    payload: bytes
    source: Optional[bytes]


def open_job(path: str, digest: str) -> OpenedJob:
    """Open a job folder and check its manifest against ``digest``; raises Refused."""
    descriptor = _open(path.rstrip("/") or "/", _DIRECTORY, None)
    _check_owner(path, os.fstat(descriptor))
    content = _read(descriptor, "manifest.json", _MANIFEST_LIMIT)
    if hashlib.sha256(content).hexdigest() != digest.lower():
        raise Refused("manifest.json is not the one whose SHA-256 came with the command")
    # The path that was opened, whatever links lead to it by now.
    real = Path(f"/proc/self/fd/{descriptor}").readlink()
    return OpenedJob(descriptor, JobFolder(real), _manifest(content))


def _manifest(content: bytes) -> Manifest:
    try:
        manifest = load(Manifest, content)
    except RecordError as error:
        raise Refused(str(error)) from error
    if manifest.loads not in _HOW_LOADED:
        raise Refused(f"manifest.json: loads is {manifest.loads!r}")
    return manifest


def check(job: OpenedJob) -> Checked:
    """Check every listed file, and versions; nothing has been loaded before this returns. Raises Refused."""
    listed = {entry.path: entry for entry in job.manifest.files}
    source = f"source/{job.manifest.module}.py"
    travels = source in listed or job.manifest.loads == "source"
    wanted = ["payload.dill", "request.json"] + ([source] if travels else [])
    for name in wanted:
        if name not in listed:
            raise Refused(f"manifest.json does not list {name}")
    contents = {name: _checked_content(job.descriptor, listed.pop(name)) for name in wanted}
    for entry in listed.values():
        _check_on_disk(job.descriptor, entry)
    request = _request(contents["request.json"])
    _check_inputs(request, job.manifest)
    check_versions(job.manifest)
    return Checked(request, contents["payload.dill"], contents.get(source))


def check_versions(manifest: Manifest) -> None:
    """Refuse pickled code of another minor Python before it is loaded: it would crash, or be silently wrong."""
    here = _HERE
    if manifest.loads == "value" and _minor(here) != _minor(manifest.python):
        text = (
            f"The process was packed by value on Python {manifest.python} and cannot be loaded on the node's "
            f"Python {here}; make it importable there, or give the node Python {_minor(manifest.python)}."
        )
        raise Refused(text, text)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _request(content: bytes) -> RequestRecord:
    try:
        return load(RequestRecord, content)
    except RecordError as error:
        raise Refused(str(error)) from error


def _check_inputs(request: RequestRecord, manifest: Manifest) -> None:
    """Every file that the request names must have been listed: nothing unchecked reaches the process."""
    listed = {entry.path for entry in manifest.files}
    shared = {entry.path: entry for entry in manifest.shared}
    for value in file_values(request.inputs):
        if value.shared and value.path in shared:
            _check_shared(shared[value.path])
        elif value.path not in listed or value.shared:
            raise Refused(f"request.json: {value.path!r} is not listed in manifest.json")


def file_values(values: Values) -> Iterator[FileValue]:
    """Every file among the values, nested ones included."""
    for occurrences in values.values():
        for value in occurrences:
            if isinstance(value, FileValue):
                yield value
            elif isinstance(value, NestedValue):
                yield from file_values(value.values)


def _check_shared(entry: SharedFile) -> None:
    try:
        descriptor = os.open(entry.path, _FILE)
        facts = os.fstat(descriptor)
        os.close(descriptor)
    except OSError as error:
        raise _input_gone(entry.path, error.strerror) from error
    if not stat.S_ISREG(facts.st_mode) or facts.st_size != entry.size:
        raise _input_gone(entry.path, f"it has {facts.st_size} bytes where {entry.size} were submitted")


def _input_gone(path: str, why: Optional[str]) -> Refused:
    text = "An input file is not available on the node, or has changed since the request was accepted."
    return Refused(f"{path}: {why}", text, "input not available")


def _checked_content(folder: int, entry: ListedFile) -> bytes:
    content = _read(folder, entry.path, entry.size)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise _differs(entry)
    return content


def _check_on_disk(folder: int, entry: ListedFile) -> None:
    digest = hashlib.sha256()
    descriptor = open_beneath(folder, entry.path)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if os.fstat(descriptor).st_size != entry.size:
            raise _differs(entry)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise _differs(entry)


def _differs(entry: ListedFile) -> Refused:
    return Refused(f"{entry.path} differs from what manifest.json lists")


def _read(folder: int, path: str, limit: int) -> bytes:
    """The file, read once; one byte more than ``limit`` if it is larger."""
    descriptor = open_beneath(folder, path)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        facts = os.fstat(descriptor)
        if path == "manifest.json":
            _check_owner(path, facts)
        return _read_up_to(stream.fileno(), min(facts.st_size, limit) + 1)


def _read_up_to(descriptor: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.read(descriptor, min(size, _CHUNK))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def open_beneath(folder: int, path: str) -> int:
    """Open a regular file beneath a directory descriptor, following no link at any step; raises Refused."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise Refused(f"{path!r} is not a path inside the job folder")
    directory = os.dup(folder)
    try:
        for part in parts[:-1]:
            inner = _open(part, _DIRECTORY, directory)
            os.close(directory)
            directory = inner
        return _regular(_open(parts[-1], _FILE, directory), path)
    finally:
        os.close(directory)


def _regular(descriptor: int, path: str) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(f"{path} is not a regular file")
    return descriptor


def _open(path: str, flags: int, folder: Optional[int]) -> int:
    try:
        return os.open(path, flags, dir_fd=folder)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def _check_owner(path: str, facts: os.stat_result) -> None:
    if facts.st_uid != os.geteuid():
        raise Refused(f"{path} belongs to user {facts.st_uid}, not to {os.geteuid()} who runs the launcher")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(f"{path} can be written by others (mode {stat.S_IMODE(facts.st_mode):o})")
