"""Processes that PyWPS itself cannot send to another machine: made at run time, or of closures."""

import atexit
import os
import sqlite3
import threading
import time
from pathlib import Path

from pywps import LiteralInput, LiteralOutput, Process

LOCK = threading.RLock()
DATABASE = sqlite3.connect(":memory:", check_same_thread=False)
atexit.register(DATABASE.close)


def greeter(identifier, word):
    """A process whose handler is a closure."""

    def handle(request, response):
        response.outputs["greeting"].data = f"{word} {request.inputs['name'][0].data}"

    return Process(
        handle,
        identifier=identifier,
        title=f"Says {word}",
        inputs=[LiteralInput("name", "Name", data_type="string")],
        outputs=[LiteralOutput("greeting", "Greeting", data_type="string")],
        store_supported=True,
        status_supported=True,
    )


def endless(marker):
    """A process that leaves its process id in a file, says something, and does not end by itself."""

    def handle(request, response):
        print("said by the handler", flush=True)
        response.update_status("it goes on", 5)
        Path(marker).write_text(str(os.getpid()))
        while True:
            time.sleep(0.1)

    return Process(
        handle,
        identifier="endless",
        title="Endless",
        outputs=[LiteralOutput("nothing", "Nothing", data_type="string")],
        store_supported=True,
        status_supported=True,
    )


def power(exponent):
    """A class of its own for each exponent, which no name leads to."""

    def __init__(self):
        Process.__init__(
            self,
            self._handler,
            identifier=f"power_{exponent}",
            title=f"To the power of {exponent}",
            inputs=[LiteralInput("number", "Number", data_type="float")],
            outputs=[LiteralOutput("power", "Power", data_type="float")],
            store_supported=True,
            status_supported=True,
        )

    def _handler(self, request, response):
        response.outputs["power"].data = request.inputs["number"][0].data ** exponent
        return response

    return type(f"Power{exponent}", (Process,), {"__init__": __init__, "_handler": _handler})


def query(identifier):
    """A process whose handler is a closure, and holds on to a lock and a database of its module."""

    def handle(request, response):
        with LOCK:
            (response.outputs["twice"].data,) = DATABASE.execute(
                "SELECT 2 * ?", (request.inputs["number"][0].data,)
            ).fetchone()

    return Process(
        handle,
        identifier=identifier,
        title="Asks a database",
        inputs=[LiteralInput("number", "Number", data_type="integer")],
        outputs=[LiteralOutput("twice", "Twice", data_type="integer")],
        store_supported=True,
        status_supported=True,
    )
