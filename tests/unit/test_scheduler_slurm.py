"""The dialect of Slurm without a Slurm: commands built, recorded answers of three versions read, garbage survived."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from joblauncher.formats.records import CAUSES
from wps_hpc.clusters.queues import NoQueueFits
from wps_hpc.clusters.schedulers.base import (
    Control,
    ControlOutcome,
    CouldNotAsk,
    JobOrder,
    JobWord,
    Known,
    Phase,
    Refused,
    Submitted,
    Unknown,
)
from wps_hpc.clusters.schedulers.slurm import SlurmScheduler
from wps_hpc.clusters.schedulers.slurm_words import FAILED_REASONS, REASONS, REFUSALS, STATES, waiting
from wps_hpc.clusters.transports.base import Completed
from wps_hpc.config import Cluster, Queue
from wps_hpc.processes.description import Resources

RECORDED = sorted((Path(__file__).parent.parent / "recorded" / "slurm").glob("*.yaml"))
SCHEDULER = SlurmScheduler(Cluster(scheduler="slurm"))
TOKEN = "wrun00000000000"
KNOWN = Known(TOKEN, "17", 1_795_000_000.0)
#: munge went away after the request was sent: the controller has taken the job, and its answer cannot be read.
ANSWER_NOT_READ = """\
sbatch: error: Munge decode failed: Failed to access "/run/munge/socket": No such file or directory
sbatch: error: slurm_unpack_received_msg: auth_g_verify: RESPONSE_SUBMIT_BATCH_JOB has authentication error
sbatch: error: Batch job submission failed: Protocol authentication error
"""
ORDER = JobOrder(TOKEN, "job", "#!/bin/sh\n", "/jobs/ab/c%d", ("python",), 3)

#: squeue(1), «job state codes», of 20.11 to 26.05.
DOCUMENTED_STATES = (
    "BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE EXPEDITING FAILED LAUNCH_FAILED NODE_FAIL "
    "OUT_OF_MEMORY PENDING POWER_UP_NODE PREEMPTED RECONFIG_FAIL REQUEUED REQUEUE_FED REQUEUE_HOLD RESIZING "
    "RESV_DEL_HOLD REVOKED RUNNING SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED TIMEOUT UPDATE_DB "
)
#: squeue(1), «job reason codes», without the families of limits.
DOCUMENTED_REASONS = (
    "AccountNotAllowed AccountingPolicy AssociationJobLimit AssociationResourceLimit AssociationTimeLimit "
    "BadConstraints BeginTime BurstBufferOperation BurstBufferResources BurstBufferStageIn Cleaning Dependency "
    "DependencyNeverSatisfied FedJobLock FrontEndDown InactiveLimit InvalidAccount InvalidQOS JobArrayTaskLimit "
    "JobHeldAdmin JobHeldUser Licenses MaxMemPerLimit NodeDown None PartitionConfig PartitionDown "
    "PartitionInactive PartitionNodeLimit PartitionTimeLimit Priority Prolog QOSJobLimit QOSNotAllowed "
    "QOSResourceLimit QOSTimeLimit QOSUsageThreshold ReqNodeNotAvail Reservation ReservationDeleted Resources "
    "SchedDefer SystemFailure WaitingForScheduling "
    # «sacct --helpreason» of 26.05 has these besides
    "Constraints JobHoldMaxRequeue MaxPoweredUpNodes MpiPortsBusy NvidiaImexChannels ReservationInvalid "
)


def read(case: dict[str, Any]) -> Any:
    """What the scheduler makes of a recorded case, by the command that it is of."""
    completed = Completed(case["exit_code"], case["stdout"], case["stderr"])
    known = [Known(token, None, 0.0) for token in re.findall(r"\bw[a-z0-9]{14}\b", " ".join(case["command"]))]
    readers = {
        "sbatch": lambda: SCHEDULER.read_submit(completed),
        "squeue": lambda: SCHEDULER.read_query(completed),
        "sacct": lambda: SCHEDULER.read_accounting(completed, known),
        "scancel": lambda: SCHEDULER.read_control(Control.CANCEL, completed),
        "scontrol": lambda: SCHEDULER.read_control(Control.HOLD, completed),
    }
    return readers[case["command"][0]]()


def as_recorded(answer: Any) -> Any:
    """An answer as a case's ``expected`` has it: the name of its kind, and whatever is not the default."""
    if isinstance(answer, dict):
        return {key: as_recorded(word) for key, word in answer.items()}
    fields = {name: value for name, value in asdict(answer).items() if value not in (None, 0, False, "")}
    if isinstance(answer, JobWord):
        return {**fields, "phase": answer.phase.value}
    # What an operator reads is Slurm's own text, which the case has already.
    return {type(answer).__name__: {name: value for name, value in fields.items() if name != "why"}}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_answers_are_read_as_expected(path: Path) -> None:
    """Of 22.05, 24.11 and 26.05, in order and in every outage that could be made."""
    case = yaml.safe_load(path.read_text())
    assert as_recorded(read(case)) == case["expected"]


