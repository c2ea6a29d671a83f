"""How processes travel: by reference, with their source, by value; loaded in another interpreter."""

import atexit
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dill
import pytest

from wps_hpc import FunctionProcess, process
from wps_hpc.processes import payload
from wps_hpc.processes.description import Output, ProcessDescription
from wps_hpc.processes.payload import PayloadError

SOURCE = b'''
from wps_hpc import process

FACTOR = 2


@process()
def twice(x: int) -> int:
    """Double."""
    return FACTOR * x


def _make(name, factor):
    def function(x: int) -> int:
        return factor * x

    return process(identifier=name)(function)


thrice = _make("thrice", 3)
hidden = [_make("four_times", 4)]
'''
MODULE = payload.SOURCE_PREFIX + "factors"


@process()
def plus_one(x: int) -> int:
    """Add one."""
    return x + 1


class Named:
    """A process that is no function: an object of an importable class."""

    def __init__(self, name: str) -> None:
        self.description = ProcessDescription(name, outputs=(Output("result"),))

    def run(self, request: object, job: object, folders: object) -> dict[str, Any]:
        """Nothing."""
        return {}


named = Named("found")


def closure(factor: int) -> FunctionProcess:
    @process(identifier="times")
    def times(x: int) -> int:
        """Multiply."""
        return x * factor

    return times


@pytest.fixture
def factors() -> Iterator[Any]:
    """The module of a watched file, as the catalogue makes it."""
    yield payload.make_module(MODULE, SOURCE)
    sys.modules.pop(MODULE, None)


def test_a_function_of_a_module_travels_by_its_name() -> None:
    content, loads, module = payload.dump(plus_one)
    assert (loads, module) == ("reference", __name__)
    assert len(content) < 120
    assert b"code" not in content
    assert payload.load(content, loads=loads, module=module, source=None) is plus_one


def test_an_object_is_found_by_the_attribute_that_holds_it() -> None:
    content, loads, module = payload.dump(named, __name__)
    assert (loads, module) == ("reference", __name__)
    assert payload.load(content, loads=loads, module=module, source=None) is named


def test_an_object_without_an_address_travels_by_its_class() -> None:
    content, loads, module = payload.dump(Named("nowhere"))
    assert (loads, module) == ("reference", __name__)
    loaded = payload.load(content, loads=loads, module=module, source=None)
    assert type(loaded) is Named
    assert loaded.description.identifier == "nowhere"
    assert b"_create_" not in content


def test_a_closure_travels_by_value() -> None:
    content, loads, module = payload.dump(closure(3))
    assert (loads, module) == ("value", None)
    loaded = payload.load(content, loads=loads, module=module, source=None)
    assert loaded.description == closure(3).description
    assert loaded(5) == 15  # type: ignore[operator]


CONNECTION = sqlite3.connect(":memory:", check_same_thread=False)
atexit.register(CONNECTION.close)
CALLS: list[int] = []


def test_what_a_closure_refers_to_stays_its_modules() -> None:
    """It is neither copied, so that it still is one and the same, nor need it be of a kind that can be pickled."""

    def query(x: int) -> int:
        CALLS.append(x)
        return int(CONNECTION.execute("SELECT 2 * ?", (x,)).fetchone()[0])

    content, loads, module = payload.dump(process(identifier="query")(query))
    assert loads == "value"
    CALLS.clear()
    loaded: Any = payload.load(content, loads=loads, module=module, source=None)
    assert loaded(21) == 42
    assert CALLS == [21]


def test_a_decorated_closure_takes_along_what_it_refers_to() -> None:
    """``functools.wraps`` has it say that it comes from another module."""

    def query(x: int) -> int:
        return CALLS.append(x) or x

    query.__module__ = "textwrap"
    content, loads, module = payload.dump(process(identifier="query")(query))
    loaded: Any = payload.load(content, loads=loads, module=module, source=None)
    assert loaded(21) == 21


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_locks_arrive_unlocked(kind: Callable[[], Any]) -> None:
    lock = kind()

    @process(identifier="locks")
    def locks(x: int) -> int:
        """Say whether the lock was free."""
        return x if lock.acquire(blocking=False) else 0

    with lock:
        content, loads, module = payload.dump(locks)
    loaded: Any = payload.load(content, loads=loads, module=module, source=None)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(loaded, 1).result() == 1


def test_a_watched_files_process_travels_with_its_source(factors: Any) -> None:
    for name in ("twice", "thrice"):
        content, loads, module = payload.dump(getattr(factors, name), MODULE)
        assert (loads, module) == ("source", MODULE)
        assert len(content) < 120
        del sys.modules[MODULE]
        loaded = payload.load(content, loads=loads, module=module, source=SOURCE)
        assert loaded(5) == {"twice": 10, "thrice": 15}[name]  # type: ignore[operator]
        sys.modules[MODULE] = factors


