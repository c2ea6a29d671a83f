"""The way to a cluster over SSH: one transport, and so one connection, for each cluster and account."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wps_hpc import config
from wps_hpc.clusters.transports.ssh import SshTransport
from wps_hpc.clusters.transports.ssh_openssh import OpenSshTransport


def _paramiko(settings: config.Ssh) -> SshTransport:
    try:
        from wps_hpc.clusters.transports.ssh_paramiko import ParamikoTransport
    except ImportError as error:
        text = f"transport ssh_paramiko needs the extra ssh: pip install 'wps-hpc[ssh]' ({error})"
        raise config.ConfigError(text) from error
    return ParamikoTransport(settings)


#: What a transport's name in the configuration stands for.
SSH_TRANSPORTS: Mapping[str, Callable[[config.Ssh], SshTransport]] = {
    "ssh_paramiko": _paramiko,
    "ssh_openssh": OpenSshTransport,
}


def open_ssh(own: config.Cluster, account: str | None = None) -> SshTransport:
    """A transport of its own to a cluster whose ``transport`` is one over SSH, as ``account`` (default: ``ssh.user``).

    Connects with the first command. Raises ConfigError where its library is missing.
    """
    assert own.ssh is not None, "the configuration has seen to it"
    settings = own.ssh if account is None else own.ssh.model_copy(update={"user": account})
    return SSH_TRANSPORTS[own.transport](settings)
