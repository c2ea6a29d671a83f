"""Slurm's own words, and what they mean to a client: job states, reasons, and refusals of a submission.

From squeue(1), «job state codes» and «job reason codes», of Slurm 20.11 to 26.05, from «sacct --helpreason», and from
slurm_errno.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from wps_hpc.clusters.schedulers.base import Phase


@dataclass(frozen=True)
class NativeState:
    """What a native state means: phase, cause of the failure, the sentence for the client, and whether it is about to
    become the word on how the job ended."""

    phase: Phase
    cause: str | None = None
    reason: str | None = None
    ending: bool = False


_ENDED = Phase.ENDED
#: Every state that squeue and sacct print. COMPLETED alone may mean a success. A job that completes still has a node.
STATES: Mapping[str, NativeState] = {
    "PENDING": NativeState(Phase.QUEUED),
    "CONFIGURING": NativeState(Phase.QUEUED, reason="its nodes are being made ready"),
    "POWER_UP_NODE": NativeState(Phase.QUEUED, reason="its nodes are being powered up"),
    "REQUEUED": NativeState(Phase.QUEUED, reason="put back into the queue"),
    "REQUEUE_FED": NativeState(Phase.QUEUED, reason="being sent to another cluster"),
    "REQUEUE_HOLD": NativeState(Phase.HELD, reason="put back into the queue, to be released by an operator"),
    "RESV_DEL_HOLD": NativeState(Phase.HELD, reason="its reservation was deleted"),
    "SPECIAL_EXIT": NativeState(Phase.HELD, reason="put back into the queue, to be released by an operator"),
    "RUNNING": NativeState(Phase.RUNNING),
    "COMPLETING": NativeState(Phase.RUNNING, reason="ending", ending=True),
    "EXPEDITING": NativeState(Phase.QUEUED, reason="put back into the queue, before all others"),
    "RESIZING": NativeState(Phase.RUNNING),
    "SIGNALING": NativeState(Phase.RUNNING),
    "STAGE_OUT": NativeState(Phase.RUNNING, reason="ending", ending=True),
    "UPDATE_DB": NativeState(Phase.RUNNING),
    "STOPPED": NativeState(Phase.SUSPENDED),
    "SUSPENDED": NativeState(Phase.SUSPENDED),
    "COMPLETED": NativeState(_ENDED),
    "FAILED": NativeState(_ENDED, "exit code", "The job ended with an exit code other than 0."),
    "LAUNCH_FAILED": NativeState(_ENDED, "could not start", "The job could not be started on its node."),
    "RECONFIG_FAIL": NativeState(_ENDED, "could not start", "The job's node could not be made ready."),
    "BOOT_FAIL": NativeState(_ENDED, "node failure", "The job's node could not be booted."),
    "NODE_FAIL": NativeState(_ENDED, "node failure", "The compute node failed while the job ran."),
    "CANCELLED": NativeState(
        _ENDED, "cancelled", "The job was cancelled at the scheduler, by an administrator or its owner."
    ),
    "REVOKED": NativeState(_ENDED, "cancelled", "The job was withdrawn: another cluster took it."),
    "DEADLINE": NativeState(_ENDED, "time limit", "The job could not be finished before its deadline."),
    "TIMEOUT": NativeState(_ENDED, "time limit", "The job reached its time limit and was stopped."),
    "OUT_OF_MEMORY": NativeState(
        _ENDED, "out of memory", "The job needed more memory than it was given and was stopped."
    ),
    "PREEMPTED": NativeState(_ENDED, "preempted", "The job was preempted by a more important one."),
}
#: A word that this version does not know says that there is a job, and no more.
UNKNOWN_STATE = NativeState(Phase.RUNNING)

#: Why a job waits, after «waiting in the queue:». An empty sentence: nothing worth telling.
REASONS: Mapping[str, str] = {
    "None": "",
    "Resources": "waiting for resources",
    "Priority": "jobs with a higher priority are before it",
    "WaitingForScheduling": "not looked at by the scheduler yet",
    "SchedDefer": "not looked at by the scheduler yet",
    "BeginTime": "its earliest start is not reached",
    "Dependency": "waiting for another job",
    "DependencyNeverSatisfied": "waiting for another job that did not end as it should: it will not start",
    "Licenses": "waiting for a licence",
    "Reservation": "waiting for its reservation",
    "ReservationDeleted": "its reservation was deleted",
    "ReservationInvalid": "its reservation is not valid",
    "Prolog": "its nodes are being made ready",
    "Cleaning": "its former run is being cleaned up",
    "BurstBufferOperation": "a burst buffer operation failed",
    "BurstBufferResources": "waiting for burst buffer space",
    "BurstBufferStageIn": "its data is being brought to the burst buffer",
    "FedJobLock": "waiting for the other clusters of the federation",
    "FrontEndDown": "no front end is available",
    "JobArrayTaskLimit": "its array's limit on tasks at a time is reached",
    "MpiPortsBusy": "waiting for free ports",
    "NvidiaImexChannels": "waiting for a connection between its GPUs",
    "MaxPoweredUpNodes": "as many nodes are powered up as may be",
    "Reserved": "its nodes are reserved",
    "ReqNodeNotAvail": "a node that it needs is not available",
    "NodeDown": "a node that it needs is down",
    "BadConstraints": "no node can give what it asks for",
    "Constraints": "no node can give what it asks for at the moment",
    "PartitionDown": "the queue is closed for now",
    "PartitionInactive": "the queue is closed for now",
    "PartitionConfig": "it asks for more than its queue gives: it can start only if an operator changes that",
    "PartitionNodeLimit": "it asks for more nodes than its queue gives: it can start only if an operator changes that",
    "PartitionTimeLimit": "it asks for more time than its queue gives: it can start only if an operator changes that",
    "MaxMemPerLimit": "it asks for more memory than its queue gives: it can start only if an operator changes that",
    "InvalidAccount": "the service's account at the scheduler is not valid",
    "InvalidQOS": "the service's quality of service is not valid",
    "AccountNotAllowed": "the service's account may not use the queue",
    "QOSNotAllowed": "the service's quality of service may not be used in the queue",
    "QOSUsageThreshold": "the project has used more than its share",
    "AccountingPolicy": "a limit of the project is reached",
    "AssociationJobLimit": "the project's limit on jobs at a time is reached",
    "AssociationResourceLimit": "a limit of the project is reached",
    "AssociationTimeLimit": "the project's time is used up",
    "QOSJobLimit": "the project's limit on jobs at a time is reached",
    "QOSResourceLimit": "a limit of the project is reached",
    "QOSTimeLimit": "the project's time is used up",
    "JobHeldUser": "by the service's account",
    "JobHeldAdmin": "by an administrator",
    "JobHoldMaxRequeue": "after it was put back into the queue too often",
    "InactiveLimit": "inactive for too long",
    "SystemFailure": "the scheduler has a failure of its own",
}
#: Texts that stand in place of a code, by how they begin.
_LONG_REASONS: Mapping[str, str] = {
    "Nodes required for job are DOWN": "the nodes that it could run on are down, drained or reserved",
    "ReqNodeNotAvail": REASONS["ReqNodeNotAvail"],
    "launch failed requeued held": "it could not be started on its node; an operator has to release it",
    "job requeued in held state": "put back into the queue, to be released by an operator",
    "RaisedSignal": "ended by a signal",
}
#: Reasons with which a pending job will not start until somebody releases it.
HELD_REASONS = (
    "JobHeldUser",
    "JobHeldAdmin",
    "JobHoldMaxRequeue",
    "launch failed requeued held",
    "job requeued in held state",
)
#: The families of limits, such as AssocGrpCPUMinutesLimit and QOSMaxMemoryPerUser.
_LIMIT = re.compile(r"(?:Assoc|QOS)?(Grp|Max|Min)([A-Za-z]+?)(?:NotSatisfied)?(?:Limit)?")
_LIMITED: Mapping[str, str] = {
    "bb": "burst buffer space",
    "billing": "billed use",
    "cpu": "CPUs",
    "energy": "energy",
    "gres": "special devices",
    "job": "jobs at a time",
    "license": "licences",
    "mem": "memory",
    "node": "nodes",
    "submitjob": "jobs in the queue",
    "unknown": "resources",
    "wall": "time",
}
_MINUTES: Mapping[str, str] = {"cpu": "CPU quota", "node": "node time", "mem": "memory quota"}

#: What FAILED goes with, and what it says about the cause.
FAILED_REASONS: Mapping[str, NativeState] = {
    "JobLaunchFailure": NativeState(
        _ENDED, "could not start", "The job could not be started on its node, or its script was killed there."
    ),
    "BadConstraints": NativeState(_ENDED, "could not start", "No node can give the job what it asks for."),
    "Prolog": STATES["LAUNCH_FAILED"],
    "SystemFailure": NativeState(_ENDED, "node failure", "The scheduler failed while the job ran."),
    "NodeDown": STATES["NODE_FAIL"],
    "TimeLimit": STATES["TIMEOUT"],
    "OutOfMemory": STATES["OUT_OF_MEMORY"],
}


def waiting(reason: str) -> str | None:
    """A pending job's reason as the end of a sentence, with the code where an operator will be asked about it."""
    code = reason.strip()
    if code in REASONS:
        return REASONS[code] or None
    for beginning, text in _LONG_REASONS.items():
        if code.startswith(beginning):
            return text
    limit = _limit(code)
    if limit is not None:
        return f"{limit} ({code})"
    return f"the scheduler's reason is {code}" if re.fullmatch(r"[A-Za-z]{1,60}", code) else None


