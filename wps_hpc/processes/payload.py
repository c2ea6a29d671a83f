"""How a process travels to the node: by the name of importable code, with its source file, or, last, as pickled code.

``reference``  the payload is a module name and a path within it, some sixty bytes, good for every Python version.
``source``     the same, but the module is a watched folder's file, which travels along and is made a module from its
               bytes before anything is unpickled.
``value``      closures and objects made at run time: code objects, good for the same minor Python version alone.

Node half: Python 3.9, standard library and dill alone.
"""

from __future__ import annotations

import _thread
import functools
import io
import linecache
import pickle
import pickletools
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, Callable, Optional

import dill

from wps_hpc.processes.description import ProcessDescription
from wps_hpc.processes.run import Runnable

#: A watched file ``<stem>.py`` becomes the module of this name plus its stem, on the server as on the node.
SOURCE_PREFIX = "wps_hpc_source_"
#: Every Python from 3.4 reads it.
PROTOCOL = 4
#: dill's constructors of code; a pickle that calls one holds code.
_CODE_MAKERS = frozenset({"_create_code", "_create_function", "_create_type"})
#: A lock travels as a new one: whoever holds it stays behind, and dill gives even a free RLock to nobody (it is then
#: waited for until the time limit).
_LOCKS: Mapping[type, Callable[[], Any]] = {
    type(threading.Lock()): _thread.allocate_lock,
    type(threading.RLock()): _thread.RLock,
}


class PayloadError(Exception):
    """A process cannot be pickled, or its payload cannot be loaded here; the text says why."""


class _Address:
    """Pickles as a call of ``resolve``, so that unpickling gives the object itself."""

    def __init__(self, module: str, path: str) -> None:
        self.module = module
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return resolve, (self.module, self.path)


def resolve(module: str, path: str) -> Any:
    """The object at a dotted ``path`` within an importable module; raises PayloadError when it is not there."""
    try:
        __import__(module)
        return functools.reduce(getattr, path.split("."), sys.modules[module])
    except (ImportError, AttributeError) as error:
        raise PayloadError(f"{module}.{path} cannot be imported here: {error}") from error


def is_runnable(candidate: object) -> bool:
    """Whether an object is a process: it has a description and can be run (see Runnable)."""
    if issubclass(type(candidate), type):
        return False
    try:
        description, run = getattr(candidate, "description", None), getattr(candidate, "run", None)
    except Exception:
        # A lazy object (a proxy, say) that cannot be asked now is no process.
        return False
    return isinstance(description, ProcessDescription) and callable(run)


# --- dumping ---------------------------------------------------------------------------------------------------------


def dump(runnable: Runnable, found_in: Optional[str] = None) -> tuple[bytes, str, Optional[str]]:
    """``(content, loads, module)`` of a process, ``loads`` as in the manifest.

    ``found_in`` names the module in whose attributes it was found, where its own name does not lead to it. Raises
    PayloadError when it cannot be pickled at all.
    """
    address = _address(runnable, found_in)
    if address is not None:
        return pickle.dumps(address, PROTOCOL), _kind_of(address.module), address.module
    try:
        return _dump_object(runnable)
    except Exception as error:  # dill raises whatever the objects within raise
        raise PayloadError(f"cannot be pickled: {type(error).__name__}: {error}") from error


def _kind_of(module: str) -> str:
    return "source" if module.startswith(SOURCE_PREFIX) else "reference"


def _address(runnable: Any, found_in: Optional[str]) -> Optional[_Address]:
    own = getattr(runnable, "__module__", None)
    qualname = getattr(runnable, "__qualname__", None)
    candidates = [(own, qualname)] if isinstance(qualname, str) else []
    for name in (found_in, own):
        attributes = vars(sys.modules[name]) if name in sys.modules else {}
        candidates += [(name, key) for key, value in attributes.items() if value is runnable]
    for module, path in candidates:
        if module and module != "__main__" and path and _leads_to(module, path, runnable):
            return _Address(module, path)
    return None


def _leads_to(module: str, path: str, wanted: object) -> bool:
    try:
        return functools.reduce(getattr, path.split("."), sys.modules.get(module)) is wanted
    except AttributeError:
        return False


def _dump_object(runnable: Any) -> tuple[bytes, str, Optional[str]]:
    """An object without an address: its class by reference where that takes no code, else all of it by value."""
    with suppress(pickle.PicklingError):  # a class that was made at run time has no name to go by
        content = _pickled(runnable, byref=True)
        module = _source_module(content)
        if not any(name in _CODE_MAKERS or module_of == "__main__" for module_of, name in _globals(content)):
            module = module or type(runnable).__module__
            return content, _kind_of(module), module
    content = _pickled(runnable, byref=False)
    return content, "value", _source_module(content)


