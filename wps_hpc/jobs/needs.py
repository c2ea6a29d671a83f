"""What a job needs: as its process says for these inputs, as its client wishes, within what the site gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord
from wps_hpc.clusters.queues import NoQueueFits, choose_queue
from wps_hpc.config import Cluster, Limits
from wps_hpc.jobs.record import input_megabytes
from wps_hpc.processes.description import Resources
from wps_hpc.processes.run import Runnable


class NotGiven(Exception):
    """The site does not give a job what it needs; the text is for the client, ``resource`` what there is not."""

    def __init__(self, text: str, resource: str) -> None:
        super().__init__(text)
        self.resource = resource


def needs(
    process: Runnable, record: RequestRecord, wished: Mapping[str, int], folder: JobFolder, limits: Limits
) -> Resources:
    """The resources of a job whose inputs are staged in ``folder``; what nobody says is None, or the site's default.

    Raises NotGiven above a cap, and whatever the process's own function of its inputs raises.
    """
    stated: dict[str, Any] = {**vars(process.resources_for(record, folder)), **wished}
    default_walltime = min(limits.walltime_seconds, limits.max_walltime_seconds)
    stated["walltime_s"] = stated["walltime_s"] or default_walltime
    stated["memory_mb"] = stated["memory_mb"] or limits.memory_mb
    needed = Resources(**stated)
    _check_cap("walltime_s", "s of walltime", needed.walltime_s, limits.max_walltime_seconds)
    _check_cap("cores", "cores", needed.slots, limits.max_cores)
    _check_cap("memory_mb", "MiB of memory", needed.memory_mb, limits.max_memory_mb)
    return needed


def check_queues(needed: Resources, record: RequestRecord, cluster: Cluster) -> None:
    """Raise NotGiven when none of the cluster's queues would take such a job."""
    try:
        choose_queue(cluster.queues, needed, input_megabytes(record))
    except NoQueueFits as error:
        raise NotGiven(str(error), error.resource) from error


def _check_cap(resource: str, words: str, needed: int | None, cap: int | None) -> None:
    if needed is not None and cap is not None and needed > cap:
        raise NotGiven(f"The process needs {needed} {words}; this service gives at most {cap}.", resource)
