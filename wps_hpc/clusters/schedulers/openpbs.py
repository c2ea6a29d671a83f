"""The dialect of OpenPBS and PBS Pro: TORQUE's sibling, with JSON, chunks, other exit codes, and a history of its own.

Only living jobs are in the query. A finished one is asked for in the history, by its id where that is known; where a
server keeps no history (``job_history_enable``), what the job left in its folder has to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wps_hpc.clusters.schedulers import pbs_words
from wps_hpc.clusters.schedulers.base import Known
from wps_hpc.clusters.schedulers.pbs_answers import is_id
from wps_hpc.clusters.schedulers.pbs_words import Words
from wps_hpc.clusters.schedulers.shared import share
from wps_hpc.clusters.schedulers.torque import TorqueScheduler, walltime
from wps_hpc.clusters.transports.base import Command
from wps_hpc.config import Queue
from wps_hpc.processes.description import Resources

#: More ids than that do not fit into a command line; then the whole history is asked for.
_IDS_AT_ONCE = 1000
_FULL_JSON = ("qstat", "-f", "-F", "json")


@dataclass(frozen=True)
class OpenPbsScheduler(TorqueScheduler):
    """Jobs of one OpenPBS server, under the account that runs the commands."""

    name: str = "openpbs"
    words: Words = pbs_words.OPENPBS

    def query_command(self) -> Command:
        """See ``Scheduler.query_command``. Without history, which may be of weeks and of everybody."""
        return self._command(*_FULL_JSON)

    def accounting_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.accounting_command``. Known ids are answered among unknown ones."""
        ids = [each.scheduler_id for each in known if each.scheduler_id and is_id(each.scheduler_id)]
        all_are_known = len(ids) == len(known) <= _IDS_AT_ONCE
        return self._command(*_FULL_JSON, "-x", *(ids if all_are_known else ()))

    def _resources(self, needed: Resources, queue: Queue | None) -> Sequence[str]:
        nodes = needed.nodes or 1
        chunk = [f"select={nodes}", f"ncpus={share(needed.slots, nodes) or 1}"]
        memory = share(self._memory_mb(needed), nodes)
        if memory:
            chunk.append(f"mem={memory}mb")
        if needed.gpus:
            chunk.append(f"ngpus={share(needed.gpus, nodes)}")
        return (":".join(chunk), walltime(needed, queue))