def test_every_version_and_every_command_is_recorded() -> None:
    cases = [yaml.safe_load(path.read_text()) for path in RECORDED]
    seen = {(str(case["slurm"])[:5], case["command"][0]) for case in cases}
    commands = ("sbatch", "squeue", "sacct", "scancel", "scontrol")
    assert seen == {(version, command) for version in ("22.05", "24.11", "26.05") for command in commands}


@pytest.mark.parametrize("path", [path for path in RECORDED if "many" in path.stem], ids=lambda path: path.stem)
def test_the_recorded_commands_are_those_of_today(path: Path) -> None:
    """A changed format would make the recordings prove nothing."""
    case = yaml.safe_load(path.read_text())
    command = SCHEDULER.query_command() if case["command"][0] == "squeue" else SCHEDULER.accounting_command([KNOWN])
    assert command is not None

    def fixed(words: list[str]) -> list[str]:
        return [word for word in words if not word.startswith(("--name=", "--starttime="))]

    assert fixed(list(command.argv)) == fixed(case["command"])


def test_every_documented_state_and_reason_has_a_meaning() -> None:
    assert set(STATES) == set(DOCUMENTED_STATES.split())
    assert set(REASONS) >= set(DOCUMENTED_REASONS.split())
    states = [*STATES.values(), *FAILED_REASONS.values()]
    assert {state.cause for state in states} <= {None, *CAUSES}
    assert all(state.reason for state in states if state.cause)
    assert [word for word, state in STATES.items() if state.phase is Phase.ENDED and state.cause is None] == [
        "COMPLETED"
    ]


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("None", None),
        ("Resources", "waiting for resources"),
        ("AssocGrpCPUMinutesLimit", "the project's CPU quota is used up (AssocGrpCPUMinutesLimit)"),
        ("AssocGrpCPURunMinutesLimit", "the project's limit on CPUs is reached (AssocGrpCPURunMinutesLimit)"),
        ("QOSGrpMemoryMinutes", "the project's memory quota is used up (QOSGrpMemoryMinutes)"),
        ("QOSMaxJobsPerUserLimit", "the project's limit on jobs at a time is reached (QOSMaxJobsPerUserLimit)"),
        ("AssocMaxWallDurationPerJobLimit", "the project's limit on time is reached (AssocMaxWallDurationPerJobLimit)"),
        ("QOSMinCpuNotSatisfied", "it asks for less than the least amount of CPUs (QOSMinCpuNotSatisfied)"),
        ("MaxGRESPerAccount", "the project's limit on special devices is reached (MaxGRESPerAccount)"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "a node that it needs is not available"),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
         "the nodes that it could run on are down, drained or reserved"),
        ("SomethingNew", "the scheduler's reason is SomethingNew"),
        ("<b>what a plugin & its user wrote</b>", None),
    ],
)  # fmt: skip
def test_reasons_in_words(reason: str, text: str | None) -> None:
    assert waiting(reason) == text


def queried(line: str) -> JobWord:
    """The word on a job in one row of squeue."""
    answer = SCHEDULER.read_query(Completed(0, line + "\n", ""))
    assert not isinstance(answer, CouldNotAsk), answer
    (word,) = answer.values()
    return word


