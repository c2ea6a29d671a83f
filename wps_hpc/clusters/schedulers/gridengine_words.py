"""Grid Engine's own words, and what they mean to a client: states, ends, errors, and refusals of a submission.

From sge_status(5), qstat(1) and accounting(5) of Son of Grid Engine 8.1.9.
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


_ENDED = Phase.ENDED
#: What a letter in a job's state means; the first of these that is in it counts. «R» says that it was put back, and
#: «d» that it is being deleted: whether it still runs, the other letters say.
LETTERS: Mapping[str, NativeState] = {
    "E": NativeState(_ENDED, "could not start", "The job could not be started on its node."),
    "z": NativeState(_ENDED),
    "s": NativeState(Phase.SUSPENDED),
    "S": NativeState(Phase.SUSPENDED, reason="its queue is stopped"),
    "T": NativeState(Phase.SUSPENDED, reason="its host has too much to do"),
    "r": NativeState(Phase.RUNNING),
    "t": NativeState(Phase.RUNNING, reason="being brought to its node"),
    "h": NativeState(Phase.HELD),
    "q": NativeState(Phase.QUEUED),
    "w": NativeState(Phase.QUEUED),
}
#: Letters that this version does not know say that there is a job, and no more.
UNKNOWN_STATE = NativeState(Phase.RUNNING)
DELETING = "being deleted"

_NOT_STARTED = LETTERS["E"]
_NOT_FINISHED = NativeState(_ENDED, "node failure", "The job has run, but its node could not finish it properly.")
_NODE = NativeState(_ENDED, "node failure", "The compute node failed while the job ran.")
_SIGNAL = NativeState(_ENDED, "signal", "The job was killed by a signal.")
_PUT_BACK = NativeState(Phase.QUEUED, reason="put back into the queue")
_NO_OUTPUT = NativeState(_ENDED, "could not start", "The job's output file could not be opened on its node.")
_NO_SHELL = NativeState(_ENDED, "could not start", "The shell of the job's script is not there on its node.")
_NO_FOLDER = NativeState(_ENDED, "could not start", "The job's folder cannot be reached on its node.")
#: «failed» of an accounting record. Without one, the exit status is the job's own.
FAILED: Mapping[int, NativeState] = {
    0: NativeState(_ENDED),
    1: _NOT_STARTED,
    3: _NOT_STARTED,
    4: _NOT_STARTED,
    6: _NOT_STARTED,
    7: _NOT_STARTED,
    8: _NOT_STARTED,
    9: _NOT_STARTED,
    10: _NOT_STARTED,
    11: _NOT_STARTED,
    12: _NOT_FINISHED,
    13: _NOT_FINISHED,
    14: _NOT_FINISHED,
    15: _NOT_FINISHED,
    16: _NOT_FINISHED,
    17: _SIGNAL,
    18: _NODE,
    19: _NODE,
    20: _NODE,
    21: _NODE,
    24: _PUT_BACK,
    25: _PUT_BACK,
    26: _NO_OUTPUT,
    27: _NO_SHELL,
    28: _NO_FOLDER,
    29: _NOT_STARTED,
    30: NativeState(_ENDED, "exit code", "The job ended with exit code 100."),
    31: _NOT_STARTED,
    32: _NOT_STARTED,
    33: _NOT_STARTED,
    34: _NOT_STARTED,
    35: _NOT_STARTED,
    36: _NOT_STARTED,
    37: NativeState(_ENDED, "time limit", "The job reached its time limit and was stopped."),
    38: _NOT_STARTED,
    100: _SIGNAL,
}
UNKNOWN_FAILURE = _NOT_FINISHED
#: The same number says that the limit was one on memory, where the job had not run for as long as it was allowed.
OVER_MEMORY = NativeState(_ENDED, "out of memory", "The job needed more memory than it was given and was stopped.")
#: Error reasons of ``qstat -j``, by words in them.
ERRORS: Mapping[str, NativeState] = {
    "can't open output file": _NO_OUTPUT,
    "can't stat": _NO_OUTPUT,
    "can't chdir": _NO_FOLDER,
    "unable to find shell": _NO_SHELL,
    "exit_status of job start = 100": FAILED[30],
    "can't get password entry for user": NativeState(
        _ENDED, "could not start", "The service's account is not known on the compute node."
    ),
}


@dataclass(frozen=True)
class Refusal:
    """Words of qsub that say for certain that there is no job, and what the client is told."""

    words: re.Pattern[str]
    client_text: str
    transient: bool = False


NOT_TAKEN = "The scheduler did not take the job; the operator of this service can say why."
NOT_REACHED = "The scheduler cannot be reached at the moment; the job will be submitted again."
NOT_NOW = "The scheduler takes no jobs at the moment; the job will be submitted again."
_TOO_LARGE = "The scheduler has no nodes for a job that needs so much."
#: Nobody was reached: certainly no job. A host that cannot be resolved may also be one that the job asks for.
UNREACHED = re.compile(r"Connection refused|commlib error: .*can't resolve|No route to host")
#: The first that fits counts.
REFUSALS: tuple[Refusal, ...] = (
    Refusal(UNREACHED, NOT_REACHED, transient=True),
    Refusal(re.compile(r"only \d+ jobs are allowed|job rejected: .*limit"), NOT_NOW, transient=True),
    Refusal(re.compile(r"no suitable queues|not allowed to run in any"), _TOO_LARGE),
    Refusal(re.compile(r"^Unable to run job: (?!warning)", re.MULTILINE), NOT_TAKEN),
    Refusal(re.compile(r"^qsub: |^denied: |minimum user id", re.MULTILINE), NOT_TAKEN),
)
#: After these the master may have taken the job: whoever else was not reached, it was after that.
PERHAPS_TAKEN = re.compile(r"timed? ?out|unable to receive|got read error|has been submitted", re.IGNORECASE)
#: After these too, unless nobody was reached.
UNCERTAIN = re.compile(r"unable to (?:send|contact)|got write error", re.IGNORECASE)
