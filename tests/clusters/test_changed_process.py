"""A process file that changes while jobs of it wait or run: no job is called wrongly, and none is judged by what came
later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clusters.scripted import DONE, Rounds
from tests.clusters.site import Site
from wps_hpc.jobs.job import JobState
from wps_hpc.processes.catalogue import Catalogue

CHANGED = """
from typing import Annotated
from wps_hpc import BoundingBox, outputs, process


@process(version="{version}")
def mark({signature}) -> Annotated[str, outputs.literal(identifier="{output}")]:
    \"\"\"Mark.\"\"\"
    return ""
"""


@pytest.fixture
def rounds(tmp_path: Path) -> Iterator[Rounds]:
    """A site without a worker, and the rounds of one."""
    site = Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    made = Rounds(site)
    yield made
    made.close()
    site.close()


def changed(
    tmp_path: Path, signature: str = "folder: str", version: str = "2.0.0", output: str = "result"
) -> Catalogue:
    """What is on offer after the change."""
    folder = tmp_path / "changed"
    folder.mkdir()
    (folder / "marker.py").write_text(CHANGED.format(signature=signature, version=version, output=output))
    catalogue = Catalogue((), (folder,))
    catalogue.reload()
    assert not catalogue.problems
    return catalogue


@pytest.mark.parametrize(
    ("signature", "locator"),
    [
        ("folder: str", "name"),
        ("folder: str, name: str, seconds: float, until: str, more: int", "more"),
        ("folder: BoundingBox, name: str, seconds: float, until: str", "folder"),
    ],
)
@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_a_waiting_job_whose_inputs_are_no_longer_taken_fails(
    rounds: Rounds, tmp_path: Path, signature: str, locator: str, version: str
) -> None:
    """A missing input must never reach the function as None, nor one of another kind."""
    job = rounds.site.mark("one")
    offer = changed(tmp_path, signature, version)
    rounds.dispatcher.packer = replace(rounds.dispatcher.packer, catalogue=offer)
    rounds.dispatcher.round()
    ended = rounds.site.job(job.id)
    assert ended.state is JobState.FAILED
    assert ended.failure is not None and "has changed since the job was accepted" in ended.failure.text
    assert ended.failure.locator == locator


def test_a_waiting_job_whose_inputs_are_still_taken_runs(rounds: Rounds, tmp_path: Path) -> None:
    job = rounds.site.mark("one")
    offer = changed(tmp_path, "folder: str, name: list[str], seconds: float, until: str, more: int = 3")
    rounds.dispatcher.packer = replace(rounds.dispatcher.packer, catalogue=offer)
    rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.QUEUED


@pytest.mark.parametrize(
    ("version", "state"), [("2.0.0", JobState.SUCCEEDED), ("1.0.0", JobState.FAILED)], ids=["changed", "as described"]
)
def test_a_running_job_is_not_held_to_the_outputs_of_a_later_version(
    rounds: Rounds, tmp_path: Path, version: str, state: JobState
) -> None:
    job = rounds.running("one")
    entry = changed(tmp_path, version=version, output="other").get("mark")
    assert entry is not None
    rounds.watcher.describe = lambda _: entry.description
    rounds.wrote_success(job)
    rounds.batch.say(DONE)
    for _ in range(3):
        rounds.pass_time(60)
        rounds.watcher.round()
    ended = rounds.site.job(job.id)
    assert (ended.state, ended.process_version) == (state, "1.0.0")
