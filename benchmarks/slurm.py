"""What the server costs beside Slurm alone, on a real Slurm, in one run: ``make bench-slurm``.

Each step of a job, and submissions in bursts, are measured in turns with the same thing done by Slurm's own commands.
Then the watcher follows ever more jobs that Slurm holds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from report import machine, number, table, versions
from slurm_jobs import PAUSE, Both, Steps, both
from slurm_rounds import RoundCost, crowd

from tests.services.slurm import HOW, is_installed, running_slurm

_PACKAGES = ("wps-hpc", "SQLAlchemy")
#: Slurm's own limit on jobs, which is lower than what is measured here.
_EXTRA = "MaxJobCount=30000"
_MOST_JOBS = 20_000
#: The time that figures are told in.
_MS = 1000.0


@dataclass(frozen=True)
class Figure:
    """The same thing with the server and with Slurm alone, in ``unit``; ``load`` is the machine's, before."""

    title: str
    beside: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    load: float

    @property
    def medians(self) -> tuple[float, float]:
        """Of either side."""
        return statistics.median(self.ours), statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        """How many times Slurm alone."""
        ours, theirs = self.medians
        return ours / theirs


def measure_steps(on: Both, rounds: int) -> list[Figure]:
    """The three overheads of single jobs, one with the server and one without in turns."""
    load = os.getloadavg()[0]
    on.through_the_server()
    on.past_it()
    pairs = [(on.through_the_server(), on.past_it()) for _ in range(rounds)]
    return steps_figures([ours for ours, _ in pairs], [theirs for _, theirs in pairs], load)


def steps_figures(ours: Sequence[Steps], theirs: Sequence[Steps], load: float) -> list[Figure]:
    """What the steps of jobs say, in milliseconds."""
    polled = f"polled every {PAUSE * _MS:g} ms"
    told: Sequence[tuple[str, str, str, str]] = (
        ("Execute → sbatch starts", "sbatch itself", "before_sbatch", "sbatch"),
        ("script starts → process starts", "python3 -c pass", "launch", "launch"),
        (f"process ends → client sees it, {polled}", "squeue shows COMPLETED", "news", "news"),
    )
    return [
        Figure(title, beside, "ms", _each(ours, here), _each(theirs, there), load)
        for title, beside, here, there in told
    ]


def _each(steps: Sequence[Steps], name: str) -> list[float]:
    return [_MS * getattr(one, name) for one in steps]


def measure_bursts(on: Both, rounds: int, count: int) -> Figure:
    """Sustained submissions, in turns."""
    load = os.getloadavg()[0]
    pairs = [(on.burst(count), on.sequence(count)) for _ in range(rounds)]
    title = f"submissions a second, {count} Executes at once"
    return Figure(
        title, "sbatch, one after the other", "/s", [ours for ours, _ in pairs], [theirs for _, theirs in pairs], load
    )


# -------------------------------------------------------------------------------------------------------- the tables


def figures_table(figures: Sequence[Figure]) -> str:
    """Medians and their ratio."""
    heading = ["with the server", "", "Slurm alone", "", "ratio", "load"]
    return table([heading, *(_figure_line(figure) for figure in figures)])


def _figure_line(figure: Figure) -> list[str]:
    ours, theirs = (number(value, figure.unit) for value in figure.medians)
    return [figure.title, ours, figure.beside, theirs, number(figure.ratio, "×"), number(figure.load)]


def rounds_table(costs: Sequence[RoundCost]) -> str:
    """The watcher's rounds, in milliseconds."""
    heading = ["jobs", "commands", "round ms", "CPU ms", "of it squeue", "squeue alone", "ratio", "first round", "load"]
    return table([heading, *(_round_line(cost) for cost in costs)])


def _round_line(cost: RoundCost) -> list[str]:
    seconds = (cost.round.wall, cost.round.cpu, cost.round.child_cpu, cost.squeue.cpu)
    times = [number(_MS * value) for value in seconds]
    rest = [number(cost.ratio, "×"), number(_MS * cost.first.cpu), number(cost.load)]
    return [f"{cost.jobs:,}", number(cost.commands), *times, *rest]


# ------------------------------------------------------------------------------------------------------ command line


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What the server costs beside Slurm alone.")
    parser.add_argument("--rounds", type=int, default=9, help="single jobs, and rounds of the watcher (default: 9)")
    parser.add_argument("--bursts", type=int, default=3, help="bursts of submissions (default: 3)")
    parser.add_argument("--burst", type=int, default=100, help="submissions in a burst (default: 100)")
    parser.add_argument(
        "--jobs", type=int, action="append", help="followed by the watcher; repeatable (default: 1, 100 and 10000)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(argv)
    options.jobs = sorted(options.jobs or (1, 100, 10_000))
    if not (0 < options.rounds <= 50 and 0 < options.bursts <= 50 and 1 < options.burst <= 500):
        parser.error("at most 50 rounds, and 50 bursts of 2 to 500 submissions, and more than none")
    if not 0 < options.jobs[0] <= options.jobs[-1] <= _MOST_JOBS:
        parser.error(f"at most {_MOST_JOBS} jobs, and more than none")
    return options


def measure(options: argparse.Namespace) -> tuple[list[Figure], list[RoundCost]]:
    """All of it, on one cluster."""
    with running_slurm(extra=_EXTRA) as slurm:
        with tempfile.TemporaryDirectory(prefix="wps-bench-") as folder, both(slurm, Path(folder), options.burst) as on:
            _say("single jobs …")
            figures = measure_steps(on, options.rounds)
            _say("bursts …")
            figures.append(measure_bursts(on, options.bursts, options.burst))
        with crowd(slurm) as followed:
            costs = []
            for size in options.jobs:
                _say(f"{size} jobs …")
                followed.grow(size)
                costs.append(followed.cost(options.rounds))
        return figures, costs


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def as_json(about: Sequence[str], figures: Sequence[Figure], costs: Sequence[RoundCost]) -> Mapping[str, object]:
    """The figures, for ``--json``."""
    return {
        "circumstances": list(about),
        "figures": [{**asdict(figure), "medians": figure.medians, "ratio": figure.ratio} for figure in figures],
        "rounds": [{**asdict(cost), "ratio": cost.ratio} for cost in costs],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 2 where there is no Slurm to measure on."""
    options = read_options(argv)
    if not is_installed():
        print(f"Slurm is missing: {HOW}", file=sys.stderr)
        return 2
    about = [machine(), versions(_PACKAGES)]
    figures, costs = measure(options)
    if options.json:
        print(json.dumps(as_json(about, figures, costs), indent=2))
    else:
        print("\n".join([*about, "", figures_table(figures), "", rounds_table(costs)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
