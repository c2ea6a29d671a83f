"""The benchmark on Grid Engine does not rot: what it makes of its figures, and a short run of it on a real cluster."""

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.schemas import ROOT
from tests.services import require
from tests.services.gridengine import HOW, find_programs

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The benchmark's modules by name; they import each other as the command does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("report", "gridengine", "gridengine_jobs", "gridengine_servers", "operations", "slurm_jobs")
    return {name: importlib.import_module(name) for name in names}


def cells(table: str) -> list[list[str]]:
    """The lines of a Markdown table, without its ruler."""
    heading, _, *lines = table.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (heading, *lines)]


def test_the_batch_script_notes_the_time_before_anything_else(benchmark: dict[str, ModuleType]) -> None:
    template = (ROOT / "batch_templates" / "gridengine.sh.j2").read_text()
    script = benchmark["slurm_jobs"].noting(template, Path("/notes"))
    commands = [line for line in script.splitlines() if line and line[0] not in "#{"]
    assert commands[:4] == ["umask 077", "exec >>batch.log 2>&1 </dev/null", "date +%s.%N >>/notes", "launcher="]


def test_steps_are_told_as_medians_side_by_side(benchmark: dict[str, ModuleType]) -> None:
    steps = benchmark["gridengine_jobs"].Steps
    ours = [steps(10.0, 10.0 + accept, 10.5, 11.0, 12.0) for accept in (0.01, 0.02, 0.09)]
    theirs = [steps(10.0, 10.2, 10.25, 11.25, None), steps(10.0, 10.2, 10.25, 11.25, 14.0)]
    told = benchmark["gridengine"]
    lines = cells(told.figures_table(told.steps_figures(ours, theirs, 2.5)))
    assert lines[0] == ["", "wps-hpc", "PyWPS", "ratio", "load"]
    assert [line[1:] for line in lines[1:]] == [
        ["20.0 ms", "200 ms", "0.10 ×", "2.5"],
        ["500 ms", "250 ms", "2.0 ×", "2.5"],
        ["500 ms", "1,000 ms", "0.50 ×", "2.5"],
        ["2,000 ms", "4,000 ms", "0.50 ×", "2.5"],
    ]
    assert "PyWPS: of 2 that succeeded, 1 not told" in told.untold("PyWPS", theirs)


def test_where_nothing_was_told_there_is_no_ratio(benchmark: dict[str, ModuleType]) -> None:
    steps = benchmark["gridengine_jobs"].Steps
    told = benchmark["gridengine"]
    figures = told.steps_figures([steps(0.0, 0.1, 0.2, 0.3, 0.4)], [steps(0.0, 0.1, 0.2, 0.3, None)], 1.0)
    assert cells(told.figures_table(figures))[-1][1:] == ["400 ms", "invalid", "invalid", "1.0"]


def test_costs_and_bursts_have_their_units(benchmark: dict[str, ModuleType]) -> None:
    jobs, told = benchmark["gridengine_jobs"], benchmark["gridengine"]
    costs = told.cost_figures([jobs.NodeCost(0.5, 25.0)], [jobs.NodeCost(1.0, 50.0)], 1.0)
    bursts = told.burst_figures(8, [jobs.Burst(60.0, 20.0, 0)], [jobs.Burst(6.0, 5.0, 2)], 1.0)
    assert [line[1:4] for line in cells(told.figures_table([*costs, *bursts]))[1:]] == [
        ["500 ms", "1,000 ms", "0.50 ×"],
        ["25.0 MB", "50.0 MB", "0.50 ×"],
        ["60.0 /s", "6.0 /s", "10.0 ×"],
        ["20.0 /s", "5.0 /s", "4.0 ×"],
    ]
    assert told.refusals(8, "PyWPS", [jobs.Burst(6.0, 5.0, 2)], 40).endswith("of 40 Executes 2 refused")


