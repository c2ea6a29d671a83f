"""``wps-hpc serve``: a supervisor with two children, the web server (gunicorn) and the worker.

The supervisor binds the socket, forks the children and starts one again when it dies, sooner at first and
later if it keeps dying. It runs no thread and holds no database connection (the one that says at the start
whether the database can be used is closed again), so that nothing of the kind crosses a fork. gunicorn does
not preload the application either: each web process makes its own engine, threads and catalogue, because
what authors import (GDAL, OpenMP) need not survive a fork. A worker that died alone is replaced while
requests go on being accepted; while the web server restarts, connections wait in the socket's backlog.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.http.errors import (
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.unreader import SocketUnreader
from gunicorn.util import write_nonblock
from gunicorn.workers import gthread

from wps_hpc.config import ConfigError, Settings
from wps_hpc.errors import AddressTooLong, BadRequest, HeadersTooLarge, OperationNotSupported, ServiceError
from wps_hpc.jobs.database import StoreBusy, StoreError
from wps_hpc.protocols.body import NoPlaceToWait
from wps_hpc.protocols.ows import exception_answer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A client that does not take a document, or the next megabyte of a file, in so many seconds is dropped.
SEND_SECONDS = 60.0
#: A body, most often small, is there so many seconds after its first read at the latest, or it is a slow one.
PROMPT_SECONDS = 0.25
#: Longest request line, in bytes; gunicorn takes no more.
LINE_LIMIT = 8190
#: Bytes of a head that are collected before gunicorn reads it; its own limits refuse any that is larger.
HEAD_LIMIT = 1_000_000
_HEAD_END = b"\r\n\r\n"
#: A client gets so many seconds to close its side of a connection that this side has closed.
LINGER_SECONDS = 2.0
#: Seconds before a child that died is started again, by how often it died in a row; then the last one.
BACK_OFF = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: A child that lived so many seconds starts again from the first back-off.
LIVED_SECONDS = 60.0
#: What children get to stop beyond the grace of requests, before they are killed.
STOP_MARGIN = 5.0
#: gunicorn's exit codes for an application that cannot be loaded: starting it again will not help.
BOOT_ERRORS = frozenset({Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR})
#: A database that does not answer is tried again after so many seconds, beyond those that each try takes.
DATABASE_PAUSE = 2.0
WAITING = "waiting for the job database"

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """One supervised process: what it runs, and how it has fared."""

    name: str
    main: Callable[[], int]
    pid: int | None = None
    started: float = 0.0
    start_at: float = 0.0
    deaths: int = 0

    def start(self) -> None:
        """Fork and run ``main`` in the child, which dies with its parent."""
        self.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork() or _run_child(self.main, parent)
        log.info("%s started as process %d", self.name, self.pid)

    def died(self, status: int) -> None:
        """Note the death and plan the next start."""
        lived = time.monotonic() - self.started
        self.deaths = 1 if lived > LIVED_SECONDS else self.deaths + 1
        wait = BACK_OFF[min(self.deaths, len(BACK_OFF)) - 1]
        self.pid = None
        self.start_at = time.monotonic() + wait
        log.error("%s ended unexpectedly (%s); starts again in %g s", self.name, describe_end(status), wait)


def describe_end(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _run_child(main: Callable[[], int], parent: int) -> NoReturn:
    """The life of a child, from the fork to its exit; never returns into the parent's code."""
    code = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        die_with(parent)
        code = main()
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 1
    except StoreError as error:
        log.critical("process %d ends: %s", os.getpid(), error)
    except BaseException:
        log.exception("process %d ends by an error", os.getpid())
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die_with(parent: int) -> None:
    """Have the kernel send this process SIGTERM when ``parent`` is gone, however it went."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise SystemExit(1)


@dataclass
class Supervisor:
    """Keeps its children running until SIGTERM, SIGINT or SIGHUP;

    then stops them. Runs in the main thread, alone.
    """

    children: list[Child]
    grace: float
    _failed: bool = field(default=False, init=False)

    def run(self) -> int:
        """Run until told to stop.

        Returns the exit code: 0, or 1 when the web application cannot be loaded.
        """
        former = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            while self._start_due() and not self._told_to_stop():
                self._reap()
            self._stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
        return 1 if self._failed else 0

    def _start_due(self) -> bool:
        """Start every child whose time has come; false when there is no point in going on."""
        for child in self.children:
            if not self._failed and child.pid is None and child.start_at <= time.monotonic():
                child.start()
        return not self._failed

    def _told_to_stop(self) -> bool:
        """Wait for a signal or for the next start; true for a signal to stop."""
        due = [child.start_at for child in self.children if child.pid is None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else 3600.0
        received = signal.sigtimedwait(_SIGNALS, timeout)
        return received is not None and received.si_signo != signal.SIGCHLD

    def _reap(self) -> None:
        """Note every child that has ended since the last look."""
        for child in self.children:
            pid, status = os.waitpid(child.pid, os.WNOHANG) if child.pid else (0, 0)
            if pid:
                child.died(status)
                self._failed |= os.waitstatus_to_exitcode(status) in BOOT_ERRORS

    def _stop(self) -> None:
        """SIGTERM to all children, their grace, then SIGKILL.

        Jobs are in sessions of their own and go on.
        """
        deadline = time.monotonic() + self.grace + STOP_MARGIN
        self._signal(signal.SIGTERM)
        while any(child.pid for child in self.children) and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, deadline - time.monotonic())
            self._collect()
        self._signal(signal.SIGKILL)
        for child in self.children:
            if child.pid:
                log.error("%s did not stop within %g s and was killed", child.name, self.grace + STOP_MARGIN)
                os.waitpid(child.pid, 0)

    def _collect(self) -> None:
        for child in self.children:
            if child.pid and os.waitpid(child.pid, os.WNOHANG)[0]:
                child.pid = None

    def _signal(self, number: signal.Signals) -> None:
        for child in self.children:
            if child.pid:
                os.kill(child.pid, number)


class PatientUnreader(SocketUnreader):  # type: ignore[misc]
    """Reads from a client's socket until a deadline (monotonic seconds), however little comes at a time.

    The rest of a body that does not arrive promptly is waited for in one of a few places. After each read the socket
    gets the limit for sending, which is what it does next.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.deadline = time.monotonic()
        self.late: Exception = NoMoreData()
        #: A request has begun, or is waited for, and its head is not whole.
        self.awaiting_head = False
        #: While a body is read promptly: the places where it may be waited for, and until when it needs none.
        self._places: threading.Semaphore | None = None
        self._prompt_until: float | None = None
        #: The places of which this body has one.
        self._held: threading.Semaphore | None = None

    def allow(self, seconds: float, late: Exception) -> None:
        """From now on, ``late`` is raised ``seconds`` from now."""
        self.deadline = time.monotonic() + seconds
        self.late = late

    def begin_body(self, seconds: float, places: threading.Semaphore) -> None:
        """A body must arrive within ``seconds`` from now; what is not there promptly needs one of ``places``."""
        self.allow(seconds, TimeoutError("the request's body did not arrive in time"))
        self._places, self._prompt_until = places, None

    def end_body(self) -> None:
        """The body is there, or wanted by nobody any more: what is left of it is waited for no longer."""
        held, self._held, self._places = self._held, None, None
        if held is not None:
            held.release()
        self.allow(PROMPT_SECONDS, TimeoutError("the rest of a body that nobody reads did not arrive"))

    def has_head(self, seconds: float) -> bool:
        """Take what has arrived of a request, without waiting; whether that is enough to read its head.

        The first look at a request starts its ``seconds``; raises NoMoreData when they are over.
        """
        if not self.awaiting_head:
            self.allow(seconds, NoMoreData())
            self.awaiting_head = True
        head = bytearray(self.take_buffered())
        try:
            self.awaiting_head = not self._collect(head)
        finally:
            self.unread(bytes(head))
        if self.awaiting_head and time.monotonic() >= self.deadline:
            raise self.late
        return not self.awaiting_head

    def _collect(self, head: bytearray) -> bool:
        """Receive into ``head``; true once there is no reason to wait for more."""
        self.sock.setblocking(False)
        while _HEAD_END not in head and len(head) < HEAD_LIMIT:
            try:
                received = self.sock.recv(65536)
            except BlockingIOError:
                return False
            if not received:
                return True
            head += received
        return True

    def chunk(self, size_hint: int | None = None) -> bytes:
        """What the client sent next; raises ``late`` after the deadline, NoPlaceToWait where there is none."""
        now = time.monotonic()
        if now >= self.deadline:
            raise self.late
        until = min(self.deadline, self._needs_no_place_until(now))
        try:
            return self._receive(size_hint, max(0.0, until - now))
        except (TimeoutError, BlockingIOError):
            if until == self.deadline:
                raise self.late from None
        self._take_place()
        return self.chunk(size_hint)

    def _receive(self, size_hint: int | None, seconds: float) -> bytes:
        self.sock.settimeout(seconds)
        try:
            received: bytes = super().chunk(size_hint)
            return received
        finally:
            self.sock.settimeout(SEND_SECONDS)

    def _needs_no_place_until(self, now: float) -> float:
        if self._places is None:
            return self.deadline
        if self._prompt_until is None:
            self._prompt_until = now + PROMPT_SECONDS
        return self._prompt_until

    def _take_place(self) -> None:
        places = self._places
        if places is None or not places.acquire(blocking=False):
            raise NoPlaceToWait("too many bodies are waited for")
        self._held, self._places = places, None


