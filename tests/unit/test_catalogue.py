"""The catalogue: modules, watched folders, what is broken, and what takes effect when."""

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wps_hpc.processes import catalogue as room
from wps_hpc.processes import payload
from wps_hpc.processes.catalogue import Catalogue, module_name

PROCESS = '''
from wps_hpc import process


@process(version="{version}")
def {name}(x: int) -> int:
    """{name} it."""
    return x
'''


def source(name: str, version: str = "1.0.0") -> str:
    """A file with one process."""
    return PROCESS.format(name=name, version=version)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A watched folder; what it brought into the interpreter is gone afterwards."""
    watched = tmp_path / "watched"
    watched.mkdir()
    yield watched
    for name in [name for name in sys.modules if name.startswith(payload.SOURCE_PREFIX)]:
        del sys.modules[name]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Writes importable modules; gives back their names."""
    place = tmp_path / "library"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    made: list[str] = []

    def write(name: str, text: str) -> str:
        (place / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        made.append(name)
        return name

    yield write
    for name in made:
        sys.modules.pop(name, None)


def offered(catalogue: Catalogue) -> dict[str, str]:
    """Identifier -> version of what is on offer."""
    return {entry.description.identifier: entry.description.version for entry in catalogue.entries()}


def test_nothing_is_offered_before_the_first_look(folder: Path) -> None:
    (folder / "a.py").write_text(source("a"))
    catalogue = Catalogue([], [folder])
    assert (catalogue.entries(), catalogue.revision, dict(catalogue.problems)) == ((), 0, {})
    assert catalogue.reload()
    assert offered(catalogue) == {"a": "1.0.0"}


def test_a_file_dropped_in_changed_and_removed(folder: Path) -> None:
    catalogue = Catalogue([], [folder])
    assert not catalogue.reload()
    (folder / "slope.py").write_text(source("slope"))
    assert catalogue.reload()
    (folder / "slope.py").write_text(source("slope", "2.0.0"))
    assert catalogue.reload()
    assert offered(catalogue) == {"slope": "2.0.0"}
    (folder / "slope.py").unlink()
    assert catalogue.reload()
    assert offered(catalogue) == {}
    assert catalogue.get("slope") is None
    assert module_name(folder / "slope.py") not in sys.modules
    assert not catalogue.problems


def test_an_entry_has_all_that_a_job_takes_along(folder: Path) -> None:
    (folder / "my-slope.py").write_text(source("slope"))
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    entry = catalogue.get("slope")
    assert entry is not None
    assert (entry.loads, entry.module) == ("source", "wps_hpc_source_my_slope")
    assert entry.source == source("slope").encode()
    assert entry.origin == str(folder / "my-slope.py")
    del sys.modules[entry.module]
    loaded = payload.load(entry.payload, loads=entry.loads, module=entry.module, source=entry.source)
    assert loaded.description == entry.description


def test_a_changed_file_carries_its_new_source(folder: Path) -> None:
    catalogue = Catalogue([], [folder])
    for version in ("1.0.0", "2.0.0"):
        (folder / "slope.py").write_text(source("slope", version))
        catalogue.reload()
        entry = catalogue.get("slope")
        assert entry is not None
        assert entry.source == source("slope", version).encode()


BROKEN = {
    "syntax": ("def (", "SyntaxError"),
    "import": ("import no_such_module", "no_such_module"),
    "exit": ("import sys\nsys.exit('bye')", "SystemExit: bye"),
    "raises": ("1 / 0", "ZeroDivisionError"),
    "description": (source("x").replace("x: int", "x: complex"), "'x': complex"),
    "encoding": ("# coding: no-such-coding", "SyntaxError"),
    "empty": ("", "holds no process"),
    "listed": ("processes = [5]", "processes[0]: int is not a process"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_reported_and_leaves_the_others_alone(folder: Path, kind: str) -> None:
    text, words = BROKEN[kind]
    (folder / "good.py").write_text(source("good"))
    (folder / "bad.py").write_text(text)
    catalogue = Catalogue([], [folder])
    assert catalogue.reload()
    assert offered(catalogue) == {"good": "1.0.0"}
    assert list(catalogue.problems) == [str(folder / "bad.py")]
    assert words in catalogue.problems[str(folder / "bad.py")]
    assert not catalogue.reload()
    (folder / "bad.py").write_text(source("mended"))
    assert catalogue.reload()
    assert offered(catalogue) == {"good": "1.0.0", "mended": "1.0.0"}
    assert not catalogue.problems


def test_a_changed_file_that_is_broken_is_withdrawn(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue = Catalogue([], [folder])
    (folder / "slope.py").write_text(source("slope"))
    catalogue.reload()
    (folder / "slope.py").write_text(source("slope") + "1 / 0\n")
    with caplog.at_level(logging.INFO, room.__name__):
        assert catalogue.reload()
        assert not catalogue.reload()
    assert offered(catalogue) == {}
    assert "is withdrawn" in catalogue.problems[str(folder / "slope.py")]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_broken_file_is_tried_again_when_touched(folder: Path, library: Callable[[str, str], str]) -> None:
    (folder / "needs.py").write_text("import helper_of_needs\n" + source("needs"))
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    assert "helper_of_needs" in catalogue.problems[str(folder / "needs.py")]
    library("helper_of_needs", "")
    os.utime(folder / "needs.py", (1, 1))
    assert catalogue.reload()
    assert offered(catalogue) == {"needs": "1.0.0"}


def age(*paths: Path) -> None:
    """Let no file count as fresh: as if its writing were long ago."""
    newest = max(path.stat().st_ctime for path in paths)
    deadline = time.monotonic() + 30
    while time.time() - newest < room.RACY_SECONDS:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_unchanged_file_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RACY_SECONDS", 0.2)
    (folder / "slope.py").write_text(source("slope"))
    age(folder / "slope.py")
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    first = catalogue.get("slope")

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(room, "_read_file", refuse)
    assert not catalogue.reload()
    assert catalogue.get("slope") is first


def test_a_change_within_one_tick_of_the_clock_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "slope.py"
    path.write_text(source("slope", "1.0.0"))
    same = room._Stamp.of(path.stat())
    monkeypatch.setattr(room._Stamp, "of", classmethod(lambda cls, found: same))
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    path.write_text(source("slope", "9.9.9"))
    assert catalogue.reload()
    assert offered(catalogue) == {"slope": "9.9.9"}


def test_a_file_that_is_being_written_waits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "slope.py"
    path.write_text(source("slope"))
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    real, looks = os.fstat, iter(("before", "after"))
    path.write_text(source("slope", "2.0.0"))

    def growing(descriptor: int) -> os.stat_result:
        """Between the two looks of one reading, somebody writes on."""
        if next(looks) == "after":
            path.write_text(source("slope", "3.0.0") + "\n")
        return real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(room.os, "fstat", growing)
        assert not catalogue.reload()
    assert offered(catalogue) == {"slope": "1.0.0"}
    assert catalogue.reload()
    assert offered(catalogue) == {"slope": "3.0.0"}


def test_a_new_file_that_is_being_written_is_said_to_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "slope.py"
    path.write_text(source("slope"))
    real = os.fstat

    def truncated(descriptor: int) -> Any:
        path.write_text(source("slope") + "#" * path.stat().st_size)
        return real(descriptor)

    catalogue = Catalogue([], [folder])
    with monkeypatch.context() as patch:
        patch.setattr(room.os, "fstat", truncated)
        assert catalogue.reload()
    assert "being written" in catalogue.problems[str(path)]
    assert catalogue.reload()
    assert offered(catalogue) == {"slope": "1.0.0"}


def test_names_that_are_not_processes_own(folder: Path) -> None:
    for name in (".hidden.py", "_helper.py", "notes.txt", "slope.py.tmp"):
        (folder / name).write_text("1 / 0")
    (folder / "folder.py").mkdir()
    (folder / "dangling.py").symlink_to("nowhere")
    catalogue = Catalogue([], [folder])
    assert not catalogue.reload()
    assert not catalogue.problems


def test_a_folder_that_cannot_be_read(tmp_path: Path, folder: Path) -> None:
    (folder / "slope.py").write_text(source("slope"))
    catalogue = Catalogue([], [tmp_path / "missing", folder])
    assert catalogue.reload()
    assert offered(catalogue) == {"slope": "1.0.0"}
    assert "cannot be read" in catalogue.problems[str(tmp_path / "missing")]


def test_of_two_with_one_identifier_the_first_wins(folder: Path, library: Callable[[str, str], str]) -> None:
    name = library("sloping", source("slope", "0.1"))
    (folder / "a.py").write_text(source("other"))
    (folder / "b.py").write_text(source("other", "2.0.0"))
    (folder / "c.py").write_text(source("slope", "3.0.0"))
    catalogue = Catalogue([name], [folder])
    catalogue.reload()
    assert offered(catalogue) == {"other": "1.0.0", "slope": "0.1"}
    assert f"offered by {folder / 'a.py'} already" in catalogue.problems[str(folder / "b.py")]
    assert "offered by sloping already" in catalogue.problems[str(folder / "c.py")]
    (folder / "a.py").unlink()
    assert catalogue.reload()
    assert offered(catalogue)["other"] == "2.0.0"
    assert str(folder / "b.py") not in catalogue.problems


def test_files_of_one_name_in_two_folders(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (folder / "slope.py").write_text(source("slope"))
    (second / "slope.py").write_text(source("other"))
    catalogue = Catalogue([], [folder, second])
    catalogue.reload()
    assert offered(catalogue) == {"slope": "1.0.0"}
    assert "same name" in catalogue.problems[str(second / "slope.py")]
    (folder / "slope.py").unlink()
    catalogue.reload()
    assert offered(catalogue) == {"other": "1.0.0"}
    assert not catalogue.problems


def test_modules(library: Callable[[str, str], str]) -> None:
    good = library("good_module", source("good") + "alias = good\n")
    user = library("user_module", "from good_module import good\n" + source("own"))
    bad = library("bad_module", "raise SystemExit('no')")
    catalogue = Catalogue([good, user, bad, "no_such_module"], [])
    assert catalogue.reload()
    assert offered(catalogue) == {"good": "1.0.0", "own": "1.0.0"}
    entry = catalogue.get("good")
    assert entry is not None
    assert (entry.loads, entry.module, entry.source, entry.origin) == ("reference", good, None, good)
    assert set(catalogue.problems) == {bad, "no_such_module"}
    assert "SystemExit: no" in catalogue.problems[bad]
    assert not catalogue.reload()


def test_an_explicit_list_is_all_there_is(library: Callable[[str, str], str]) -> None:
    name = library("listing_module", source("shown") + source("kept") + "processes = [shown]\n")
    catalogue = Catalogue([name], [])
    catalogue.reload()
    assert offered(catalogue) == {"shown": "1.0.0"}


OBJECTS = '''
from wps_hpc.processes.description import Output, ProcessDescription


class Box:
    """A process that is no function."""

    def __init__(self, name):
        self.description = ProcessDescription(name, outputs=(Output("result"),))

    def run(self, request, job, folders):
        return {}


class Lazy:
    def __getattr__(self, name):
        raise RuntimeError("not now")


one = Box("one")
broken = Box("two words")
lazy = Lazy()
'''


def test_any_runnable_object_is_a_process(library: Callable[[str, str], str]) -> None:
    name = library("object_module", OBJECTS)
    catalogue = Catalogue([name], [])
    catalogue.reload()
    assert offered(catalogue) == {"one": "1.0.0"}
    assert "'two words'" in catalogue.problems[name]


def test_a_process_of_another_watched_file_is_refused(folder: Path) -> None:
    (folder / "a.py").write_text(source("slope"))
    (folder / "b.py").write_text("from wps_hpc_source_a import slope\n" + source("own"))
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    assert offered(catalogue) == {"own": "1.0.0", "slope": "1.0.0"}
    assert "stands alone" in catalogue.problems[str(folder / "b.py")]


def test_the_revision_grows_and_is_the_same_for_all(folder: Path) -> None:
    (folder / "slope.py").write_text(source("slope"))
    one, other = Catalogue([], [folder]), Catalogue([], [folder])
    seen = []
    for change in (
        lambda: None,
        lambda: (folder / "more.py").write_text(source("more")),
        lambda: (folder / "more.py").write_text(source("more", "2.0.0")),
        lambda: os.utime(folder / "more.py", (1, 1)),
        lambda: (folder / "more.py").unlink(),
    ):
        _next_tick(folder)
        change()
        one.reload()
        other.reload()
        assert one.revision == other.revision
        seen.append(one.revision)
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("body", ["while True:\n    pass\n", "import time\nwhile True:\n    time.sleep(0.01)\n"])
def test_a_file_that_never_ends_is_reported_and_leaves_the_others_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(room, "LOAD_SECONDS", 0.2)
    (folder / "loop.py").write_text(body)
    (folder / "slope.py").write_text(source("slope"))
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    assert offered(catalogue) == {"slope": "1.0.0"}
    assert "does not end" in catalogue.problems[str(folder / "loop.py")]
    # It is stopped, too, and leaves nothing behind.
    deadline = time.monotonic() + 10
    while module_name(folder / "loop.py") in sys.modules or "loading loop.py" in _threads():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (folder / "loop.py").write_text(source("loop"))
    catalogue.reload()
    assert offered(catalogue) == {"loop": "1.0.0", "slope": "1.0.0"}


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_file_from_the_future_hides_no_change(folder: Path) -> None:
    """Clients' documents are kept by revision, so a change under the same one would never be seen."""
    (folder / "slope.py").write_text(source("slope"))
    os.utime(folder / "slope.py", (2**32, 2**32))
    one, other = Catalogue([], [folder]), Catalogue([], [folder])
    one.reload()
    before = one.revision
    assert before < (time.time() + 60) * 1e6
    _next_tick(folder)
    (folder / "more.py").write_text(source("more"))
    assert one.reload() and other.reload()
    assert one.revision == other.revision > before


def test_the_revision_grows_even_if_the_clock_of_the_files_goes_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "slope.py").write_text(source("slope"))
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    before = catalogue.revision
    monkeypatch.setattr(room, "_revision", lambda *_: before - 1000)
    (folder / "more.py").write_text(source("more"))
    assert catalogue.reload()
    assert catalogue.revision > before
    settled = catalogue.revision
    assert not catalogue.reload()
    assert catalogue.revision == settled


def _next_tick(folder: Path) -> None:
    """Wait until the file system's clock has moved on."""
    probe = folder.parent / "probe"
    probe.write_text("")
    before, deadline = probe.stat().st_ctime_ns, time.monotonic() + 10
    while probe.stat().st_ctime_ns // 1000 <= before // 1000:
        assert time.monotonic() < deadline
        probe.write_text("")


def test_readers_see_one_state(folder: Path) -> None:
    (folder / "slope.py").write_text(source("slope"))
    catalogue = Catalogue([], [folder])
    catalogue.reload()
    before = catalogue.entries()
    (folder / "slope.py").unlink()
    catalogue.reload()
    assert [entry.description.identifier for entry in before] == ["slope"]
