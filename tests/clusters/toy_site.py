"""A supervised web server with a toy application and a toy worker: `python -m tests.clusters.toy_site CONFIG FOLDER`.

The worker writes its pid to FOLDER/worker and dies while FOLDER/die-at-start exists. The application tells its pid,
its threads' limits and what it reads.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from wps_hpc import logs
from wps_hpc.config import load_settings
from wps_hpc.errors import ServiceError
from wps_hpc.jobs.database import StoreBusy, StoreError
from wps_hpc.protocols.body import read_body
from wps_hpc.protocols.ows import exception_answer
from wps_hpc.serve import Child, Supervisor, WebServer, listen, with_port

TROUBLE = {
    "broken": RuntimeError("the application cannot be loaded"),
    "busy": StoreBusy("the job database does not answer"),
    "damaged": StoreError("the job database is damaged"),
}


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the pid and the length of the body, read as the real application does; /unread leaves it unread.

    /slow/<path> touches that path and takes half a second; /then/<path> touches it when it has read the body, and
    waits until it is gone.
    """
    if environ["PATH_INFO"].startswith("/slow/"):
        Path(environ["PATH_INFO"].removeprefix("/slow")).touch()
        time.sleep(0.5)
    try:
        length = 0 if environ["PATH_INFO"] == "/unread" else len(read_body(environ, 100_000_000, 60.0))
    except ServiceError as error:
        answer = exception_answer(error, "en-US")
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(answer.headers))
        return [answer.body]
    if environ["PATH_INFO"].startswith("/then/"):
        mark = Path(environ["PATH_INFO"].removeprefix("/then"))
        mark.touch()
        while mark.exists():
            time.sleep(0.02)
    body = f"{os.getpid()} {length}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def load(folder: Path) -> Any:
    """The application; not while FOLDER/broken, FOLDER/busy or FOLDER/damaged exist."""
    for name, error in TROUBLE.items():
        if (folder / name).exists():
            raise error
    return app


def toy_worker(folder: Path) -> int:
    """Tell the pid and wait for SIGTERM."""
    if (folder / "die-at-start").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with (folder / "worker").open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    signal.sigwait({signal.SIGTERM})
    (folder / "worker-stopped").touch()
    return 0


def main(config: Path, folder: Path) -> int:
    """Serve until told to stop."""
    settings = load_settings(config)
    logs.configure(settings.logging)
    listener = listen(settings)
    settings = with_port(settings, listener)
    children = [
        Child("web server", lambda: (WebServer(settings, listener, lambda: load(folder)).run(), 0)[1]),
        Child("worker", lambda: toy_worker(folder)),
    ]
    print(settings.server.base_url, flush=True)
    return Supervisor(children, settings.server.graceful_seconds).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