class _Reader:
    """Reads a body; what is not HTTP is an OSError, as any other body that breaks off.

    ``ended`` is called as soon as all of the body is there. After an error the connection is of no further use, and
    the client is told so.
    """

    def __init__(self, req: Any, ended: Callable[[], None]) -> None:
        self._inner = req.body.reader
        self._force_close = req.force_close
        self._ended = ended

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""
        try:
            received: bytes = self._inner.read(size)
        except ParseException as error:
            self._force_close()
            raise OSError(errno.EPROTO, str(error)) from error
        except OSError:
            self._force_close()
            raise
        if len(received) < size or getattr(self._inner, "length", None) == 0:
            self._ended()
        return received


class PatientWorker(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, made so that a client that takes its time keeps no other one waiting.

    gunicorn gives a thread to each new connection for up to five seconds, and to a client that sends a byte now and
    then for ever. Here a connection waits in the poller, without a thread, until the head of a request is whole, and
    the head has a limit of time; a late one closes the connection. A body has a limit, too, but does occupy a thread:
    a late one makes ``wsgi.input.read`` raise TimeoutError, which the application answers; so half of the threads at
    most wait for bodies that are not there promptly, and beyond those a slow one raises NoPlaceToWait. And gunicorn
    waits in its main loop, for up to two seconds each, for clients to close their side of an answered connection; here
    the loop goes on and such sockets wait in the poller.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = self.app.settings.server
        self.slow_bodies = threading.BoundedSemaphore(max(1, self.limits.web_threads // 2))
        #: Closed on this side, not yet on the client's; by deadline.
        self.lingering: dict[socket.socket, float] = {}

    def load_wsgi(self) -> None:
        """Make the application. Its database is waited for; one that cannot be used ends the server, in a sentence."""
        try:
            patiently(super().load_wsgi, self._is_to_start)
        except StoreError as error:
            log.critical("the web server cannot start: %s", error)
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from error

    def _is_to_start(self) -> bool:
        """Tell the arbiter that this process lives; whether it is still to do so."""
        self.notify()
        return bool(self.alive and self.is_parent_alive())

    def handle(self, conn: Any) -> Any:
        """Serve one request of a connection, in a thread of the pool, if its head has arrived."""
        if not conn.initialized:
            conn.init()
            conn.parser.unreader = PatientUnreader(conn.sock)
            conn.close = partial(self.part, conn.sock)
        try:
            if not conn.parser.unreader.has_head(self.limits.header_timeout):
                return gthread._DEFER if self.alive else False
        except (NoMoreData, OSError) as error:
            self.log.debug("No request came: %s", error)
            return False
        return super().handle(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Have a connection that waits for the rest of a head closed when the time for that is over."""
        super().finish_request(conn, fs)
        if self.pending_conns and self.pending_conns[-1] is conn:
            conn.timeout = conn.parser.unreader.deadline

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Run the application for a request whose head has been read."""
        unreader = conn.parser.unreader
        unreader.begin_body(self.limits.body_timeout, self.slow_bodies)
        req.body.reader = _Reader(req, unreader.end_body)
        try:
            return super().handle_request(req, conn)
        except TimeoutError as error:
            raise NoMoreData from error
        finally:
            unreader.end_body()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what cannot be read as HTTP with a report like any other, not with gunicorn's HTML."""
        error = next((make() for kind, make in _UNREADABLE if isinstance(exc, kind)), None)
        if error is None:
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("Invalid request from ip=%s: %r", addr[0] if addr else "", str(exc)[:200])
        answer = exception_answer(error, self.limits.languages[0])
        status = HTTPStatus(answer.status)
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "Connection: close",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "X-Content-Type-Options: nosniff",
            *(f"{name}: {value}" for name, value in answer.headers),
        ]
        write_nonblock(client, "\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body)

    def part(self, sock: socket.socket, graceful: bool = False) -> None:
        """Close a connection, in the main loop's thread. Graceful: what was sent arrives (RFC 9112 §9.6)."""
        try:
            if graceful and len(self.lingering) < self.worker_connections:
                sock.setblocking(False)
                sock.shutdown(socket.SHUT_WR)
                self.poller.register(sock, selectors.EVENT_READ, self.drain)
                self.lingering[sock] = time.monotonic() + LINGER_SECONDS
                return
        except OSError as error:
            log.debug("a connection is gone already: %s", error)
        sock.close()

    def drain(self, sock: socket.socket) -> None:
        """Throw away what a client still sends, until it closes its side."""
        try:
            finished = not sock.recv(65536)
        except BlockingIOError:
            finished = False
        except OSError:
            finished = True
        if finished:
            self._let_go(sock)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close connections that have been idle, or have lingered, for too long; called by the main loop."""
        super().murder_keepalived(force)
        now = time.monotonic()
        for sock in [sock for sock, deadline in self.lingering.items() if deadline <= now or force]:
            self._let_go(sock)

    def _let_go(self, sock: socket.socket) -> None:
        del self.lingering[sock]
        self.poller.unregister(sock)
        sock.close()


#: What a client is told of a request that gunicorn cannot read, by gunicorn's word for it; the first that fits.
_UNREADABLE: Sequence[tuple[type[Exception], Callable[[], ServiceError]]] = (
    (
        LimitRequestLine,
        lambda: AddressTooLong(f"The address has more than {LINE_LIMIT} bytes; send the request as XML by POST."),
    ),
    (LimitRequestHeaders, lambda: HeadersTooLarge("The request's headers are too many or too large.")),
    (UnsupportedTransferCoding, lambda: OperationNotSupported("The request's transfer coding is not read here.")),
    (ParseException, lambda: BadRequest("The request is not HTTP that can be read.")),
)


class ServerLog(glogging.Logger):  # type: ignore[misc]
    """gunicorn's own messages in the server's log; no access log (the proxy in front has one)."""

    def setup(self, cfg: Any) -> None:
        """Hand everything to the root logger instead of a handler of gunicorn's."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET if cfg.loglevel == "debug" else logging.WARNING)


class WebServer(BaseApplication):  # type: ignore[misc]
    """gunicorn around the application that ``load_app`` makes, in each web process anew."""

    def __init__(self, settings: Settings, listener: socket.socket, load_app: Callable[[], WSGIApplication]) -> None:
        self.settings = settings
        self.listener = listener
        self.load_app = load_app
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's options; nothing is read from the environment or from files."""
        for name, value in gunicorn_options(self.settings, self.listener).items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """The application; called in each web process, after the fork, until the database answers."""
        return self.load_app()

    def run(self) -> None:
        """Serve until SIGTERM; SystemExit has the exit code.

        gunicorn halts when a web process cannot load the application; a second one that cannot escapes from that.
        """
        try:
            super().run()
        except HaltServer as halt:
            log.error("the web server ends: %s", halt.reason)
            raise SystemExit(halt.exit_status) from halt


def gunicorn_options(settings: Settings, listener: socket.socket) -> Mapping[str, Any]:
    """gunicorn's options, by gunicorn's names.

    gunicorn closes the descriptor that it is given: it gets a copy.
    """
    server = settings.server
    return {
        "bind": f"fd://{os.dup(listener.fileno())}",
        "workers": server.web_processes,
        "worker_class": PatientWorker,
        "threads": server.web_threads,
        "keepalive": server.keepalive_seconds,
        "limit_request_line": LINE_LIMIT,
        # A file goes out in pieces, each with its limit of time: in one sendfile a slow reader has no limit at all.
        "sendfile": False,
        "graceful_timeout": max(1, round(server.graceful_seconds)),
        "preload_app": False,
        "logger_class": ServerLog,
        "loglevel": "debug" if settings.logging.level == "DEBUG" else "warning",
        "accesslog": None,
        "control_socket_disable": True,
        # Only this server's own check of trusted_proxies decides what a forwarded header means.
        "forwarded_allow_ips": "",
        "http_protocols": "h1",
    }


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises ConfigError when the address is taken or not this host's."""
    server = settings.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        return socket.create_server((server.host, server.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {server.host}:{server.port}: {os.strerror(error.errno or 0)}") from error


def with_port(settings: Settings, listener: socket.socket) -> Settings:
    """The settings with the port that was really bound, for ``port = 0``."""
    port = int(listener.getsockname()[1])
    return settings.model_copy(update={"server": settings.server.model_copy(update={"port": port})})


def serve(settings: Settings, *, worker: bool = True) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code.

    Raises ConfigError when it cannot listen, and StoreError when the database cannot be used; one that does not answer
    is waited for by each process.
    """
    listener = listen(settings)
    settings = with_port(settings, listener)
    children = [Child("web server", lambda: run_web(settings, listener))]
    if worker:
        children.append(Child("worker", lambda: run_worker(settings)))
    try:
        _try_database(settings)
        log.info("serving at %s", settings.server.base_url)
        return Supervisor(children, settings.server.graceful_seconds).run()
    finally:
        listener.close()


def _try_database(settings: Settings) -> None:
    try:
        prepare_database(settings)
    except StoreBusy as error:
        log.warning("%s: %s", WAITING, error)


def prepare_database(settings: Settings) -> None:
    """Bring the tables up to date; no connection is left. Raises StoreBusy, or StoreError if it cannot be used."""
    from wps_hpc.site import ready_store

    ready_store(settings).close()


def patiently(start: Callable[[], T], wanted: Callable[[], bool]) -> T:
    """What ``start`` returns once it raises StoreBusy no more; SystemExit when it is no longer wanted."""
    while True:
        try:
            return start()
        except StoreBusy as error:
            log.warning("%s: %s", WAITING, error)
        time.sleep(DATABASE_PAUSE)
        if not wanted():
            raise SystemExit(0)


def run_web(settings: Settings, listener: socket.socket) -> int:
    """The web child: gunicorn, until SIGTERM."""
    from wps_hpc.site import web_app

    WebServer(settings, listener, lambda: web_app(settings)).run()
    return 0


def run_worker(settings: Settings) -> int:
    """The worker child, until SIGTERM. Raises StoreError when the database cannot be used."""
    from wps_hpc import worker

    patiently(lambda: prepare_database(settings), lambda: True)
    return worker.main(settings)