def _limit(code: str) -> str | None:
    found = _LIMIT.fullmatch(code)
    if found is None:
        return None
    kind, what = found[1], found[2].lower()
    key = next((key for key in _LIMITED if what.startswith(key)), "unknown")
    if kind == "Min":
        return f"it asks for less than the least amount of {_LIMITED[key]}"
    if "minutes" in what and "runminutes" not in what and kind == "Grp":
        return f"the project's {_MINUTES.get(key, 'quota of ' + _LIMITED[key])} is used up"
    return f"the project's limit on {_LIMITED[key]} is reached"


@dataclass(frozen=True)
class Refusal:
    """Words of sbatch that say for certain that there is no job, and what the client is told."""

    words: str
    client_text: str
    transient: bool = False


_NOT_NOW = "The scheduler takes no jobs at the moment; the job will be submitted again."
_NOT_REACHED = "The scheduler cannot be reached at the moment; the job will be submitted again."
NOT_TAKEN = "The scheduler did not take the job; the operator of this service can say why."
_TOO_LARGE = "The scheduler has no nodes for a job that needs so much."
#: The first that fits counts.
REFUSALS: tuple[Refusal, ...] = (
    Refusal("Unable to contact slurm controller (connect failure)", _NOT_REACHED, transient=True),
    Refusal("Protocol authentication error", _NOT_REACHED, transient=True),
    Refusal("Failed to connect to authentication agent", _NOT_REACHED, transient=True),
    Refusal("Unable to resolve", _NOT_REACHED, transient=True),
    Refusal("Could not establish a configuration source", _NOT_REACHED, transient=True),
    Refusal("temporarily unable to accept job", _NOT_NOW, transient=True),
    Refusal("Resource temporarily unavailable", _NOT_NOW, transient=True),
    Refusal("MaxSubmitJob", _NOT_NOW, transient=True),
    Refusal("GrpSubmitJobs", _NOT_NOW, transient=True),
    Refusal("in standby mode", _NOT_NOW, transient=True),
    Refusal("System submissions disabled", _NOT_NOW, transient=True),
    Refusal("Rate limit exceeded", _NOT_NOW, transient=True),
    Refusal("Unable to create job record, try again", _NOT_NOW, transient=True),
    Refusal("Slurm job queue full", _NOT_NOW, transient=True),
    Refusal("I/O error writing script/environment to file", _NOT_NOW, transient=True),
    Refusal("Required partition not available (inactive or drain)", _NOT_NOW, transient=True),
    Refusal("Required node not available (down, drained or reserved)", _NOT_NOW, transient=True),
    Refusal("Requested node configuration is not available", _TOO_LARGE),
    Refusal("Memory specification can not be satisfied", _TOO_LARGE),
    Refusal("Requested time limit is invalid", "The scheduler does not give a job so much time."),
)
#: After these the controller may have taken the job: «Socket timed out» was seen with a job that ran, and so was a
#: munge that went away between request («encode failed») and response («decode failed»).
UNCERTAIN = re.compile(
    r"decode failed|auth_g_verify|RESPONSE_|"
    r"timed out|Zero Bytes|receive failure|send failure|shutdown failure|connection failure|Connection reset"
    r"|Broken pipe|Unexpected message|Header lengths|Insane message|Transport endpoint|Interrupted",
    re.IGNORECASE,
)
