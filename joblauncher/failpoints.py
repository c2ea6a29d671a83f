"""Named places where tests make a process die, each at most once.

In production ``reach`` is one look at an environment variable. A test sets ``WPS_HPC_FAILPOINT`` to
``<name>:<marker>``; the first process that reaches that place creates the marker file (O_EXCL) and is gone by SIGKILL.
"""

from __future__ import annotations

import os
import signal
from enum import Enum

VARIABLE = "WPS_HPC_FAILPOINT"


class Failpoint(Enum):
    """Every place where a crash must leave nothing lost, doubled or untrue."""

    ACCEPT_BEFORE_ROW = "accept-before-row"
    ACCEPT_AFTER_ROW = "accept-after-row"
    STAGE_FETCHED = "stage-fetched"
    STAGE_RECORDED = "stage-recorded"
    PACKED = "packed"
    SUBMIT_BEFORE_COMMAND = "submit-before-command"
    SUBMIT_AFTER_COMMAND = "submit-after-command"
    SUBMIT_RECORDED = "submit-recorded"
    SPOOL_BEFORE_RECORD = "spool-before-record"
    SPOOL_AFTER_RECORD = "spool-after-record"
    SPOOL_AFTER_START = "spool-after-start"
    LAUNCH_BEFORE_CLAIM = "launch-before-claim"
    LAUNCH_AFTER_CLAIM = "launch-after-claim"
    LAUNCH_LOADED = "launch-loaded"
    LAUNCH_PROCESS_DONE = "launch-process-done"
    LAUNCH_RESULT_WRITTEN = "launch-result-written"
    LAUNCH_STATUS_WRITTEN = "launch-status-written"
    SEND_HALF = "send-half"
    SENT = "sent"
    FETCH_PIECE = "fetch-piece"
    FETCH_ARRIVED = "fetch-arrived"
    WATCH_BEFORE_FINAL = "watch-before-final"
    WATCH_AFTER_FINAL = "watch-after-final"
    PURGE_RENAMED = "purge-renamed"
    CALLBACK_SENT = "callback-sent"


def reach(point: Failpoint) -> None:
    """Die here if this failpoint is set and was not reached before."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    name, _, marker = wanted.partition(":")
    if name == point.value and _first(marker):
        os.kill(os.getpid(), signal.SIGKILL)


def _first(marker: str) -> bool:
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