@pytest.mark.parametrize(
    ("state", "reason", "phase", "cause"),
    [
        ("PENDING", "JobHeldUser", Phase.HELD, None),
        ("PENDING", "launch failed requeued held", Phase.HELD, None),
        ("PENDING", "job requeued in held state", Phase.HELD, None),
        ("COMPLETING", "None", Phase.RUNNING, None),
        ("STOPPED", "None", Phase.SUSPENDED, None),
        ("A_NEW_STATE", "None", Phase.RUNNING, None),
        ("FAILED", "RaisedSignal:9(Killed)", Phase.ENDED, "signal"),
        ("FAILED", "NonZeroExitCode", Phase.ENDED, "exit code"),
        ("TIMEOUT", "TimeLimit", Phase.ENDED, "time limit"),
        ("CANCELLED", "None", Phase.ENDED, "cancelled"),
        ("DEADLINE", "DeadLine", Phase.ENDED, "time limit"),
        ("BOOT_FAIL", "None", Phase.ENDED, "node failure"),
        ("PREEMPTED", "None", Phase.ENDED, "preempted"),
        ("REVOKED", "None", Phase.ENDED, "cancelled"),
    ],
)
def test_words_of_the_queue(state: str, reason: str, phase: Phase, cause: str | None) -> None:
    """Only COMPLETED is without a cause, and an unheard-of state never means that a job is gone."""
    word = queried(f"17|{state}|N/A|0|{reason}|{TOKEN}")
    assert (word.phase, word.word, word.cause, word.token) == (phase, state, cause, TOKEN)


def test_an_expected_start_is_an_estimate_in_utc_to_the_minute() -> None:
    word = queried(f"17|PENDING|2026-11-22T00:24:32|0|BeginTime|{TOKEN}")
    assert word.estimated_start is not None
    assert time.strftime("%FT%T", time.gmtime(word.estimated_start)) == "2026-11-22T00:24:00"
    assert queried(f"17|RUNNING|2026-11-22T00:24:32|0|None|{TOKEN}").estimated_start is None
    assert dict(SCHEDULER.query_command().env)["TZ"] == "UTC"


def test_jobs_of_others_are_left_out_whatever_they_are_called() -> None:
    """The same account may have jobs of its own; an id alone is never believed."""
    rows = "17|RUNNING|N/A|0|None|somebody's\n18|PENDING|N/A|0|None|wrap\n9_[1-5]|PENDING|N/A|0|None|array\n"
    assert SCHEDULER.read_query(Completed(0, rows, "")) == {}
    reused = f"17|COMPLETED|0:0|{'w' * 15}\n"
    assert SCHEDULER.read_accounting(Completed(0, reused, ""), [KNOWN]) == {}


@pytest.mark.parametrize(
    ("state", "ending", "expected"),
    [
        ("COMPLETED", "0:0", JobWord(Phase.ENDED, "COMPLETED", exit_code=0)),
        ("FAILED", "7:0", JobWord(Phase.ENDED, "FAILED", "The job ended with exit code 7.", "exit code", 7)),
        ("FAILED", "0:9", JobWord(Phase.ENDED, "FAILED", "The job was killed by signal 9.", "signal", signal=9)),
        ("CANCELLED by 1001", "0:0", replace(queried(f"1|CANCELLED|N/A|0|None|{TOKEN}"), token=None)),
        ("TIMEOUT", "0:0", replace(queried(f"1|TIMEOUT|N/A|0|None|{TOKEN}"), token=None)),
        ("OUT_OF_MEMORY", "0:125", replace(queried(f"1|OUT_OF_MEMORY|N/A|0|None|{TOKEN}"), token=None)),
        ("FAILED", "0:53", replace(queried(f"1|FAILED|N/A|0|JobLaunchFailure|{TOKEN}"), token=None)),
    ],
)
def test_words_of_accounting(state: str, ending: str, expected: JobWord) -> None:
    """The state comes before the exit code: TIMEOUT 0:0 is no success."""
    completed = Completed(0, f"17|{state}|{ending}|{TOKEN}\n", "")
    assert SCHEDULER.read_accounting(completed, [KNOWN]) == {"17": replace(expected, token=TOKEN)}


