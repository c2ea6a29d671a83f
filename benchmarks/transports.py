"""What one scheduler command costs here and over SSH, on a real sshd on the loopback: ``make bench-transports``.

The command is ``true``, so that all there is to measure is the way. It goes over each transport in turns.
"""

from __future__ import annotations

import argparse
import os
import pwd
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

from report import number, table

from tests.clusters.login import SSH, settings
from tests.services.sshd import HOW, find_program, running_sshd
from wps_hpc.clusters.connections import SSH_TRANSPORTS
from wps_hpc.clusters.transports.base import Command, Transport
from wps_hpc.clusters.transports.local import LocalTransport

_MS = 1000.0
_TRUE = Command(("true",))


def measured(transports: Mapping[str, Transport], rounds: int) -> Mapping[str, Sequence[float]]:
    """Seconds of each command, by transport; one on each that does not count opens the connection."""
    for transport in transports.values():
        transport.run(_TRUE, 60)
    times: dict[str, list[float]] = {name: [] for name in transports}
    for _ in range(rounds):
        for name, transport in transports.items():
            begun = time.perf_counter()
            transport.run(_TRUE, 60)
            times[name].append(time.perf_counter() - begun)
    return times


def rows(times: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Median, least and most of each, in milliseconds."""
    return [
        [name, *(number(_MS * figure) + " ms" for figure in (statistics.median(each), min(each), max(each)))]
        for name, each in times.items()
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="commands over each transport")
    parser.add_argument("--account", help="who logs in; default: who runs this")
    options = parser.parse_args()
    program = find_program()
    if program is None:
        sys.exit(f"there is no sshd: {HOW}")
    account = options.account or pwd.getpwuid(os.geteuid()).pw_name
    with running_sshd(program) as sshd:
        over_ssh = {kind: SSH_TRANSPORTS[kind](settings(sshd, user=account)) for kind in SSH}
        transports: dict[str, Transport] = {"local": LocalTransport(), **over_ssh}
        try:
            times = measured(transports, options.rounds)
        finally:
            for transport in transports.values():
                transport.close()
    print(table([["one command over", "median", "least", "most"], *rows(times)]))
    print(f"\n{options.rounds} commands each, as {account}; load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