def _pickled(runnable: Any, *, byref: bool) -> bytes:
    stream = io.BytesIO()
    pickler = dill.Pickler(stream, PROTOCOL, byref=byref, recurse=True)
    pickler.reducer_override = functools.partial(_reduced, pickler)
    with warnings.catch_warnings():
        # That a class cannot be found by name is no news here: what is made of it stands in the manifest.
        warnings.simplefilter("ignore", dill.PicklingWarning)
        pickler.dump(runnable)
    return stream.getvalue()


def _reduced(pickler: Any, item: Any) -> Any:
    """What dill is not left to do by itself (see ``pickle.Pickler.reducer_override``)."""
    if type(item) in _LOCKS:
        return _LOCKS[type(item)], ()
    if isinstance(item, FunctionType):
        # What a function without a name refers to is its module's, on the node as here: no copies of caches, locks or
        # connections. dill decides by this attribute, anew for each function.
        pickler._recurse = not _has_module(item)
    return _hidden(item)


def _has_module(function: FunctionType) -> bool:
    """Whether the globals of a function are those of the module that it names, which can be imported.

    Not so after ``functools.wraps``: then dill takes along what the function refers to.
    """
    module = sys.modules.get(function.__module__ or "")
    return function.__module__ != "__main__" and function.__globals__ is getattr(module, "__dict__", None)


def _hidden(item: Any) -> Any:
    """By reference what dill takes for lost, and would take along with all of its module: a class or function in a
    module that its package hides behind an attribute of the same name (``pywps.app.Process`` is the class)."""
    if not isinstance(item, (type, FunctionType)):
        return NotImplemented
    package, _, name = item.__module__.rpartition(".") if isinstance(item.__module__, str) else ("", "", "")
    module = sys.modules.get(item.__module__)
    if package not in sys.modules or getattr(sys.modules[package], name, module) is module:
        return NotImplemented
    if not _leads_to(item.__module__, item.__qualname__, item):
        return NotImplemented
    return resolve, (item.__module__, item.__qualname__)


def _source_module(content: bytes) -> Optional[str]:
    """The watched file that a pickle needs, if any: it has to travel along."""
    return next((module for module, _ in _globals(content) if module.startswith(SOURCE_PREFIX)), None)


def _globals(content: bytes) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a pickle looks up, read from its opcodes without running any.

    In protocol 4 both names are pushed as strings, or fetched from the memo, right before STACK_GLOBAL; dill writes
    the globals of a module as a GLOBAL, with a blank between the names.
    """
    strings: list[str] = []
    memo: list[Optional[str]] = []
    last: Optional[str] = None
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "MEMOIZE":
            memo.append(last)
        elif opcode.name in ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"):
            last = str(argument)
            strings.append(last)
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            last = memo[int(argument or 0)]
            strings.append(last or "")
        else:
            if opcode.name == "STACK_GLOBAL":
                yield strings[-2], strings[-1]
            elif opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                yield module, name
            last = None


# --- loading ---------------------------------------------------------------------------------------------------------


def load(content: bytes, *, loads: str, module: Optional[str], source: Optional[bytes]) -> Runnable:
    """The process that ``dump`` packed. Runs what it loads: call it with checked bytes, in a process of its own.

    ``source`` is the content of the watched file, where one travelled along; it becomes ``module`` in ``sys.modules``,
    the disk is never read again. Raises PayloadError with a reason; what the module itself raises stands behind it.
    """
    if source is not None:
        if not module or not module.startswith(SOURCE_PREFIX):
            raise PayloadError(f"a source file came along, but '{module}' is not the name of one")
        make_module(module, source)
    elif loads == "source":
        raise PayloadError(f"the source file of {module} did not come along")
    try:
        loaded = dill.loads(content)
    except PayloadError:
        raise
    except Exception as error:  # unpickling runs constructors, which may raise anything
        raise PayloadError(f"the process cannot be loaded here: {type(error).__name__}: {error}") from error
    if not is_runnable(loaded):
        raise PayloadError(f"the payload holds no process but {type(loaded).__name__}")
    return loaded  # type: ignore[no-any-return]


def make_module(name: str, source: bytes, filename: Optional[str] = None) -> ModuleType:
    """A module of that name from its source text, entered into ``sys.modules``; nothing is left behind on failure.

    Raises PayloadError with the cause behind it, also when the code calls ``sys.exit``. ``filename`` (default
    ``<name>.py``) is what tracebacks and ``__file__`` say.
    """
    shown = filename or f"{name}.py"
    module = ModuleType(name)
    module.__file__ = shown
    former = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(source, shown, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        _restore(name, former)
        raise PayloadError(f"{shown}: {_reason(error)}") from error
    except BaseException:
        _restore(name, former)
        raise
    _show_lines(shown, source)
    return module


def _restore(name: str, former: Optional[ModuleType]) -> None:
    if former is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = former


def _reason(error: BaseException) -> str:
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    where = f" (line {line})" if line else ""
    return f"{type(error).__name__}: {getattr(error, 'msg', None) or error}{where}"


def _show_lines(filename: str, source: bytes) -> None:
    """Let tracebacks show the lines that run, wherever the file is, and whatever it holds by then."""
    lines = source.decode("utf-8", "replace").splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)
