"""Tables of the configuration for a cluster that shares no file system with the server; nothing connects to it."""

from __future__ import annotations

from typing import Any

#: Job folders are sent to one folder.
FAR: dict[str, Any] = {
    "scheduler": "slurm",
    "transport": "ssh_openssh",
    "ssh": {"host": "login"},
    "staging": "sftp",
    "root": "/scratch/wps",
}
#: Two owners have accounts there.
MAPPED: dict[str, Any] = FAR | {"root": "/home/{account}/wps", "accounts": {"ada@x": "ada", "bert@x": "bert"}}
