"""Batch systems of the fault matrix that share no folder with the server: job folders are sent, results are fetched."""

from __future__ import annotations

from pathlib import Path

from tests.clusters.batch_system import BatchSystem
from tests.clusters.systems import GridEngineSystem, SlurmSystem


class Staged(BatchSystem):
    """A system behind a login node (see ``far.reach``); each site has a root of its own there."""

    def lines(self, folder: Path) -> str:
        """Nothing is shared."""
        return f'staging = "sftp"\nroot = "{folder}/far"\n{super().lines(folder)}'


class StagedSlurm(Staged, SlurmSystem):
    """Slurm, to which folders are sent."""


class StagedGridEngine(Staged, GridEngineSystem):
    """Grid Engine, to which folders are sent."""