def test_accounting_is_asked_by_name_from_the_day_before_the_submission() -> None:
    """Its own default is today's midnight; ids are never asked for, since they come again."""
    command = SCHEDULER.accounting_command([KNOWN, Known("w" * 15, "18", KNOWN.submitted_at + 9)])
    assert command is not None
    assert f"--name={TOKEN},{'w' * 15}" in command.argv and "17" not in " ".join(command.argv).split()
    start = next(word for word in command.argv if word.startswith("--starttime="))
    assert start == time.strftime("--starttime=%Y-%m-%dT%H:%M:%S", time.gmtime(KNOWN.submitted_at - 86_400))


def test_a_name_with_a_line_break_hides_no_job() -> None:
    """Any job of the account may be called so; of its name 16 characters are shown, too few for a row."""
    rows = f"16|PENDING|N/A|0|JobHeldUser|a\n5|a|b|c|d|e|f|g\n1|x\n17|RUNNING|N/A|0|None|{TOKEN}\n"
    answer = SCHEDULER.read_query(Completed(0, rows, ""))
    assert not isinstance(answer, CouldNotAsk) and list(answer) == ["17"]


def test_a_cluster_among_several_is_named_in_every_command_and_not_part_of_the_id() -> None:
    scheduler = SlurmScheduler(Cluster(scheduler="slurm", slurm_cluster="alpha"))
    assert scheduler.read_submit(Completed(0, "123;alpha\n", "")) == Submitted("123")
    assert SCHEDULER.read_submit(Completed(0, "123;alpha\n", "")) == Submitted("123")
    known = Known(TOKEN, "123", 0.0)
    commands = [scheduler.submit_command(ORDER), scheduler.query_command(), scheduler.lookup_command(known)]
    commands += [scheduler.control_command(action, known) for action in Control]
    commands += [command for command in [scheduler.accounting_command([known])] if command]
    assert all("--clusters=alpha" in command.argv for command in commands)
    assert "123" in scheduler.control_command(Control.CANCEL, known).argv
    answer = scheduler.read_query(Completed(0, f"CLUSTER: alpha\n123|RUNNING|N/A|0|None|{TOKEN}\n", ""))
    assert not isinstance(answer, CouldNotAsk) and list(answer) == ["123"]


@pytest.mark.parametrize(
    ("completed", "kind"),
    [
        (Completed(0, "Welcome to Stampede3\n 17\n", ""), Submitted),
        (Completed(0, "Welcome to Stampede3\n", ""), Unknown),
        (Completed(0, "", ""), Unknown),
        (Completed(1, "17\n", "sbatch: error: a wrapper of ours failed afterwards"), Unknown),
        (Completed(-9, "", ""), Unknown),
        (Completed(1, "", "Segmentation fault"), Unknown),
        (Completed(1, "", "sbatch: error: Batch job submission failed: Zero Bytes were transmitted"), Unknown),
        (Completed(1, "", "sbatch: error: Batch job submission failed: a plugin of the site says no"), Refused),
        (Completed(1, "", ANSWER_NOT_READ), Unknown),
    ],
)  # fmt: skip
def test_only_what_is_certain_counts_as_refused(completed: Completed, kind: type) -> None:
    """Everything else is looked up by the token."""
    assert isinstance(SCHEDULER.read_submit(completed), kind)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.words)
def test_refusals_tell_the_client_nothing_of_the_site(refusal: Any) -> None:
    said = f"sbatch: error: Batch job submission failed: {refusal.words}"
    outcome = SCHEDULER.read_submit(Completed(1, "", said))
    assert isinstance(outcome, Refused)
    assert (outcome.client_text, outcome.transient) == (refusal.client_text, refusal.transient)
    assert said in outcome.why and refusal.words not in outcome.client_text


def test_the_script_goes_by_standard_input_and_nothing_else_of_the_order() -> None:
    scheduler = SlurmScheduler(Cluster(scheduler="slurm", command_environment={"SLURM_CONF": "/etc/x"}))
    command = scheduler.submit_command(ORDER)
    assert (command.argv, command.stdin) == (("sbatch", "--parsable"), b"#!/bin/sh\n")
    assert command.env == (("SLURM_CONF", "/etc/x"),)


