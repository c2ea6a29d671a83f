"""Reaching the service of the configuration:

over HTTP when a server runs here, else within this very process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from wps_hpc.client import WpsClient
from wps_hpc.config import Settings

#: Seconds without a byte from a server.
SILENCE = 60.0
#: How long the worker of this process gets to end its rounds, in seconds.
LAST_ROUNDS = 10.0

ENDPOINT = "/wps"


def local_address(settings: Settings) -> str:
    """The address of the configuration's server on this host, whatever it is called outside."""
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = anywhere.get(settings.server.host, settings.server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"


def server_runs(settings: Settings) -> bool:
    """Whether a server of this kind answers at the configuration's address."""
    try:
        answer = httpx.get(f"{local_address(settings)}/health", timeout=5.0)
        return "database" in answer.json()
    except (httpx.HTTPError, ValueError):
        return False


def remote_client(url: str, silence: float = SILENCE) -> WpsClient:
    """A client for a WPS endpoint anywhere."""
    return WpsClient(url, httpx.Client(timeout=silence, follow_redirects=True))


@contextmanager
def service(settings: Settings, silence: float = SILENCE) -> Iterator[WpsClient]:
    """A client for the service of the configuration.

    When no server runs, this process has a worker meanwhile.
    """
    if server_runs(settings):
        here = local_address(settings)
        http = httpx.Client(timeout=silence)
        with WpsClient(here + ENDPOINT, http, rebase=(settings.server.base_url, here)) as client:
            yield client
    else:
        with in_process(settings) as client:
            yield client


@contextmanager
def in_process(settings: Settings) -> Iterator[WpsClient]:
    """The application and a worker in this process, without a socket."""
    from wps_hpc.site import web_app
    from wps_hpc.worker import Worker

    stop = threading.Event()
    thread = threading.Thread(target=Worker(settings).run, args=(stop,), name="worker", daemon=True)
    thread.start()
    http = httpx.Client(transport=httpx.WSGITransport(web_app(settings)))
    try:
        with WpsClient(settings.server.base_url + ENDPOINT, http) as client:
            yield client
    finally:
        stop.set()
        thread.join(LAST_ROUNDS)
