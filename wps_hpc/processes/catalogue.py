"""The processes on offer: from importable modules, read once, and from watched folders, looked at again and again.

A file dropped into a folder, changed or removed takes effect at the next ``reload``. A changed file that is broken is
reported **and withdrawn**: its former version does not stay on offer, because a client that reads the description would
meet code that no longer stands in the folder, and the operator would not notice. Jobs that were submitted before are
untouched, for their payload and source are their own; those that still wait are checked again when they are packed. To
change a file without a gap, write the new version beside it under a name that does not end in ``.py`` and rename it.

Server half.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Protocol

from wps_hpc.processes import checks
from wps_hpc.processes.description import DescriptionError, ProcessDescription
from wps_hpc.processes.payload import SOURCE_PREFIX, PayloadError, dump, is_runnable, make_module
from wps_hpc.processes.run import Runnable

log = logging.getLogger(__name__)

#: A file that was written so short a time ago may be written again within the same tick of its time stamp, so its
#: content is compared, too. Seconds.
RACY_SECONDS = 2.0
#: Says why the site cannot offer a process; None when it can.
Judge = Callable[[ProcessDescription], str | None]
#: The origin of processes that were given as objects.
GIVEN = "the processes given"
#: A watched file whose top level takes longer is broken. Seconds.
LOAD_SECONDS = 30.0


@dataclass(frozen=True)
class Entry:
    """A process on offer, and all that a job needs to take it along.

    ``payload``, ``loads`` and ``module`` are as in the manifest; ``source`` is the watched file's content when it has
    to travel along (as ``source/<module>.py``); ``origin`` is the module or file that it came from, for the operator.
    """

    description: ProcessDescription
    runnable: Runnable
    payload: bytes
    loads: str
    module: str | None
    source: bytes | None
    origin: str


@dataclass(frozen=True)
class _Stamp:
    """What tells that a file is another one, or changed. Times in nanoseconds."""

    mtime: int
    ctime: int
    size: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> _Stamp:
        return cls(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)

    @property
    def changed(self) -> int:
        # Every change moves it, and nobody can set it: a copy keeps an old modification time, or one of the future.
        return self.ctime


@dataclass(frozen=True)
class _Origin:
    """A module or file as last read: its processes, or why it has none."""

    name: str
    entries: tuple[Entry, ...] = ()
    problem: str | None = None
    stamp: _Stamp | None = None
    content: bytes = b""
    #: The file was so fresh when it was read that its stamp alone does not prove it unchanged.
    racy: bool = False


@dataclass(frozen=True)
class _State:
    entries: Mapping[str, Entry] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0


class Sources(Protocol):
    """Where processes come from, as the configuration has it (see config.Processes)."""

    @property
    def modules(self) -> Sequence[str]:
        """Names of importable modules."""

    @property
    def folders(self) -> Sequence[Path]:
        """Folders to watch."""

    @property
    def pywps_config(self) -> Sequence[Path]:
        """Configuration files of PyWPS."""


class Catalogue:
    """All processes on offer. Threads may read while one reloads: they see the former state or the new one, whole."""

    def __init__(
        self,
        modules: Sequence[str],
        folders: Sequence[Path],
        pywps_config: Sequence[Path] = (),
        given: Sequence[object] = (),
        judge: Judge = lambda _: None,
    ) -> None:
        """Names of importable modules, and folders to watch; nothing is loaded before the first ``reload``.

        ``pywps_config`` are the files that PyWPS processes find their configuration in; ``given`` are processes that
        are at hand already, of whatever kind. ``judge`` says why the site cannot offer a process, None when it can.
        """
        self._judge = judge
        self._pywps_config = tuple(pywps_config)
        self._given = tuple(given)
        self._modules = tuple(modules)
        self._folders = tuple(Path(folder) for folder in folders)
        self._lock = threading.Lock()
        self._imported: tuple[_Origin, ...] | None = None
        self._files: dict[Path, _Origin] = {}
        self._state = _State()

    @classmethod
    def of(cls, sources: Sources, judge: Judge = lambda _: None) -> Catalogue:
        """The catalogue of a configuration, whose site judges processes."""
        return cls(sources.modules, sources.folders, sources.pywps_config, judge=judge)

    def reload(self) -> bool:
        """Look at the folders again; True when the processes on offer, or the problems, are others than before.

        Cheap while nothing changes: one listing of each folder and one stat of each file. Modules are imported at the
        first call alone: a changed module takes a restart, as Python cannot unload one.
        """
        with self._lock:
            if self._imported is None:
                self._imported = self._import()
            listings = [_listing(folder) for folder in self._folders]
            _forget_removed(self._files, listings)
            self._files = _read_files(listings, self._files)
            before = self._state
            self._state = _grown(before, _combined((*self._imported, *self._files.values()), listings, self._judge))
            _log_news(before, self._state)
            return (before.entries, before.problems) != (self._state.entries, self._state.problems)

    def _import(self) -> tuple[_Origin, ...]:
        problems = _configure_pywps(self._pywps_config) if self._pywps_config else ()
        given = (_gathered(_Origin(GIVEN), _listed(self._given), None),) if self._given else ()
        return (*problems, *given, *(_read_module(name) for name in self._modules))

    def get(self, identifier: str) -> Entry | None:
        """The process of that identifier, or None."""
        return self._state.entries.get(identifier)

    def entries(self) -> tuple[Entry, ...]:
        """All processes, sorted by identifier."""
        return tuple(self._state.entries.values())

    @property
    def revision(self) -> int:
        """A number that grows with every change of the files: microseconds since 1970 of the latest one.

        Made from the file system, so that all server processes that see the same files say the same
        (``updateSequence``, OWS Common 06-121r3 §7.4.2); 0 when there is nothing to see. Where its clock goes back, a
        change of what is on offer still counts one up.
        """
        return self._state.revision

    @property
    def problems(self) -> Mapping[str, str]:
        """Origin (module, file or folder) -> what is wrong with it, a sentence for the operator."""
        return self._state.problems


def _log_news(before: _State, after: _State) -> None:
    for origin, problem in after.problems.items():
        if before.problems.get(origin) != problem:
            log.warning("%s: %s", origin, problem)
    for identifier in after.entries.keys() - before.entries.keys():
        log.info("process %s is on offer (%s)", identifier, after.entries[identifier].origin)
    for identifier in before.entries.keys() - after.entries.keys():
        log.info("process %s is no longer on offer (%s)", identifier, before.entries[identifier].origin)


def _configure_pywps(files: Sequence[Path]) -> tuple[_Origin, ...]:
    """Have PyWPS read its configuration; what is wrong with it or with PyWPS is a problem like any other."""
    try:
        from wps_hpc.processes import pywps_process

        pywps_process.load_configuration(files)
    except Exception as error:
        return (_Origin(str(files[-1]), problem=f"PyWPS cannot be configured: {type(error).__name__}: {error}"),)
    return ()


# --- modules ---------------------------------------------------------------------------------------------------------


def _read_module(name: str) -> _Origin:
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        return _Origin(name, problem=f"cannot be imported: {type(error).__name__}: {error}")
    return _collected(_Origin(name, stamp=_module_stamp(module)), module, None)


def _module_stamp(module: ModuleType) -> _Stamp | None:
    try:
        return _Stamp.of(Path(module.__file__ or "").stat())
    except OSError:
        # Within an archive, or built in: it cannot change without a restart.
        return None


def _collected(origin: _Origin, module: ModuleType, source: bytes | None) -> _Origin:
    """The origin with the processes of its module: those of its ``processes`` list, else all among its attributes."""
    return _gathered(origin, _candidates(module), module.__name__, source)


def _gathered(
    origin: _Origin, candidates: Iterable[tuple[str, object]], found_in: str | None, source: bytes | None = None
) -> _Origin:
    entries: list[Entry] = []
    problems: list[str] = []
    for name, item in candidates:
        try:
            entries.append(_entry(item, found_in, source, origin.name))
        except (DescriptionError, PayloadError) as error:
            problems.append(f"{name}: {error}")
    if not entries and not problems:
        problems.append("holds no process")
    return replace(origin, entries=tuple(entries), problem="; ".join(problems) or None)


def _candidates(module: ModuleType) -> Iterator[tuple[str, object]]:
    listed = getattr(module, "processes", None)
    if isinstance(listed, (list, tuple)):
        yield from _listed(listed)
        return
    # The same process under two names is one.
    unique = {id(item): (name, item) for name, item in vars(module).items() if is_runnable(item)}
    yield from unique.values()
    if _has_pywps():
        from wps_hpc.processes import pywps_process

        yield from pywps_process.found_in(module)


def _listed(items: Sequence[object]) -> Iterator[tuple[str, object]]:
    return ((f"processes[{index}]", item) for index, item in enumerate(items))


def _has_pywps() -> bool:
    """Whether anybody has imported PyWPS, an extra: nobody who has not can have processes of it."""
    return "pywps" in sys.modules


def _runnable(item: object) -> Runnable:
    """A process of whatever kind as something that can be run; raises DescriptionError."""
    if is_runnable(item):
        return item  # type: ignore[return-value]
    if _has_pywps():
        from wps_hpc.processes import pywps_process

        return pywps_process.adapted(item)
    raise DescriptionError(f"{type(item).__name__} is not a process")


def _entry(item: object, found_in: str | None, source: bytes | None, origin: str) -> Entry:
    runnable = _runnable(item)
    checks.check(runnable.description)
    payload, loads, module = dump(runnable, found_in)
    needs_source = module is not None and module.startswith(SOURCE_PREFIX)
    if needs_source and module != found_in:
        raise PayloadError(f"comes from another watched file ({module}); each file stands alone")
    return Entry(runnable.description, runnable, payload, loads, module, source if needs_source else None, origin)


# --- folders ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Listing:
    """What lies in a folder: its own stamp, its Python files with theirs, or why it cannot be read."""

    name: str
    stamp: _Stamp | None = None
    files: Mapping[Path, _Stamp] = field(default_factory=dict)
    problem: str | None = None


def _listing(folder: Path) -> _Listing:
    try:
        own = _Stamp.of(folder.stat())
        files = dict(sorted(_python_files(folder)))
    except OSError as error:
        return _Listing(str(folder), problem=f"the folder cannot be read: {error.strerror}")
    return _Listing(str(folder), own, files)


def _python_files(folder: Path) -> Iterator[tuple[Path, _Stamp]]:
    """Regular ``*.py`` files; names that begin with ``.`` or ``_`` are editors' and packages' own."""
    for path in folder.iterdir():
        if path.suffix != ".py" or path.name.startswith((".", "_")):
            continue
        try:
            found = path.stat()
        except FileNotFoundError:
            # Gone since the folder was listed, or a link into nothing.
            continue
        if stat.S_ISREG(found.st_mode):
            yield path, _Stamp.of(found)


def _forget_removed(former: Iterable[Path], listings: Iterable[_Listing]) -> None:
    present = {path for listing in listings for path in listing.files}
    for path in former:
        if path not in present:
            sys.modules.pop(module_name(path), None)


def _read_files(listings: Iterable[_Listing], former: Mapping[Path, _Origin]) -> dict[Path, _Origin]:
    """Every watched file as it is now; those that did not change are not read again."""
    found: dict[Path, _Origin] = {}
    names: dict[str, Path] = {}
    for path, stamp in ((path, stamp) for listing in listings for path, stamp in listing.files.items()):
        first = names.setdefault(module_name(path), path)
        if first != path:
            found[path] = _Origin(str(path), problem=f"has the same name as {first}, which came first; rename it")
        else:
            found[path] = _refreshed(path, stamp, former.get(path))
    return found


def module_name(path: Path) -> str:
    """The module that a watched file becomes; what no identifier may hold is an underscore there."""
    return SOURCE_PREFIX + re.sub(r"\W", "_", path.stem, flags=re.ASCII)


def _refreshed(path: Path, stamp: _Stamp, former: _Origin | None) -> _Origin:
    if former is not None and former.stamp == stamp and not former.racy:
        return former
    return _read_file(path, former)


def _read_file(path: Path, former: _Origin | None) -> _Origin:
    """The file as it is now; while somebody is still writing it, as it was, to be looked at again next time."""
    name = str(path)
    try:
        with path.open("rb") as stream:
            before = os.fstat(stream.fileno())
            content = stream.read()
            after = os.fstat(stream.fileno())
    except OSError as error:
        return _Origin(name, problem=f"cannot be read: {error.strerror}")
    stamp = _Stamp.of(after)
    if stamp != _Stamp.of(before) or len(content) != stamp.size:
        return _unsettled(name, former)
    racy = time.time() - stamp.changed / 1e9 < RACY_SECONDS
    if former is not None and former.content == content and _still_holds(former, stamp):
        return replace(former, stamp=stamp, racy=racy)
    return _loaded(path, _Origin(name, stamp=stamp, content=content, racy=racy))


def _still_holds(former: _Origin, stamp: _Stamp) -> bool:
    """Whether reading the same content again would give the same; a broken file may be touched to try it again."""
    return former.stamp is not None and (former.problem is None or former.stamp == stamp)


def _unsettled(name: str, former: _Origin | None) -> _Origin:
    if former is None:
        return _Origin(name, problem="is being written; it is read once that is over")
    return replace(former, stamp=None)


class _TooLong(BaseException):
    """Raised within a file that does not come to its end."""


def _module_in_time(path: Path, content: bytes) -> ModuleType:
    """The module, made in a thread of its own: a top level that does not end would otherwise end all looking.

    Raises PayloadError after LOAD_SECONDS; the file's code is stopped where it next runs a line of Python.
    """
    done: Future[ModuleType] = Future()

    def make() -> None:
        try:
            done.set_result(make_module(module_name(path), content, str(path)))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=make, name=f"loading {path.name}", daemon=True)
    thread.start()
    try:
        return done.result(LOAD_SECONDS)
    except TimeoutError:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TooLong))
        raise PayloadError(f"{path}: its top level does not end within {LOAD_SECONDS:g} s") from None


def _loaded(path: Path, origin: _Origin) -> _Origin:
    try:
        module = _module_in_time(path, origin.content)
    except PayloadError as error:
        return replace(origin, problem=f"is withdrawn: {error}")
    return _collected(origin, module, origin.content)


# --- all together ----------------------------------------------------------------------------------------------------


def _combined(origins: Sequence[_Origin], listings: Sequence[_Listing], judge: Judge) -> _State:
    """What all origins offer together: of two processes with one identifier the first wins, the second is a problem."""
    entries: dict[str, Entry] = {}
    problems: dict[str, str] = {item.name: item.problem for item in listings if item.problem}
    for origin in origins:
        own = [origin.problem] if origin.problem else []
        complaints = own + _taken_in(entries, origin.entries, judge)
        if complaints:
            problems[origin.name] = "; ".join(complaints)
    return _State(
        MappingProxyType(dict(sorted(entries.items()))), MappingProxyType(problems), _revision(origins, listings)
    )


def _grown(before: _State, after: _State) -> _State:
    """``after`` with a revision that is greater where the entries are others, and never smaller."""
    least = before.revision if after.entries == before.entries else before.revision + 1
    return replace(after, revision=max(least, after.revision))


def _revision(origins: Iterable[_Origin], listings: Iterable[_Listing]) -> int:
    """Microseconds of the latest change of a module's file, a watched folder or a file in one.

    A removed file is seen by its folder's own change.
    """
    stamps = [origin.stamp for origin in origins]
    for listing in listings:
        stamps += [listing.stamp, *listing.files.values()]
    return max((stamp.changed // 1000 for stamp in stamps if stamp is not None), default=0)


def _taken_in(entries: dict[str, Entry], more: Iterable[Entry], judge: Judge) -> list[str]:
    """Add what is new to ``entries``; returns a sentence for each identifier that another origin has already, and for
    each process that cannot be offered."""
    refused = []
    for entry in more:
        if (why := judge(entry.description)) is not None:
            refused.append(f"process '{entry.description.identifier}' cannot be offered: {why}")
            continue
        first = entries.setdefault(entry.description.identifier, entry)
        # A process that two modules merely import is one process, not two.
        if first.runnable != entry.runnable:
            refused.append(f"process '{entry.description.identifier}' is offered by {first.origin} already")
    return refused
