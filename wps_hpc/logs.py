"""Logging for every process of the server: one line a record, in UTC, to standard error or to one file.

Several processes append to the same file. Each line is written in one call, and a file that a log rotation moved away
is opened anew.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from logging.handlers import WatchedFileHandler

from wps_hpc.config import ConfigError, Logging

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s[%(process)d]: %(message)s"
DATE_FORMAT = "%Y-%m-%dT%H:%M:%S"

#: Libraries that say at INFO what only somebody who debugs them wants to read.
QUIET = ("httpx", "httpcore", "alembic", "gunicorn.error", "paramiko")


#: What would begin a line of its own, steer a terminal, or show text in another order than it has.
_UNPRINTABLE = re.compile("[\x00-\x08\n-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class OneLine(logging.Formatter):
    """Messages on one line: clients and processes choose some of their words, and must not forge others."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record, its message made harmless."""
        record.message = _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), record.message)
        return super().formatMessage(record)


def configure(settings: Logging) -> None:
    """Send this process's log records where ``settings`` say. May be called again, as after a fork.

    Raises ConfigError when the log file cannot be opened.
    """
    handler = _destination(settings)
    formatter = OneLine(FORMAT, DATE_FORMAT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for former in root.handlers[:]:
        root.removeHandler(former)
        former.close()
    root.addHandler(handler)
    root.setLevel(settings.level)
    for name in QUIET:
        logging.getLogger(name).setLevel(settings.level if settings.level == "DEBUG" else "WARNING")


def _destination(settings: Logging) -> logging.Handler:
    if settings.file is None:
        return logging.StreamHandler(sys.stderr)
    try:
        return WatchedFileHandler(settings.file, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"logging.file: cannot write {settings.file}: {error.strerror}") from error
