"""The PyWPS sites of the benchmarks: one process each, and status documents as static files of the same application.

gunicorn imports it and calls one of its functions; ``PYWPS_CFG`` names the configuration, which ``servers.py`` writes.
"""

from __future__ import annotations

from typing import Any

import pywps_wait
from pywps import LiteralInput, LiteralOutput, Process, Service
from pywps.configuration import get_config_value, load_configuration
from werkzeug.middleware.shared_data import SharedDataMiddleware


class Echo(Process):  # type: ignore[misc]
    """Gives its text back."""

    def __init__(self) -> None:
        super().__init__(
            self._handler,
            identifier="echo",
            title="Echo",
            abstract="Gives back the text that it gets.",
            version="1.0",
            inputs=[LiteralInput("text", "text", data_type="string")],
            outputs=[LiteralOutput("output", "output", data_type="string")],
            store_supported=True,
            status_supported=True,
        )

    def _handler(self, request: Any, response: Any) -> Any:
        response.outputs["output"].data = request.inputs["text"][0].data
        return response


def echo() -> SharedDataMiddleware:
    """The site of the benchmark of the protocol."""
    return _site(Echo())


def wait() -> SharedDataMiddleware:
    """The site of the benchmark on Grid Engine."""
    return _site(pywps_wait.Wait())


def _site(process: Process) -> SharedDataMiddleware:
    load_configuration()
    # Without cache headers: status documents change.
    return SharedDataMiddleware(Service([process]), {"/outputs": get_config_value("server", "outputpath")}, cache=False)
