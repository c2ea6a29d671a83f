"""Looking a submission up: the queue first, then accounting, and «none» only when both have answered so."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from wps_hpc.clusters.cluster import Cluster, _News
from wps_hpc.clusters.schedulers.base import CouldNotAsk, Known
from wps_hpc.clusters.schedulers.slurm import SlurmScheduler
from wps_hpc.clusters.scripts import load_template
from wps_hpc.clusters.transports.base import ChangeFeed, Command, Completed, TransportError
from wps_hpc.config import Cluster as Settings

TOKEN = "wrun00000000000"
KNOWN = Known(TOKEN, None, 1_795_000_000.0)
NOTHING = Completed(0, "", "")
OUTAGE = Completed(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
NO_DAEMON = Completed(1, "", "sacct: error: Sending PersistInit msg: Connection refused")
NO_ACCOUNTING = Completed(1, "", "Slurm accounting storage is disabled")
QUEUED = Completed(0, f"17|PENDING|N/A|0|Resources|{TOKEN}\n", "")
ACCOUNTED = Completed(0, f"17|COMPLETED|0:0|{TOKEN}\n", "")


@dataclass(frozen=True)
class Answers:
    """A transport to commands that always say the same; one that is missing cannot be run."""

    said: Mapping[str, Completed]

    def run(self, command: Command, timeout: float) -> Completed:
        """What the program says."""
        try:
            return self.said[command.argv[0]]
        except KeyError as error:
            raise TransportError(f"{command.argv[0]} is not there", may_have_run=False) from error

    def put(self, source: Path, target: str) -> None:
        """No files here."""
        raise AssertionError

    get = put  # type: ignore[assignment]

    def changes(self, timeout: float) -> ChangeFeed | None:
        """No news."""
        return None

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("squeue", "sacct", "found"),
    [
        (QUEUED, NOTHING, "17"),
        (QUEUED, NO_DAEMON, "17"),
        (NOTHING, ACCOUNTED, "17"),
        (NOTHING, NOTHING, None),
        (NOTHING, NO_ACCOUNTING, None),
        (NOTHING, NO_DAEMON, CouldNotAsk),
        (NOTHING, None, CouldNotAsk),
        (OUTAGE, NOTHING, CouldNotAsk),
    ],
)
def test_none_counts_only_when_everybody_who_could_know_has_answered(
    squeue: Completed, sacct: Completed | None, found: object
) -> None:
    settings = Settings(scheduler="slurm")
    transport = Answers({"squeue": squeue, **({"sacct": sacct} if sacct else {})})
    news = _News(transport, 1.0)
    cluster = Cluster("hpc", settings, SlurmScheduler(settings), transport, load_template("slurm"), news)
    answer = cluster.lookup(KNOWN)
    assert isinstance(answer, CouldNotAsk) if found is CouldNotAsk else answer == found
