"""The process of the benchmark on Grid Engine, for PyWPS: its nodes import this; ``grid_processes/wait.py`` is ours."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pywps import LiteralInput, LiteralOutput, Process


class Wait(Process):  # type: ignore[misc]
    """Leaves time and process id in the file ``mark``, and waits until the file ``until`` exists.

    ``limit`` is not heeded: a walltime can be given for all jobs of the site only.
    """

    def __init__(self) -> None:
        super().__init__(
            self._handler,
            identifier="wait",
            title="Wait",
            version="1.0",
            inputs=[
                LiteralInput("mark", "mark", data_type="string"),
                LiteralInput("until", "until", data_type="string"),
                LiteralInput("limit", "limit", data_type="integer"),
            ],
            outputs=[LiteralOutput("output", "output", data_type="string")],
            store_supported=True,
            status_supported=True,
        )

    def _handler(self, request: Any, response: Any) -> Any:
        mark, until = (request.inputs[name][0].data for name in ("mark", "until"))
        Path(mark).write_text(f"{time.time()} {os.getpid()}\n")
        while not Path(until).exists():
            time.sleep(0.1)
        response.outputs["output"].data = mark
        return response