def test_those_that_are_killed_are_spread_over_the_others(benchmark: dict[str, ModuleType]) -> None:
    jobs = benchmark["gridengine_jobs"]
    fates = jobs.fates_of(jobs.Mix(50, 10, 5))
    assert Counter(fates) == {"plain": 35, "deleted": 10, "late": 5}
    assert all("deleted" in fates[n : n + 10] and "late" in fates[n : n + 12] for n in range(0, 50, 10))


def test_an_end_is_right_wrong_or_never_told(benchmark: dict[str, ModuleType]) -> None:
    jobs, told = benchmark["gridengine_jobs"], benchmark["gridengine"]
    fates = {"a": "plain", "b": "plain", "c": "deleted", "d": "late"}
    right = {"a": jobs.SUCCEEDED, "b": jobs.SUCCEEDED, "c": jobs.FAILED, "d": jobs.FAILED}
    ours = jobs.tally(fates, right)
    theirs = jobs.tally(fates, {"a": jobs.SUCCEEDED, "b": jobs.FAILED, "c": jobs.NEVER, "d": jobs.SUCCEEDED})
    assert [(one.jobs, one.rightly) for one in ours] == [(2, 2), (1, 1), (1, 1)]
    assert cells(told.ends_table(ours, theirs))[1:] == [
        ["end by themselves", "2", "2", "0", "0", "1", "1", "0", "2.0 ×"],
        ["killed by qdel", "1", "1", "0", "0", "0", "0", "1", "–"],
        ["over the time limit", "1", "1", "0", "0", "0", "1", "0", "–"],
        ["all", "4", "4", "0", "0", "1", "2", "1", "4.0 ×"],
    ]


def test_a_mark_is_read_once_it_is_whole(benchmark: dict[str, ModuleType], tmp_path: Path) -> None:
    read, mark = benchmark["gridengine_jobs"].read_mark, tmp_path / "mark"
    assert read(mark) is None
    mark.write_text("12.5 4")
    assert read(mark) is None
    mark.write_text("12.5 42\n")
    assert read(mark) == (12.5, 42)


def test_all_that_the_shepherd_has_started_is_the_job(
    benchmark: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever process of it has left the mark."""
    jobs = benchmark["gridengine_jobs"]
    child = SimpleNamespace(name=lambda: "python")
    script = SimpleNamespace(name=lambda: "sh", children=lambda recursive: [child])
    child.parents = lambda: [script, SimpleNamespace(name=lambda: "sge_shepherd"), SimpleNamespace(name=lambda: "init")]
    monkeypatch.setattr(jobs.psutil, "Process", lambda pid: child)
    assert jobs.job_processes(42) == [script, child]


@pytest.mark.parametrize(
    "option",
    [
        "--rounds=0",
        "--bursts=1000",
        "--burst=0",
        "--clients=0",
        "--clients=99",
        "--jobs=1",
        "--limit=1",
        "--patience=100000",
    ],
)
def test_a_run_without_end_is_refused(
    benchmark: dict[str, ModuleType], capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark["gridengine"].read_options([option])
    assert "at most" in capsys.readouterr().err


@pytest.mark.cluster
def test_a_short_run_measures_both_sides() -> None:
    """What PyWPS tells of its jobs is not asserted: it is what is measured.

    On a busy machine the time limit may catch some that should have ended by themselves, but of all it is told.
    """
    require("Grid Engine", find_programs(), HOW)
    options = (
        "--rounds=1",
        "--bursts=1",
        "--burst=3",
        "--clients=2",
        "--jobs=10",
        "--limit=8",
        "--patience=8",
        "--json",
    )
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gridengine.py"), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert len(told["figures"]) == 8
    assert all(value > 0 for figure in told["figures"] for value in figure["ours"])
    assert all(figure["theirs"] for figure in told["figures"] if "success" not in figure["title"])
    assert [one["jobs"] for one in told["ends"]["PyWPS"]] == [7, 2, 1]
    plain, *killed = told["ends"]["wps-hpc"]
    assert [one["rightly"] for one in killed] == [2, 1]
    assert "never" not in plain["told"] and plain["rightly"] > 0
