"""A supervised web server with a toy application and a toy worker: `python -m tests.clusters.toy_site CONFIG FOLDER`.

The worker writes its pid to FOLDER/worker and dies while FOLDER/die-at-start exists. The application tells its pid,
its threads' limits and what it reads.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wps_hpc import logs
from wps_hpc.config import load_settings
from wps_hpc.serve import Child, Supervisor, WebServer, listen, with_port


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the pid and the length of the body; /slow/<path> touches that path and takes half a second."""
    if environ["PATH_INFO"].startswith("/slow/"):
        Path(environ["PATH_INFO"].removeprefix("/slow")).touch()
        time.sleep(0.5)
    try:
        length = len(environ["wsgi.input"].read())
    except TimeoutError:
        start_response("408 Request Timeout", [("Connection", "close"), ("Content-Length", "0")])
        return []
    body = f"{os.getpid()} {length}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def broken() -> Any:
    """An application that cannot be loaded."""
    raise RuntimeError("the application cannot be loaded")


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
    load = broken if (folder / "broken").exists() else lambda: app
    children = [
        Child("web server", lambda: (WebServer(settings, listener, load).run(), 0)[1]),
        Child("worker", lambda: toy_worker(folder)),
    ]
    print(settings.server.base_url, flush=True)
    return Supervisor(children, settings.server.graceful_seconds).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
