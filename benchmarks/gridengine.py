"""Asynchronous jobs beside PyWPS's scheduler mode, on one real Grid Engine, in one run: ``make bench-gridengine``.

Either server gets its jobs in turns: single ones, whose steps and costs on the node are measured; bursts of them by one
client and by several; and many together of which some are killed, to see what clients are told.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from gridengine_jobs import NEVER, UNTOLD_AFTER, Burst, Ends, Mix, NodeCost, Side, Steps, Terms, both
from report import Figure, machine, number, table, versions
from slurm_jobs import PAUSE

from tests.services.gridengine import HOW, find_programs, running_grid_engine

_PACKAGES = ("wps-hpc", "pywps", "drmaa", "gunicorn", "SQLAlchemy")
_NAMES = ("wps-hpc", "PyWPS")
_CLIENTS = (1, 8)
#: The time that figures are told in.
_MS = 1000.0
#: Of the jobs that are sent together, one in so many is killed by qdel, and one is over its time limit.
_DELETED, _LATE = 5, 10


@dataclass(frozen=True)
class Results:
    """All that was measured; of ends and remarks this server's come first."""

    figures: Sequence[Figure]
    ends: tuple[Sequence[Ends], Sequence[Ends]]
    remarks: Sequence[str]


def measure_singles(sides: Sequence[Side], rounds: int) -> tuple[list[Figure], list[str]]:
    """Steps and costs of single jobs, in turns, after one on either side that does not count."""
    load = os.getloadavg()[0]
    for side in sides:
        side.timed()
    ours, theirs = zip(*([side.timed() for side in sides] for _ in range(rounds)), strict=True)
    here, there = zip(*([side.cost() for side in sides] for _ in range(rounds)), strict=True)
    figures = [*steps_figures(ours, theirs, load), *cost_figures(here, there, load)]
    return figures, [untold(name, one) for name, one in zip(_NAMES, (ours, theirs), strict=True)]


def steps_figures(ours: Sequence[Steps], theirs: Sequence[Steps], load: float) -> list[Figure]:
    """What the steps of jobs say, in milliseconds."""
    told = {
        "Execute → answer": "accept",
        "Execute → job starts": "start",
        "job starts → process starts": "launch",
        f"Execute → client sees success, polled every {PAUSE * _MS:g} ms": "success",
    }
    return [
        Figure(title, "", "ms", _each(ours, name, _MS), _each(theirs, name, _MS), load) for title, name in told.items()
    ]


def cost_figures(ours: Sequence[NodeCost], theirs: Sequence[NodeCost], load: float) -> list[Figure]:
    """What jobs take of their node, whose process does nothing."""
    told = (("CPU of a job on its node", "cpu", "ms", _MS), ("memory of a job on its node", "memory", "MB", 1.0))
    return [
        Figure(title, "", unit, _each(ours, name, by), _each(theirs, name, by), load) for title, name, unit, by in told
    ]


def untold(name: str, steps: Sequence[Steps]) -> str:
    """How many of the single jobs were never told to have succeeded."""
    missing = sum(one.seen is None for one in steps)
    return f"single jobs, {name}: of {len(steps)} that succeeded, {missing} not told of within {UNTOLD_AFTER:g} s"


def measure_bursts(
    sides: Sequence[Side], rounds: int, count: int, crowds: Sequence[int]
) -> tuple[list[Figure], list[str]]:
    """Sustained submissions, in turns, by so many clients."""
    figures, remarks = [], []
    for clients in crowds:
        load = os.getloadavg()[0]
        ours, theirs = zip(*([side.burst(count, clients) for side in sides] for _ in range(rounds)), strict=True)
        figures += burst_figures(clients, ours, theirs, load)
        remarks += [refusals(clients, name, one, count) for name, one in zip(_NAMES, (ours, theirs), strict=True)]
    return figures, remarks


def burst_figures(clients: int, ours: Sequence[Burst], theirs: Sequence[Burst], load: float) -> list[Figure]:
    """Answers, and jobs that have arrived, a second."""
    by = f"{clients} client{'s' if clients > 1 else ''}"
    told = {f"Executes answered a second, {by}": "answers", f"jobs at Grid Engine a second, {by}": "jobs"}
    return [Figure(title, "", "/s", _each(ours, name), _each(theirs, name), load) for title, name in told.items()]


def refusals(clients: int, name: str, bursts: Sequence[Burst], count: int) -> str:
    """How many Executes of the bursts were refused."""
    refused = sum(burst.refused for burst in bursts)
    return f"bursts, clients: {clients}, {name}: of {len(bursts) * count} Executes {refused} refused"


def _each(measured: Sequence[object], name: str, by: float = 1.0) -> list[float]:
    values = (getattr(one, name) for one in measured)
    return [by * value for value in values if value is not None]


# -------------------------------------------------------------------------------------------------------- the tables