def directives(resources: Resources = Resources(), **settings: Any) -> dict[str, str]:  # noqa: B008
    """The options of an order with these resources on a cluster with these settings."""
    scheduler = SlurmScheduler(Cluster(scheduler="slurm", **settings))
    return dict(scheduler.directives(replace(ORDER, resources=resources)))


def test_every_job_is_named_by_its_token_and_never_put_back_into_the_queue() -> None:
    said = directives()
    assert said["job-name"] == TOKEN and said["no-requeue"] == "" and said["open-mode"] == "append"
    assert said["output"] == "/jobs/ab/c%%d/batch.log" and said["chdir"] == "/jobs/ab/c%d"
    assert said["signal"] == "B:USR1@60"
    # With names, sbatch would ask the node to read the account's login files as well.
    assert said["export"] == "ALL"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(), {"nodes": "1", "ntasks-per-node": "1"}),
        (Resources(cores=3, memory_mb=100), {"cpus-per-task": "3", "mem": "100M"}),
        (Resources(nodes=2, cores=5, memory_mb=101, gpus=4),
         {"nodes": "2", "cpus-per-task": "3", "mem": "51M", "gres": "gpu:2"}),
        (Resources(tasks=4, gpus=3), {"ntasks": "4", "nodes": "1", "gres": "gpu:3"}),
        (Resources(tasks=4, cores=6, memory_mb=100), {"ntasks": "4", "cpus-per-task": "2", "mem-per-cpu": "13M"}),
        (Resources(tasks=4, nodes=2), {"ntasks": "4", "nodes": "2"}),
        (Resources(walltime_s=61), {"time": "2", "signal": "B:USR1@15"}),
        (Resources(walltime_s=3600), {"time": "60", "signal": "B:USR1@60"}),
        (Resources(walltime_s=1), {"time": "1", "signal": "B:USR1@1"}),
    ],
)  # fmt: skip
def test_resources_are_for_the_whole_job_and_slurm_counts_by_node_and_minute(
    resources: Resources, expected: dict[str, str]
) -> None:
    assert directives(resources).items() >= expected.items()


def test_slurm_chooses_the_nodes_of_tasks_unless_the_process_says_how_many() -> None:
    said = directives(Resources(tasks=4, cores=4, memory_mb=100))
    assert not {"nodes", "ntasks-per-node", "mem"} & said.keys()


def test_a_job_gets_no_more_gpus_than_were_granted() -> None:
    """Slurm counts them by node: what cannot be shared out would be rounded up."""
    with pytest.raises(NoQueueFits, match="3 GPUs cannot be shared out evenly over 2 nodes") as raised:
        directives(Resources(nodes=2, gpus=3))
    assert raised.value.resource == "gpus"


def test_only_a_job_that_may_be_restarted_is_requeued() -> None:
    said = SCHEDULER.directives(replace(ORDER, restarts=2))
    assert said["requeue"] == "" and "no-requeue" not in said
    assert "requeue" not in SCHEDULER.directives(ORDER)


def test_restarts_are_counted_by_slurm() -> None:
    assert queried(f"17|PENDING|N/A|2|BeginTime|{TOKEN}").restarts == 2
    garbled = SCHEDULER.read_query(Completed(0, f"17|PENDING|N/A|many|BeginTime|{TOKEN}", ""))
    assert isinstance(garbled, CouldNotAsk)


def test_a_longer_name_that_begins_like_a_token_is_somebody_elses() -> None:
    """squeue cuts off what does not fit into a column."""
    assert SCHEDULER.read_query(Completed(0, f"17|RUNNING|N/A|0|None|{TOKEN}0", "")) == {}
    command = next(word for word in SCHEDULER.query_command().argv if word.startswith("--Format="))
    widths = dict(part.replace(".", "").strip("|").split(":") for part in command.removeprefix("--Format=").split(","))
    assert int(widths["Name"]) > len(TOKEN) and int(widths["State"]) > max(map(len, STATES))


