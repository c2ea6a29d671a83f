"""The words of TORQUE and of OpenPBS, and what they mean to a client: states, exit codes, reasons, refusals.

From qstat(1) of both, TORQUE 6.1's ``pbs_error_db.h`` and ``mom_func.h``, and OpenPBS 23's ``pbs_error.h`` and
``job.h``. Their exit codes are PBS's error numbers cut to a byte (15001 is 153), and the two count differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from wps_hpc.clusters.schedulers.base import Phase


@dataclass(frozen=True)
class NativeState:
    """What a native state, or a way to end, means: phase, cause of the failure, and the sentence for the client."""

    phase: Phase
    cause: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Refusal:
    """An exit code of qsub that says for certain that there is no job, and what the client is told."""

    client_text: str
    transient: bool = False


@dataclass(frozen=True)
class Words:
    """One dialect: states by letter, ends by exit status, refusals by exit code."""

    states: Mapping[str, NativeState]
    ends: Mapping[int, NativeState]
    refusals: Mapping[int, Refusal]


_ENDED = Phase.ENDED
_WAITS = "its earliest start is not reached"
_MOVED = "being moved to another server of the scheduler"
_KEYBOARD = "stopped while somebody works at its host"

#: qstat(1) of TORQUE.
_TORQUE_STATES: Mapping[str, NativeState] = {
    "C": NativeState(_ENDED),
    "E": NativeState(Phase.RUNNING, reason="ending"),
    "H": NativeState(Phase.HELD),
    "Q": NativeState(Phase.QUEUED),
    "R": NativeState(Phase.RUNNING),
    "S": NativeState(Phase.SUSPENDED),
    "T": NativeState(Phase.QUEUED, reason=_MOVED),
    "W": NativeState(Phase.QUEUED, reason=_WAITS),
}
#: qstat(1) of OpenPBS. B is of arrays, X of their members, M of history.
_OPENPBS_STATES: Mapping[str, NativeState] = {
    "B": NativeState(Phase.RUNNING),
    "E": NativeState(Phase.RUNNING, reason="ending"),
    "F": NativeState(_ENDED),
    "H": NativeState(Phase.HELD),
    "M": NativeState(Phase.QUEUED, reason=_MOVED),
    "Q": NativeState(Phase.QUEUED),
    "R": NativeState(Phase.RUNNING),
    "S": NativeState(Phase.SUSPENDED),
    "T": NativeState(Phase.QUEUED, reason=_MOVED),
    "U": NativeState(Phase.SUSPENDED, reason=_KEYBOARD),
    "W": NativeState(Phase.QUEUED, reason=_WAITS),
    "X": NativeState(_ENDED),
}
#: A letter that this version does not know says that there is a job, and no more.
UNKNOWN_STATE = NativeState(Phase.RUNNING)
#: A job that ended without an exit status, or that the scheduler ended by TERM: only deleting does that.
DELETED = NativeState(_ENDED, "cancelled", "The job was deleted at the scheduler, by an administrator or its owner.")
#: What it waited for did not end as it should; see ``never_satisfied``.
DEPENDENCY = NativeState(_ENDED, "cancelled", "The job was deleted, because another one did not end as it should.")

_NOT_STARTED = NativeState(_ENDED, "could not start", "The job could not be started on its node.")
_NODE_RESTARTED = NativeState(_ENDED, "node failure", "The scheduler on the compute node was restarted.")
_PUT_BACK = NativeState(_ENDED, "could not start", "The job was put back into the queue, and not started again.")
_BY_HOOK = NativeState(_ENDED, "cancelled", "The job was ended by a rule of the scheduler.")
_TIME = NativeState(_ENDED, "time limit", "The job reached its time limit and was stopped.")
_CPU_TIME = NativeState(_ENDED, "time limit", "The job reached its limit on CPU time and was stopped.")
_MEMORY = NativeState(_ENDED, "out of memory", "The job needed more memory than it was given and was stopped.")
_CORES = NativeState(_ENDED, "cancelled", "The job used more cores than it was given and was stopped.")
#: A negative exit status that is in no table.
UNKNOWN_END = NativeState(_ENDED, "could not start", "The scheduler ended the job, or could not start it.")

_TORQUE_ENDS: Mapping[int, NativeState] = {
    -1: _NOT_STARTED,
    -2: _NOT_STARTED,
    -3: _PUT_BACK,
    -4: _NODE_RESTARTED,
    -5: _NODE_RESTARTED,
    -6: _NODE_RESTARTED,
    -7: _NOT_STARTED,
    -8: _NOT_STARTED,
    -9: NativeState(_ENDED, "could not start", "The job's output file could not be opened on its node."),
    -10: _MEMORY,
    -11: _TIME,
    -12: _CPU_TIME,
    -13: _PUT_BACK,
    -14: _PUT_BACK,
}
_OPENPBS_ENDS: Mapping[int, NativeState] = {
    -1: _NOT_STARTED,
    -2: _NOT_STARTED,
    -3: _PUT_BACK,
    -4: _NODE_RESTARTED,
    -5: _NODE_RESTARTED,
    -6: _NODE_RESTARTED,
    -7: _NOT_STARTED,
    -10: NativeState(_ENDED, "could not start", "The service's account is not known on the compute node."),
    -11: _PUT_BACK,
    -12: _PUT_BACK,
    -13: _NOT_STARTED,
    -14: _PUT_BACK,
    -15: _PUT_BACK,
    -16: _PUT_BACK,
    -17: _BY_HOOK,
    -18: _PUT_BACK,
    -19: _BY_HOOK,
    -20: _PUT_BACK,
    -21: _NOT_STARTED,
    -22: _NOT_STARTED,
    -23: _NOT_STARTED,
    -24: _CORES,
    -25: _CORES,
    -26: _MEMORY,
    -27: _MEMORY,
    -28: _CPU_TIME,
    -29: _TIME,
    -30: _NOT_STARTED,
}

NOT_TAKEN = "The scheduler did not take the job; the operator of this service can say why."
NOT_REACHED = "The scheduler cannot be reached at the moment; the job will be submitted again."
NOT_NOW = "The scheduler takes no jobs at the moment; the job will be submitted again."
TOO_LARGE = "The scheduler has no nodes for a job that needs so much."
_NO = Refusal(NOT_TAKEN)
_LATER = Refusal(NOT_NOW, transient=True)
_LARGE = Refusal(TOO_LARGE)
#: Numbers of PBS's own errors, as TORQUE counts them.
_TORQUE_ERRORS: Mapping[int, Refusal] = {
    15004: _NO,  # invalid request
    15005: _NO,  # unknown request
    15007: _NO,  # no permission
    15010: _NO,  # access from this host is not allowed
    15016: _NO,  # illegal value
    15020: _NO,  # unknown queue
    15021: _NO,  # invalid credential
    15023: _LATER,  # the queue is not enabled
    15024: _NO,  # no access to the queue
    15025: _NO,  # bad user
    15026: _NO,  # too many hops
    15034: _NO,  # bad list of attributes
    15037: _NO,  # unknown resource
    15038: _LARGE,  # more than the queue gives
    15039: _NO,  # no default queue
    15041: _NO,  # no route
    15044: _NO,  # bad script
    15046: _LARGE,  # the resource is not there
    15047: _NO,  # bad group
    15048: _LATER,  # too many jobs in the queue
    15051: _NO,  # bad account
    15056: _NO,  # bad dependency
    15062: _LATER,  # the server is shutting down
}
#: OpenPBS numbers all of them from 15010 on by two less.
_OPENPBS_SHIFT = 2
#: What qsub refuses by itself: usage, a script that is none, root.
_CLIENT = {1: _NO, 2: _NO}


def _code(error: int) -> int:
    return error & 0xFF


TORQUE = Words(
    states=_TORQUE_STATES,
    ends=_TORQUE_ENDS,
    refusals={**_CLIENT, 3: _NO, 27: _NO, **{_code(error): refusal for error, refusal in _TORQUE_ERRORS.items()}},
)
OPENPBS = Words(
    states=_OPENPBS_STATES,
    ends=_OPENPBS_ENDS,
    refusals={
        **_CLIENT,
        6: _NO,
        **{
            _code(error if error < 15010 else error - _OPENPBS_SHIFT): refusal
            for error, refusal in _TORQUE_ERRORS.items()
        },
    },
)
#: Nobody was reached, whatever the exit code: certainly no job.
UNREACHED = re.compile(r"cannot connect to server|Cannot connect to specified server|Couldn't connect to cluster")
#: A limit of the account's or the queue's that other jobs use up now.
FULL = re.compile(r"would exceed|[Mm]aximum number of jobs|limit on (?:the )?number of jobs")

#: Why a job waits, after «waiting in the queue:», by how the scheduler's comment goes on behind «Not Running:».
REASONS: Mapping[str, str] = {
    "Queue not started": "the queue is closed for now",
    "Not enough of the right type of nodes are available": "waiting for resources",
    "Not enough free nodes available": "waiting for resources",
    "Insufficient amount of": "waiting for resources",
    "No available resources on nodes": "waiting for resources",
    "Not enough total nodes available": "waiting for resources",
    "Node is in an ineligible state": "a node that it needs is not available",
    "Placement set": "waiting for resources",
    "Host set to exclusive": "waiting for resources",
    "Job would conflict with reservation or top job": "jobs with a higher priority are before it",
    "Job would cross": "it would run into a time that is kept free",
    "Not primetime": "its queue opens at another time",
    "Not non-primetime": "its queue opens at another time",
    "Draining system": "jobs that wait for longer are before it",
    "Dedicated time": "it would run into a time that is kept free",
    "Queue job limit": "the queue's limit on jobs at a time is reached",
    "Server job limit": "the scheduler's limit on jobs at a time is reached",
    "User has reached": "the project's limit on jobs at a time is reached",
    "Group has reached": "the project's limit on jobs at a time is reached",
    "Project has reached": "the project's limit on jobs at a time is reached",
    "would exceed": "the project's limit on resources is reached",
    "exceed": "the project's limit on resources is reached",
}
_NEVER = "no node can give what it asks for: it can start only if an operator changes that"
#: Who holds a job, by the letters of Hold_Types.
_HOLDERS: Mapping[str, str] = {
    "s": "by the scheduler",
    "o": "by an operator",
    "p": "because of a bad password",
    "u": "by the service's account",
}


def waiting(comment: str) -> str | None:
    """A queued job's comment as the end of a sentence; None where it is nothing for a client."""
    if comment.startswith("Can Never Run"):
        return _NEVER
    said = comment.removeprefix("Not Running:").strip()
    return next((text for words, text in REASONS.items() if words in said), None)


def never_satisfied(row: Mapping[str, str]) -> bool:
    """Whether a job without an exit status of its own was deleted for its dependency: TORQUE says so in the comment,
    OpenPBS by the substate that is otherwise a finished job's."""
    return "result of dependency" in row.get("comment", "") or row.get("substate") == "92"


def held(hold_types: str) -> str | None:
    """Who holds a job, as the end of a sentence."""
    return next((text for letter, text in _HOLDERS.items() if letter in hold_types), None)
