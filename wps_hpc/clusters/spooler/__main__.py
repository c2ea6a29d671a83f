"""``python -m wps_hpc.clusters.spooler``: starts a spooler in the background. For the embedded transport."""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wps_hpc.clusters.spooler.daemon import resume, start
from wps_hpc.clusters.spooler.fingerprint import fingerprint
from wps_hpc.clusters.spooler.spool import Spool
from wps_hpc.clusters.spooler.start import preload

_LOG_BYTES = 5_000_000
_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def main(arguments: Sequence[str]) -> int:
    """Start a spooler, or go on as one; returns the exit code."""
    options = _parser().parse_args(arguments)
    preload()
    if options.fingerprint:
        sys.stdout.write(f"{fingerprint()}\n")
        return 0
    spool = Spool(options.run)
    os.umask(0o077)
    os.chdir("/")
    _log_to(spool)
    spool.jobs.mkdir(exist_ok=True)
    if options.inherit:
        resume(spool, *options.inherit)
        return 0
    return start(spool)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spooler", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="spool folder")
    what.add_argument("--fingerprint", action="store_true", help="print which code this is, and end")
    parser.add_argument("--inherit", type=int, nargs=2, help="descriptors of lock and socket, after an upgrade")
    return parser


def _log_to(spool: Spool) -> None:
    handler = logging.handlers.RotatingFileHandler(spool.log, maxBytes=_LOG_BYTES, backupCount=1)
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
