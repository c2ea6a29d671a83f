"""Which account of a cluster a job runs under: the one that the cluster's table gives its owner.

The owner is who a trusted proxy said is asking. Nothing that a client sends becomes the name of an account.
"""

from __future__ import annotations

from wps_hpc.config import Cluster
from wps_hpc.errors import Forbidden


def account_for(cluster: Cluster, owner: str | None) -> str | None:
    """The account that jobs of ``owner`` (None: nobody in particular) run under; None: the server's own there.

    Raises Forbidden for an owner to whom a cluster that has a table gives no account.
    """
    if not cluster.accounts:
        return None
    if owner is None:
        raise Forbidden(
            "This process runs under the account of who asks for it, and the server was not told who that is: log in."
        )
    account = cluster.accounts.get(owner)
    if account is None:
        raise Forbidden(
            "This process runs under the account of who asks for it, and you have none on the cluster: ask the "
            "operator of this service for one."
        )
    return account