def test_a_sites_own_choices() -> None:
    said = directives(
        Resources(gpus=1),
        partition="long",
        account="geo",
        qos="normal",
        reservation="wps",
        constraint="[a*1&b*2]",
        licences="solver:1",
        gres="scratch:1",
        options={"exclusive": "", "mem": "7"},
    )
    expected = {"partition": "long", "account": "geo", "qos": "normal", "reservation": "wps", "constraint": "[a*1&b*2]"}
    expected |= {"licenses": "solver:1", "gres": "scratch:1,gpu:1", "exclusive": "", "mem": "7"}
    assert said.items() >= expected.items()


def test_the_queue_that_fits_is_the_partition_and_brings_its_quality_of_service() -> None:
    queues = (Queue(name="short", qos="fast", max_walltime_seconds=600), Queue(name="long"))
    quick = directives(Resources(walltime_s=60), queues=queues, qos="normal")
    slow = directives(Resources(walltime_s=6000), queues=queues, qos="normal")
    assert (quick["partition"], quick["qos"]) == ("short", "fast")
    assert (slow["partition"], slow["qos"]) == ("long", "normal")


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Control.CANCEL, ("scancel", f"--name={TOKEN}", "17")),
        (Control.SUSPEND, ("scancel", "--full", "--signal=STOP", f"--name={TOKEN}", "17")),
        (Control.RESUME, ("scancel", "--full", "--signal=CONT", f"--name={TOKEN}", "17")),
        (Control.HOLD, ("scontrol", "hold", f"jobname={TOKEN}")),
        (Control.RELEASE, ("scontrol", "release", f"jobname={TOKEN}")),
    ],
)
def test_whatever_is_asked_is_asked_of_the_token(action: Control, words: tuple[str, ...]) -> None:
    """An id that was handed out again would be somebody else's job."""
    assert SCHEDULER.control_command(action, KNOWN).argv == words
    assert SCHEDULER.read_control(action, Completed(0, "", "")) == ControlOutcome(done=True)
    assert "forgotten" not in SCHEDULER.control_command(action, replace(KNOWN, scheduler_id="forgotten")).argv


@pytest.mark.parametrize(
    "completed",
    [
        Completed(0, "slurm_load_jobs error: Socket timed out\n", ""),
        Completed(0, "Welcome to this host\n", ""),
        Completed(0, f"17|{TOKEN}|RUNN", ""),
        Completed(0, f"17||N/A|{TOKEN}\n", ""),
        Completed(0, f"seventeen|RUNNING|N/A|0|None|{TOKEN}\n", ""),
        Completed(1, f"17|RUNNING|N/A|0|None|{TOKEN}\n", "something went wrong"),
        Completed(-9, "", ""),
    ],
)
def test_an_answer_that_cannot_be_read_says_nothing_of_any_job(completed: Completed) -> None:
    """Neither «gone» nor an exception; the same for query, accounting and look-up."""
    assert isinstance(SCHEDULER.read_query(completed), CouldNotAsk)
    assert isinstance(SCHEDULER.read_accounting(completed, [KNOWN]), CouldNotAsk)
    assert isinstance(SCHEDULER.read_lookup(completed, KNOWN), CouldNotAsk)


def lines() -> Iterator[st.SearchStrategy[str]]:
    """Rows, nearly rows and no rows."""
    part = st.sampled_from(["17", TOKEN, "RUNNING", "FAILED", "N/A", "0:0", "RaisedSignal:", "CLUSTER: a", "²", ""])
    yield st.lists(part, max_size=6).map("|".join)
    yield st.text(max_size=30)


@given(st.builds(Completed, st.integers(-64, 255), st.lists(st.one_of(*lines())).map("\n".join), st.text()))
def test_readers_are_total(completed: Completed) -> None:
    """Whatever comes, each reader answers."""
    SCHEDULER.read_submit(completed)
    SCHEDULER.read_query(completed)
    SCHEDULER.read_lookup(completed, KNOWN)
    SCHEDULER.read_accounting(completed, [KNOWN])
    for action in Control:
        SCHEDULER.read_control(action, completed)