def figures_table(figures: Sequence[Figure]) -> str:
    """Medians and their ratio."""
    return table([["", *_NAMES, "ratio", "load"], *(_figure_line(figure) for figure in figures)])


def _figure_line(figure: Figure) -> list[str]:
    ours, theirs = (number(value, figure.unit) for value in figure.medians)
    return [figure.title, ours, theirs, _times(figure.ratio), number(figure.load)]


def _times(ratio: float | None) -> str:
    return number(ratio, "×") if ratio is None or ratio >= 1 else f"{ratio:.2f} ×"


def ends_table(ours: Sequence[Ends], theirs: Sequence[Ends]) -> str:
    """Of how many jobs the right end was told, of how many none, and the ratio of the right ones."""
    heading = ["jobs that", "sent"]
    heading += [f"{name}: {what}" for name in _NAMES for what in ("right", "wrong", "never")]
    lines = [_ends_line([here], [there]) for here, there in zip(ours, theirs, strict=True)]
    return table([[*heading, "ratio"], *lines, ["all", *_ends_line(ours, theirs)[1:]]])


def _ends_line(ours: Sequence[Ends], theirs: Sequence[Ends]) -> list[str]:
    sent = sum(one.jobs for one in ours)
    line = [ours[0].title, str(sent)]
    rights = []
    for side in (ours, theirs):
        right, never = sum(one.rightly for one in side), sum(one.told.get(NEVER, 0) for one in side)
        line += [str(right), str(sent - right - never), str(never)]
        rights.append(right)
    return [*line, _times(rights[0] / rights[1]) if rights[1] else "–"]


# ------------------------------------------------------------------------------------------------------ command line


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Asynchronous jobs beside PyWPS, on one Grid Engine.")
    parser.add_argument("--rounds", type=int, default=9, help="single jobs of either kind (default: 9)")
    parser.add_argument("--bursts", type=int, default=3, help="bursts by as many clients (default: 3)")
    parser.add_argument("--burst", type=int, default=40, help="Executes in a burst (default: 40)")
    parser.add_argument("--clients", type=int, action="append", help="in a burst; repeatable (default: 1 and 8)")
    parser.add_argument("--jobs", type=int, default=50, help="sent together, some to be killed (default: 50)")
    parser.add_argument("--limit", type=int, default=30, help="time limit of jobs, in seconds (default: 30)")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds to tell an end in (default: 30)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(argv)
    options.clients = sorted(options.clients or _CLIENTS)
    if not 0 < options.clients[0] <= options.clients[-1] <= 16:
        parser.error("at most 16 clients, and more than none")
    if not (0 < options.rounds <= 50 and 0 < options.bursts <= 50 and 0 < options.burst <= 200):
        parser.error("at most 50 rounds, and 50 bursts of 200 Executes, and more than none")
    if not (_LATE <= options.jobs <= 200 and 5 <= options.limit <= 300 and 0 < options.patience <= 300):
        parser.error(f"{_LATE} to 200 jobs, with a limit of 5 to 300 seconds and at most as much patience")
    return options


def measure(options: argparse.Namespace) -> Results:
    """All of it, on one cluster."""
    programs = find_programs()
    assert programs is not None
    mix = Mix(options.jobs, options.jobs // _DELETED, options.jobs // _LATE)
    terms = Terms(options.limit, options.patience, options.clients[-1])
    with running_grid_engine(programs) as grid, both(grid, terms) as sides:
        _say("single jobs …")
        singles, untold_ones = measure_singles(sides, options.rounds)
        _say(f"{options.jobs} jobs …")
        ours, theirs = (side.mixed(mix) for side in sides)
        _say("bursts …")
        bursts, refused = measure_bursts(sides, options.bursts, options.burst, options.clients)
        return Results([*singles, *bursts], (ours, theirs), [*untold_ones, *refused])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def as_json(about: Sequence[str], results: Results) -> Mapping[str, object]:
    """The figures, for ``--json``."""
    figures = [{**asdict(one), "medians": one.medians, "ratio": one.ratio} for one in results.figures]
    ends = {
        name: [{**asdict(one), "rightly": one.rightly} for one in side]
        for name, side in zip(_NAMES, results.ends, strict=True)
    }
    return {"circumstances": list(about), "figures": figures, "ends": ends, "remarks": list(results.remarks)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 2 where there is no Grid Engine to measure on."""
    options = read_options(argv)
    if find_programs() is None:
        print(f"Grid Engine is missing: {HOW}", file=sys.stderr)
        return 2
    about = [machine(), versions(_PACKAGES)]
    results = measure(options)
    if options.json:
        print(json.dumps(as_json(about, results), indent=2))
    else:
        tables = (figures_table(results.figures), ends_table(*results.ends))
        print("\n\n".join(["\n".join(about), *tables, "\n".join(results.remarks)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