def test_code_from_a_watched_file_that_has_no_name(factors: Any) -> None:
    content, loads, module = payload.dump(factors.hidden[0], MODULE)
    assert (loads, module) == ("value", MODULE)
    del sys.modules[MODULE]
    assert payload.load(content, loads=loads, module=module, source=SOURCE)(5) == 20  # type: ignore[operator]


def test_what_cannot_be_pickled_is_said() -> None:
    stubborn = Named("stubborn")
    stubborn.lock = (x for x in ())  # type: ignore[attr-defined]
    with pytest.raises(PayloadError, match="generator"):
        payload.dump(stubborn)


@pytest.mark.parametrize(
    ("content", "loads", "module", "source", "words"),
    [
        (
            pickle.dumps(payload._Address("not.there", "x"), 4),
            "reference",
            "not.there",
            None,
            "not.there",
        ),
        (pickle.dumps(payload._Address(__name__, "gone"), 4), "reference", __name__, None, "gone"),
        (pickle.dumps(5), "reference", __name__, None, "no process but int"),
        (pickle.dumps(Named), "reference", __name__, None, "no process but type"),
        (b"", "reference", __name__, None, "EOFError"),
        (b"junk", "reference", __name__, None, "UnpicklingError"),
        (b"", "source", MODULE, None, "did not come along"),
        (b"", "source", "os", b"", "not the name"),
        (b"", "source", None, b"", "not the name"),
        (b"", "source", MODULE, b"def (", "SyntaxError"),
        (b"", "source", MODULE, b"import no_such_module", "no_such_module"),
        (b"", "source", MODULE, b"raise SystemExit(3)", "SystemExit"),
        (b"", "source", MODULE, b"\xff\xfe", "SyntaxError"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    content: bytes, loads: str, module: str | None, source: bytes | None, words: str
) -> None:
    with pytest.raises(PayloadError, match=words):
        payload.load(content, loads=loads, module=module, source=source)
    assert MODULE not in sys.modules
    assert hasattr(sys.modules["os"], "path")


def test_a_failed_module_leaves_the_former_one_in_place(factors: Any) -> None:
    with pytest.raises(PayloadError):
        payload.make_module(MODULE, b"1 / 0")
    assert sys.modules[MODULE] is factors


def test_tracebacks_show_the_lines_that_ran(factors: Any) -> None:
    module = payload.make_module(MODULE, b"def fail():\n    raise ValueError('here')  # line two\n")
    with pytest.raises(ValueError, match="here") as caught:
        module.fail()
    assert "line two" in "".join(traceback.format_exception(caught.value))


def elsewhere(python: Path | str, path: list[Path], dumped: tuple[bytes, str, str | None], source: bytes | None) -> str:
    """Load a payload in another interpreter and call it with 5."""
    content, loads, module = dumped
    program = textwrap.dedent(f"""
        from wps_hpc.processes import payload
        loaded = payload.load({content!r}, loads={loads!r}, module={module!r}, source={source!r})
        print(loaded.description.identifier, loaded(5))
    """)
    environment = {"PYTHONPATH": ":".join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def library(tmp_path: Path) -> Callable[[], list[Path]]:
    """Import path with this project and dill alone, and a module ``library`` with a process."""
    (tmp_path / "dill").symlink_to(Path(dill.__file__).parent)
    (tmp_path / "library.py").write_bytes(SOURCE)
    return lambda: [tmp_path, Path(__file__).parents[2]]


def test_references_and_sources_cross_python_versions(
    factors: Any, python39: Path, library: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(library()[0])
    module = __import__("library")
    assert elsewhere(python39, library(), payload.dump(module.twice), None) == "twice 10"
    assert elsewhere(python39, library(), payload.dump(factors.twice), SOURCE) == "twice 10"
    assert elsewhere(python39, library(), payload.dump(factors.thrice, MODULE), SOURCE) == "thrice 15"
    del sys.modules["library"]


def test_values_travel_to_the_same_python(library: Callable[[], list[Path]]) -> None:
    # From a program of its own: a closure here would refer to this test module.
    program = (
        SOURCE.decode()
        + "\nfrom wps_hpc.processes import payload\nprint(payload.dump(hidden[0]))\nprint(payload.dump(twice))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, cwd=library()[1]
    )
    for line, expected in zip(done.stdout.splitlines(), ("four_times 20", "twice 10"), strict=True):
        dumped = eval(line)
        assert dumped[1] == "value"
        assert elsewhere(sys.executable, library(), dumped, None) == expected
