"""Whether jobs can be looked after where they are: the configuration may have changed since they went there.

A job's row says under which account of which cluster it runs, and where its folder was sent. The configuration may say
something else now. Then nobody asks for the job, since the answer would be another account's or another folder's: it
stays as it is until that is set back, or until it is dismissed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wps_hpc import config
from wps_hpc.jobs.job import Whereabouts
from wps_hpc.jobs.store import Store


@dataclass(frozen=True)
class Astray:
    """Why nobody can look after jobs: ``reason`` is a client's, ``setting`` is the operator's and says what has changed
    and what would have to be so again."""

    reason: str
    setting: str

    def told(self, count: int) -> str:
        """The operator's sentence on so many jobs."""
        jobs = "1 job stays as it is" if count == 1 else f"{count} jobs stay as they are"
        return f"{self.setting}: {jobs}; set it back until they have ended, or cancel them"


def astray(clusters: Mapping[str, config.Cluster], where: Whereabouts) -> Astray | None:
    """Why jobs there cannot be looked after with these clusters; None when they can."""
    own = clusters.get(where.cluster)
    if own is None:
        reason = f"its cluster ({where.cluster}) is no longer part of the configuration"
        return Astray(reason, f"clusters.{where.cluster} is no longer configured")
    changed = _other_account(own, where) or _other_folder(own, where)
    if changed is None:
        return None
    reason = f"its cluster ({where.cluster}) is configured in another way now"
    return Astray(reason, f"clusters.{where.cluster}{changed}")


def inhabited(store: Store, cluster: str, root: str) -> bool:
    """Whether jobs that have not ended lie there: their folders were sent to ``root`` on the cluster."""
    return any(where.cluster == cluster and where.sent_to == root for where in store.whereabouts())


def _other_account(own: config.Cluster, where: Whereabouts) -> str | None:
    if where.account is not None and not own.accounts:
        return f".accounts was taken out, and there are jobs of account {where.account}"
    if where.account is None and own.accounts:
        return ".accounts was added, and there are jobs of the server's own account"
    return None


def _other_folder(own: config.Cluster, where: Whereabouts) -> str | None:
    now = own.sends_to(where.account)
    if where.sent_to in (None, now):
        return None
    if not now:
        return f".staging is shared now, and there are jobs whose folders were sent to {where.sent_to}"
    if not where.sent_to:
        return ".staging is sftp now, and there are jobs whose folders are shared"
    return f".root is {now} now, and there are jobs whose folders were sent to {where.sent_to}"
