"""Requests per second of this server beside PyWPS, in one run on one machine: ``make bench``.

Both servers are started afresh for each operation, with the same gunicorn workers and the same echo process, and get
their load in turns, one round each, after a warm-up. A round with one wrong answer does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from load import SILENCE, Outcome, Plan
from operations import OPERATIONS, STATUS_LOCATION, Drained, Operation, UnexpectedAnswer, drain
from report import machine, number, table, versions
from servers import HERE, SERVERS, Server, ServerError, Shape

_PACKAGES = ("wps-hpc", "pywps", "gunicorn", "lxml", "SQLAlchemy", "Werkzeug")


@dataclass(frozen=True)
class Round:
    """One round of load on one server. Latencies are in seconds."""

    rate: float
    latencies: list[float]
    errors: int
    told: list[str]
    drained: Drained | None = None

    @property
    def counts(self) -> bool:
        """Whether every answer was the expected document."""
        return self.errors == 0 and bool(self.latencies)


@dataclass
class Measured:
    """What one server did in one operation, over all rounds."""

    server: str
    rounds: list[Round] = field(default_factory=list)

    @property
    def valid(self) -> list[Round]:
        """The rounds that count."""
        return [one for one in self.rounds if one.counts]

    @property
    def rate(self) -> float | None:
        """Requests per second: the median of the rounds."""
        return statistics.median(one.rate for one in self.valid) if self.valid else None

    def percentile(self, percent: int) -> float | None:
        """A percentile of all latencies, in milliseconds."""
        latencies = sorted(latency for one in self.valid for latency in one.latencies)
        if not latencies:
            return None
        return 1000 * latencies[min(len(latencies) - 1, len(latencies) * percent // 100)]

    def summary(self) -> dict[str, object]:
        """The figures, for ``--json``."""
        return {
            "rate": self.rate,
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
            "requests": sum(len(one.latencies) for one in self.rounds),
            "errors": sum(one.errors for one in self.rounds),
            "told": [text for one in self.rounds for text in one.told],
            "rates": [one.rate for one in self.rounds],
            "drained": [asdict(one.drained) for one in self.rounds if one.drained is not None],
        }


Results = Mapping[str, Mapping[str, Measured]]


@dataclass(frozen=True)
class Options:
    """How to measure. ``seconds`` is the length of a round."""

    seconds: float
    rounds: int
    connections: int
    shape: Shape


def put_under_load(operation: Operation, plan: Plan) -> Round:
    """One round, and the end of the jobs that it left."""
    outcome = _in_a_process_of_its_own(plan)
    drained = drain(outcome.collected) if operation.drained else None
    rate = len(outcome.latencies) / outcome.seconds
    return Round(rate, outcome.latencies, outcome.errors, outcome.told, drained)


def _in_a_process_of_its_own(plan: Plan) -> Outcome:
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py")],
        input=json.dumps(asdict(plan)),
        stdout=subprocess.PIPE,
        text=True,
        timeout=plan.seconds + 4 * SILENCE,
        check=True,
    )
    return Outcome(**json.loads(done.stdout))


def measure(operation: Operation, options: Options) -> dict[str, Measured]:
    """An operation on fresh servers, in alternating rounds; where jobs may get stuck, on fresh ones for each round."""
    print(f"{operation.title} …", file=sys.stderr, flush=True)
    measured = {name: Measured(name) for name in SERVERS}
    spans = [1] * options.rounds if operation.drained else [options.rounds]
    for rounds in spans:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wps-bench-")))
            running = [_started(stack, name, folder, options.shape) for name in SERVERS]
            _take_turns(running, operation, options, rounds, measured)
    return measured


def _take_turns(
    running: Sequence[Server], operation: Operation, options: Options, rounds: int, measured: Mapping[str, Measured]
) -> None:
    plans = {server.name: _plan(server, operation, options) for server in running}
    for server in running:
        put_under_load(operation, _short(plans[server.name], operation))
    for _ in range(rounds):
        for server in running:
            measured[server.name].rounds.append(put_under_load(operation, plans[server.name]))


def _started(stack: ExitStack, name: str, folder: Path, shape: Shape) -> Server:
    own = folder / name
    own.mkdir()
    return stack.enter_context(SERVERS[name](own, shape))


def _plan(server: Server, operation: Operation, options: Options) -> Plan:
    collect = STATUS_LOCATION if operation.drained else None
    exchanges = operation.exchanges(server)
    return Plan(server.port, exchanges, options.connections, options.seconds, operation.most, collect)


def _short(plan: Plan, operation: Operation) -> Plan:
    """A warm-up."""
    return replace(plan, seconds=min(1.0, plan.seconds), most=operation.warm_up)


# -------------------------------------------------------------------------------------------------------- the table


def summary_table(results: Results) -> str:
    """The figures as a Markdown table."""
    heading = ["operation"]
    for name in SERVERS:
        heading += [f"{name} /s", "p50 ms", "p99 ms"]
    lines = [_line(OPERATIONS[name], list(measured.values())) for name, measured in results.items()]
    return table([[*heading, "ratio", "aim"], *lines])


def _line(operation: Operation, measured: Sequence[Measured]) -> list[str]:
    cells = [operation.title]
    for one in measured:
        cells += [number(one.rate), number(one.percentile(50)), number(one.percentile(99))]
    return [*cells, number(ratio(measured), "×"), f"{operation.aim:g} ×"]


def ratio(measured: Sequence[Measured]) -> float | None:
    """How many times the second server's rate the first one's is; None when one of them has no valid round."""
    first, second = (one.rate for one in measured)
    return None if first is None or second is None else first / second


def remarks(results: Results) -> list[str]:
    """What the table does not show: wrong answers, and what became of asynchronous jobs."""
    lines = []
    for name, measured in results.items():
        for one in measured.values():
            lines += _remarks(OPERATIONS[name], one)
    return lines


def _remarks(operation: Operation, one: Measured) -> list[str]:
    lines = []
    if errors := sum(each.errors for each in one.rounds):
        told = "; ".join(dict.fromkeys(text for each in one.rounds for text in each.told))
        right = ", ".join(f"{each.rate:.1f}" for each in one.rounds if not each.counts)
        lines.append(
            f"{operation.title}, {one.server}: {errors} wrong answers, beside {right} right ones a second in those "
            f"rounds: {' '.join(told.split())}"
        )
    drained = [each.drained for each in one.rounds if each.drained is not None]
    if drained:
        sent = sum(each.succeeded + each.failed + each.stuck for each in drained)
        lines.append(
            f"{operation.title}, {one.server}: of {sent} jobs {sum(each.succeeded for each in drained)} succeeded, "
            f"{sum(each.failed for each in drained)} failed, {sum(each.stuck for each in drained)} never ended; "
            f"the last of a round ended {', '.join(f'{each.seconds:.1f}' for each in drained)} s after it"
        )
    return lines


def circumstances(options: Options) -> list[str]:
    """Machine, versions and settings, so that figures can be compared."""
    shape = options.shape
    return [
        machine(),
        versions(_PACKAGES),
        f"both: gunicorn gthread, {shape.web_processes} processes × {shape.threads} threads, SQLite file, "
        f"{shape.parallel} jobs at the same time; load: {options.connections} connections, "
        f"{options.rounds} rounds of {options.seconds:g} s each, in turns",
    ]


# ----------------------------------------------------------------------------------------------------- command line


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Requests per second beside PyWPS.")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a round (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each server and operation (default: 3)")
    parser.add_argument("--connections", type=int, default=8, help="connections at the same time (default: 8)")
    parser.add_argument("--only", action="append", choices=list(OPERATIONS), help="only this operation; repeatable")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    if not (0 < options.seconds <= 60 and 0 < options.rounds <= 20 and 0 < options.connections <= 64):
        parser.error("at most 60 seconds, 20 rounds and 64 connections, and more than none")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 when some figure is missing, because answers were wrong."""
    given = read_options(argv)
    # Twice the connections, so that no synchronous call is refused for want of a place.
    options = Options(given.seconds, given.rounds, given.connections, Shape(2, 8, 2 * given.connections))
    about = circumstances(options)
    try:
        results = {name: measure(OPERATIONS[name], options) for name in given.only or OPERATIONS}
    except (ServerError, UnexpectedAnswer) as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(_as_json(about, results), indent=2))
    else:
        print("\n".join([*about, "", summary_table(results), "", *remarks(results)]))
    return 0 if all(one.rate is not None for measured in results.values() for one in measured.values()) else 1


def _as_json(about: Sequence[str], results: Results) -> dict[str, object]:
    operations = {
        name: {
            **{server: one.summary() for server, one in measured.items()},
            "ratio": ratio(list(measured.values())),
            "aim": OPERATIONS[name].aim,
        }
        for name, measured in results.items()
    }
    return {"circumstances": list(about), "operations": operations}


if __name__ == "__main__":
    sys.exit(main())
