"""The benchmark of containers does not rot: what it makes of its figures, and a short run of it."""

import importlib
import os
import subprocess
import sys
from types import ModuleType

import pytest

from tests.schemas import ROOT
from tests.services import require
from tests.services.containers import HOW, runs_apptainer

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark; it imports its neighbours as the command does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("containers")


def test_every_way_stands_beside_the_bare_launcher(benchmark: ModuleType) -> None:
    shown = benchmark.shown({"a bare launcher": [90.0, 100.0, 200.0], "podman": [300.0]}).splitlines()
    assert [cell.strip() for cell in shown[2].split("|")[2:-1]] == ["100 ms", "90.0 ms", "200 ms", "1.0 ×"]
    assert shown[3].split("|")[-2].strip() == "3.0 ×"


@pytest.mark.cluster
@pytest.mark.slow
def test_a_short_run_of_the_whole() -> None:
    require("Apptainer", runs_apptainer(), HOW)
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "containers.py"), "--runs", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a bare launcher" in done.stdout and "Apptainer, an image file" in done.stdout
