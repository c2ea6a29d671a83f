"""The benchmark on Slurm does not rot: what it makes of its figures, and a short run of it on a real cluster."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.schemas import ROOT
from tests.services import require
from tests.services.slurm import HOW, is_installed

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The benchmark's modules by name; they import each other as the command does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return {name: importlib.import_module(name) for name in ("report", "slurm", "slurm_jobs", "slurm_rounds")}


def test_a_rate_is_from_the_first_call_to_the_last_answer(benchmark: dict[str, ModuleType]) -> None:
    jobs = benchmark["slurm_jobs"]
    assert jobs.read_notes("10.0 10.5\n11.25 12.0\n") == [(10.0, 10.5), (11.25, 12.0)]
    assert jobs.rate_of([(10.0, 10.5), (11.25, 12.0)]) == 1.0


def test_the_batch_script_notes_the_time_before_anything_else(benchmark: dict[str, ModuleType]) -> None:
    noting = benchmark["slurm_jobs"].noting
    script = noting((ROOT / "batch_templates" / "slurm.sh.j2").read_text(), Path("/notes"))
    commands = [line for line in script.splitlines() if line and line[0] not in "#{"]
    assert commands[0] == "date +%s.%N >>/notes"
    with pytest.raises(ValueError, match="template has changed"):
        noting("#!/bin/sh\nexit 0\n", Path("/notes"))


def test_each_figure_is_a_median_beside_slurm_alone(benchmark: dict[str, ModuleType]) -> None:
    steps = benchmark["slurm_jobs"].Steps
    ours = [steps(0.0, wait, wait + 1, 5.0, 5.0 + launch, 9.0) for wait, launch in ((0.1, 2.0), (0.3, 1.0), (0.9, 3.0))]
    theirs = [steps(0.0, 0.0, 0.1, 5.0, 5.5, 6.0)]
    figures = benchmark["slurm"].steps_figures(ours, theirs, 1.5)
    assert [tuple(map(round, figure.medians)) for figure in figures] == [(300, 100), (2000, 500), (2000, 500)]
    assert [round(figure.ratio, 3) for figure in figures] == [3.0, 4.0, 4.0]
    lines = benchmark["slurm"].figures_table(figures).splitlines()
    assert [line.split("|")[2:-1] for line in lines[2:3]] == [
        ["   300 ms ", "          sbatch itself ", " 100 ms ", " 3.0 × ", "  1.5 "]
    ]
    assert len({len(line) for line in lines}) == 1


def test_a_round_is_told_with_the_part_that_squeue_has(benchmark: dict[str, ModuleType]) -> None:
    rounds = benchmark["slurm_rounds"]
    cost = rounds.median_cost([rounds.Cost(1.0, 0.2, 0.1), rounds.Cost(3.0, 0.6, 0.3), rounds.Cost(2.0, 0.4, 0.2)])
    assert cost == rounds.Cost(2.0, 0.4, 0.2)
    told = rounds.RoundCost(10_000, 1.0, cost, rounds.Cost(0.1, 0.0, 0.2), rounds.Cost(9.0, 0.7, 0.2), 0.5)
    line = benchmark["slurm"].rounds_table([told]).splitlines()[2]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["10,000", "1.0", "2,000", "600", "200", "200", "3.0 ×", "900", "0.5"]


def test_what_a_child_costs_is_told_apart(benchmark: dict[str, ModuleType]) -> None:
    busy = [sys.executable, "-S", "-c", "sum(range(3_000_000))"]
    cost = benchmark["slurm_rounds"].measured(lambda: subprocess.run(busy, check=True))
    assert cost.child_cpu > cost.own_cpu >= 0
    assert cost.wall > 0


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """The command, as ``make bench-slurm`` runs it."""
    command = [sys.executable, str(BENCHMARKS / "slurm.py"), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)


@pytest.mark.parametrize("option", ["--rounds=0", "--bursts=1000", "--burst=1", "--jobs=1000000", "--jobs=0"])
def test_a_run_without_end_is_refused(option: str) -> None:
    done = run(option)
    assert done.returncode == 2
    assert "and more than none" in done.stderr


@pytest.mark.cluster
def test_a_short_run_measures_both_sides() -> None:
    require("Slurm", is_installed(), HOW)
    done = run("--rounds=1", "--bursts=1", "--burst=3", "--jobs=1", "--jobs=5", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert len(told["figures"]) == 4
    assert all(value > 0 for figure in told["figures"] for value in (*figure["medians"], figure["ratio"]))
    assert [(cost["jobs"], cost["commands"]) for cost in told["rounds"]] == [(1, 1.0), (5, 1.0)]
