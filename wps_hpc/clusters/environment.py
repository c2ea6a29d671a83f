"""The environment of scheduler commands, of the spooler and of local jobs: listed, never inherited whole.

A server's environment holds secrets (database passwords, tokens), and a batch system's variables when it was started
from within a job. Neither reaches a job: it gets the variables below as the server has them, then the cluster's own
``environment``. ``PYTHONPATH`` is among them, so that what the server imports by it can be imported in the job.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from joblauncher import failpoints

#: What is passed on where the server has it.
PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    failpoints.VARIABLE,
)
#: Those of them that do not belong to the account or the host: what a batch script may set on a node.
CARRIED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", failpoints.VARIABLE)


def withheld(own: Mapping[str, str]) -> list[str]:
    """The variables that are ``own`` to scheduler commands: a job that was given a command's environment loses them.

    Not those that jobs have anyway, nor Slurm's, which Slurm itself sets on the node.
    """
    return sorted(name for name in own.keys() - {*PASSED_ON} if not name.startswith("SLURM_"))


def clean_environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small explicit environment: PATH, HOME and LANG always, the rest of PASSED_ON where set, then ``own``."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"PATH": os.defpath, "HOME": _home(), "LANG": "C.UTF-8", **passed, **(own or {})}


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # an account without an entry, as containers have them
        return "/"
