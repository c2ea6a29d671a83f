"""Starting a job's leader: by a fork of this warm process, or by the shell.

The leader waits at a gate until its pid has been recorded. When the spooler dies before that, the gate falls, the
leader ends without having run anything, and the record without a pid tells the truth: never started.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import NoReturn

from wps_hpc.clusters.spooler.order import StartOrder
from wps_hpc.clusters.spooler.proc import TOKEN_VARIABLE, become_subreaper, set_name
from wps_hpc.clusters.spooler.spool import Spool

LAUNCHER_MODULE = "joblauncher.__main__"
#: What a warm job finds imported already: the launcher with all that it imports, and dill; never an author's code.
_PRELOADED = (LAUNCHER_MODULE, "dill")
#: The leader could not be brought up (sysexits.h, EX_SOFTWARE), or the gate fell.
EXIT_NOT_STARTED = 70
_GATE = 3
_RESET_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


def preload() -> None:
    """Import what every launcher needs, and take it out of the garbage collector's sight, so that forks share it."""
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def fork_leader(order: StartOrder, spool: Spool) -> tuple[int, int]:
    """Fork the leader of a job; returns its pid and the gate.

    One byte written to the gate lets the leader run; closing the gate without it ends the leader. Raises OSError when
    there can be no new process.
    """
    inside, gate = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(inside)
        os.close(gate)
        raise
    if pid == 0:
        _lead(order, spool, inside)
    os.close(inside)
    return pid, gate


def _lead(order: StartOrder, spool: Spool, gate: int) -> NoReturn:
    # Never returns into the spooler's own frames: they hold sockets whose numbers mean something else here.
    code = EXIT_NOT_STARTED
    try:
        _detach(order, spool, gate)
        if os.read(_GATE, 1):
            os.close(_GATE)
            code = _STARTS[order.warm](order, spool)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _detach(order: StartOrder, spool: Spool, gate: int) -> None:
    os.setsid()
    become_subreaper()
    set_name(order.token)
    _stop_logging()
    _only_descriptors(gate, os.open(spool.said(order.token), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    signal.set_wakeup_fd(-1)
    for number in _RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    os.chdir(order.folder)


def _stop_logging() -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        # Here, while its descriptor is still its own: closed later, by the collector, it could be a job's file.
        handler.close()


def _only_descriptors(gate: int, said: int) -> None:
    """Nothing, the job's log twice, and the gate: these are open, and no other descriptor."""
    # Copied first, above all numbers that are about to be replaced.
    gate, said = (_above_stdio(descriptor) for descriptor in (gate, said))
    nothing = _above_stdio(os.open(os.devnull, os.O_RDONLY))
    os.dup2(nothing, 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.dup2(gate, _GATE, inheritable=False)
    os.closerange(_GATE + 1, os.sysconf("SC_OPEN_MAX"))


def _above_stdio(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _GATE + 1)


def _run_warm(order: StartOrder, spool: Spool) -> int:
    launcher = sys.modules[LAUNCHER_MODULE]
    _enter_environment(_marked(order))
    # As if the launcher had been started by itself: pickled code may look at __main__.
    sys.modules["__main__"] = launcher
    sys.argv = ["joblauncher", *order.launcher_options]
    code: int = launcher.main(list(order.launcher_options))
    return code


def _run_script(order: StartOrder, spool: Spool) -> NoReturn:
    os.execve("/bin/sh", ["/bin/sh", str(spool.script(order.token))], _marked(order))


_STARTS: Mapping[bool, Callable[[StartOrder, Spool], int]] = {True: _run_warm, False: _run_script}


def _marked(order: StartOrder) -> dict[str, str]:
    return {**order.environment, TOKEN_VARIABLE: order.token}


def _enter_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    places = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [place for place in places if place and place not in sys.path]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            os.write(2, f"could not flush {stream}: {error}\n".encode())
