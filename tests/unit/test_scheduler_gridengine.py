"""The dialect of Grid Engine without one: commands built, recorded answers of a real one read, garbage survived."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from joblauncher.formats.records import CAUSES
from tests.unit.test_scheduler_pbs import as_recorded
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.clusters.queues import NoQueueFits
from wps_hpc.clusters.schedulers.base import (
    Control,
    CouldNotAsk,
    Explains,
    JobOrder,
    JobWord,
    Known,
    Phase,
    Refused,
    Submitted,
    Unknown,
)
from wps_hpc.clusters.schedulers.gridengine import GridEngineScheduler
from wps_hpc.clusters.schedulers.gridengine_words import ERRORS, FAILED, LETTERS
from wps_hpc.clusters.schedulers.slurm import SlurmScheduler
from wps_hpc.clusters.transports.base import Completed
from wps_hpc.config import Cluster, Queue, Settings, Storage
from wps_hpc.processes.description import Resources

RECORDED = sorted((Path(__file__).parent.parent / "recorded" / "gridengine").glob("*.yaml"))
SCHEDULER = GridEngineScheduler(Cluster(scheduler="gridengine"))
TOKEN = "wrun00000000000"
KNOWN = Known(TOKEN, "17", 1_795_000_000.0)
ORDER = JobOrder(TOKEN, "job", "#!/bin/sh\n", "/jobs/ab/c d", ("python",), 3)

#: sge_status(5), «job state», and what it says that each is.
DOCUMENTED_STATES = {
    Phase.QUEUED: "qw Rq Rqw",
    Phase.HELD: "hqw hRwq hRqw",
    Phase.RUNNING: "r hr t Rr Rt dr dt dRr dRt",
    Phase.SUSPENDED: "s ts S tS T tT Rs Rts RS RtS RT RtT ds dS dT dRs dRS dRT",
    Phase.ENDED: "Eqw Ehqw EhRqw z",
}
#: sge_status(5), «failed» states.
DOCUMENTED_FAILURES = [0, 1, 3, 4, *range(6, 22), *range(24, 39), 100]
READERS = {
    "qdel": Control.CANCEL,
    "qhold": Control.HOLD,
    "qrls": Control.RELEASE,
    "qmod": Control.SUSPEND,
}


def read(case: dict[str, Any]) -> Any:
    """What the scheduler makes of a recorded case, by the command that it is of."""
    completed, command = Completed(case["exit_code"], case["stdout"], case["stderr"]), case["command"]
    if command[0] == "qsub":
        return SCHEDULER.read_submit(completed)
    if command[0] in READERS:
        return SCHEDULER.read_control(READERS[command[0]], completed)
    if command[0] == "qacct":
        tokens = set(re.findall(r"\bw[a-z0-9]{14}\b", " ".join(command) + case["stdout"]))
        return SCHEDULER.read_accounting(completed, [Known(token, None, 0.0) for token in sorted(tokens)])
    if "-j" in command:
        words = {name: JobWord(Phase.ENDED, "Eqw", token=name) for name in command[-1].split(",")}
        return SCHEDULER.read_explained(completed, words)
    return SCHEDULER.read_query(completed)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_answers_are_read_as_expected(path: Path) -> None:
    """Of 8.1.9, in order and with the master away."""
    case = yaml.safe_load(path.read_text())
    assert as_recorded(read(case)) == case["expected"]


def test_every_command_is_recorded() -> None:
    commands = {yaml.safe_load(path.read_text())["command"][0] for path in RECORDED}
    assert commands == {"qsub", "qstat", "qacct", *READERS}


def queried(state: str) -> JobWord:
    """The word on a job in that state."""
    job = f"<job_list><JB_job_number>17</JB_job_number><JB_name>{TOKEN}</JB_name><state>{state}</state></job_list>"
    answer = SCHEDULER.read_query(Completed(0, f"<job_info><queue_info>{job}</queue_info></job_info>", ""))
    assert not isinstance(answer, CouldNotAsk), answer
    return answer["17"]


@pytest.mark.parametrize(
    ("state", "phase"), [(state, phase) for phase, states in DOCUMENTED_STATES.items() for state in states.split()]
)
def test_every_documented_state_has_its_phase(state: str, phase: Phase) -> None:
    word = queried(state)
    assert (word.phase, word.word, word.token) == (phase, state, TOKEN)
    assert (word.cause is not None) == ("E" in state)
    assert (word.reason == "being deleted") == state.startswith("d")


def test_an_unheard_of_state_says_only_that_there_is_a_job() -> None:
    assert queried("X").phase is Phase.RUNNING


def test_every_documented_failure_is_in_the_table_and_only_none_may_be_a_success() -> None:
    assert sorted(FAILED) == DOCUMENTED_FAILURES
    for number, native in FAILED.items():
        assert native.cause in (*CAUSES, None)
        assert (native.cause is None) == (number in (0, 24, 25)), number
    assert all(native.cause in (*CAUSES, None) for native in (*LETTERS.values(), *ERRORS.values()))


def accounted(failed: str, status: str, **fields: str) -> JobWord | None:
    """The word on a job with one record."""
    record = {"jobname": TOKEN, "jobnumber": "17", "failed": failed, "exit_status": status, **fields}
    text = "=" * 62 + "\n" + "".join(f"{name:12} {value}   \n" for name, value in record.items())
    answer = SCHEDULER.read_accounting(Completed(0, text, ""), [KNOWN])
    assert not isinstance(answer, CouldNotAsk), answer
    return answer.get("17")


@pytest.mark.parametrize(
    ("failed", "status", "fields", "cause", "exit_code", "number"),
    [
        ("0", "0", {}, None, 0, None),
        ("0", "3", {}, "exit code", 3, None),
        ("0", "137                  (Killed)", {}, "signal", None, 9),
        ("100 : assumedly after job", "139                  (Segmentation fault)", {}, "signal", None, 11),
        ("100 : assumedly after job", "0", {}, "signal", None, None),
        ("26  : opening input/output file", "0", {}, "could not start", None, None),
        ("19  : before writing exit_status", "0", {}, "node failure", None, None),
        ("15  : in epilog", "0", {}, "node failure", None, None),
        ("77  : something new", "0", {}, "node failure", None, None),
        ("37  : qmaster enforced", "137", {"category": "-l h_rt=3", "ru_wallclock": "4s"}, "time limit", None, None),
        ("37  : qmaster enforced", "137", {"category": "-l h_rt=300,h_vmem=1G", "ru_wallclock": "1s"},
         "out of memory", None, None),
        ("37  : qmaster enforced", "137", {"category": "-l h_rt=3,h_vmem=1G", "ru_wallclock": "4s"},
         "time limit", None, None),
        ("37  : qmaster enforced", "137", {"category": "-l h_vmem=1G", "ru_wallclock": "4s"}, "time limit", None, None),
    ],
)  # fmt: skip
def test_only_failed_0_with_exit_status_0_is_a_success(
    failed: str, status: str, fields: dict[str, str], cause: str | None, exit_code: int | None, number: int | None
) -> None:
    word = accounted(failed, status, **fields)
    assert word is not None and word.phase is Phase.ENDED
    assert (word.cause, word.exit_code, word.signal) == (cause, exit_code, number)


def test_a_job_that_was_put_back_has_not_ended() -> None:
    word = accounted("25  : rescheduling", "0")
    assert word is not None and word.phase is Phase.QUEUED


def test_jobs_of_others_are_left_out_whatever_they_are_called() -> None:
    reused = Known("w" * 15, "17", 0.0)
    text = f"{'=' * 62}\njobname {TOKEN}\njobnumber 17\nfailed 0\nexit_status 0\n"
    assert SCHEDULER.read_accounting(Completed(0, text, ""), [reused]) == {}


def test_a_record_of_another_number_is_not_our_jobs_whatever_its_name() -> None:
    """A name can be read in qstat by everybody, and be given to any job; without a number it has to do."""
    text = f"{'=' * 62}\njobname {TOKEN}\njobnumber 18\nfailed 0\nexit_status 0\n"
    ours = f"{'=' * 62}\njobname {TOKEN}\njobnumber 17\nfailed 0\nexit_status 3\n"
    assert SCHEDULER.read_accounting(Completed(0, text, ""), [KNOWN]) == {}
    for both in (text + ours, ours + text):
        answer = SCHEDULER.read_accounting(Completed(0, both, ""), [KNOWN])
        assert not isinstance(answer, CouldNotAsk)
        assert {number: word.exit_code for number, word in answer.items()} == {"17": 3}
    for unknown, key in ((None, "18"), ("forgotten", "forgotten")):
        answer = SCHEDULER.read_accounting(Completed(0, text, ""), [replace(KNOWN, scheduler_id=unknown)])
        assert not isinstance(answer, CouldNotAsk) and list(answer) == [key]


def test_only_records_of_the_servers_own_account_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without a name has none that could be asked for."""
    own = pwd.getpwuid(os.geteuid()).pw_name
    command = SCHEDULER.accounting_command([replace(KNOWN, scheduler_id=None)])
    assert command is not None and command.argv == ("qacct", "-o", own, "-j", TOKEN)
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    command = SCHEDULER.accounting_command([KNOWN])
    assert command is not None and command.argv == ("qacct", "-j", TOKEN)


def test_the_error_state_is_explained_to_the_client_and_quoted_to_the_operator() -> None:
    command = SCHEDULER.explain_command({"17": queried("Eqw"), "18": queried("r")})
    assert command is not None and command.argv == ("qstat", "-xml", "-j", TOKEN)
    assert SCHEDULER.explain_command({"18": queried("r")}) is None
    said = '11/28/2026 21:33:57 [0:1]: error: can\'t open output file "/secret/log": No such file or directory'
    message = f"<JB_ja_tasks><ulong_sublist><QIM_message>{said}</QIM_message></ulong_sublist></JB_ja_tasks>"
    element = f"<element><JB_job_name>{TOKEN}</JB_job_name>{message}</element>"
    completed = Completed(0, f"<detailed_job_info><djob_info>{element}</djob_info></detailed_job_info>", "")
    explained = SCHEDULER.read_explained(completed, {"17": queried("Eqw"), "18": queried("r")})
    assert explained["17"].reason == "The job's output file could not be opened on its node."
    assert "/secret/log" in explained["17"].word and explained["18"] == queried("r")
    unread = {"17": queried("Eqw")}
    assert SCHEDULER.read_explained(Completed(0, "nonsense", ""), unread) == unread
    assert isinstance(SCHEDULER, Explains) and not isinstance(SlurmScheduler(Cluster(scheduler="slurm")), Explains)


def test_what_ends_in_the_error_state_is_deleted_by_its_name() -> None:
    command = SCHEDULER.forget_command([KNOWN])
    assert command is not None and command.argv == ("qdel", TOKEN)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Control.CANCEL, ("qdel", TOKEN)),
        (Control.HOLD, ("qhold", "17")),
        (Control.RELEASE, ("qrls", "17")),
        (Control.SUSPEND, ("qmod", "-sj", "17")),
        (Control.RESUME, ("qmod", "-usj", "17")),
    ],
)
def test_a_cancel_goes_by_the_token_and_the_rest_by_the_id_where_it_is_known(
    action: Control, words: tuple[str, ...]
) -> None:
    """By a name that somebody else's job has too, qhold and qmod fail although they did what was asked."""
    assert SCHEDULER.control_command(action, KNOWN).argv == words
    for unknown in (None, "forgotten"):
        command = SCHEDULER.control_command(action, replace(KNOWN, scheduler_id=unknown))
        assert command.argv == (*words[:-1], TOKEN)


def test_accounting_is_asked_by_name_and_of_many_by_pattern() -> None:
    """Never from a day on: that leaves out whatever has not started, which several jobs in the error state have not."""
    one = SCHEDULER.accounting_command([KNOWN])
    assert one is not None and one.argv[-2:] == ("-j", TOKEN)
    many = SCHEDULER.accounting_command([KNOWN, replace(KNOWN, token="w" * 15)])
    assert many is not None and many.argv[-2:] == ("-j", "w" + 14 * "?") and "-b" not in many.argv
    assert dict(many.env)["TZ"] == "UTC"


@pytest.mark.parametrize(
    ("completed", "kind", "transient"),
    [
        (Completed(0, "Welcome to this host\n17\n", ""), Submitted, False),
        (Completed(0, "Welcome to this host\n", ""), Unknown, False),
        (Completed(1, "17\n", "Unable to run job: a wrapper of ours failed afterwards"), Unknown, False),
        (Completed(-9, "", ""), Unknown, False),
        (Completed(1, "", "Segmentation fault"), Unknown, False),
        (Completed(1, "", "Unable to run job: unable to send message to qmaster: got send timeout"), Unknown, False),
        (Completed(1, "", "Unable to run job: warning: x\nYour job 5 (\"a\") has been submitted"), Unknown, False),
        (Completed(25, "", "Unable to run job: job rejected: only 2 jobs are allowed per user (current: 2)"), Refused,
         True),
        (Completed(1, "", "error: commlib error: got select error (Connection refused)\nUnable to run job: unable to "
                          "send message to qmaster"), Refused, True),
        (Completed(1, "", 'error: commlib error: got read error (closing "vm/qmaster/1")\nerror: commlib error: got '
                          'select error (Connection refused)\nUnable to run job: unable to send message to qmaster '
                          'using port 6444 on host "vm": got send error'), Unknown, False),
        (Completed(1, "", "got send timeout\nerror: commlib error: got select error (Connection refused)"), Unknown,
         False),
        (Completed(1, "", "Unable to run job: unable to receive the answer\n(Connection refused)"), Unknown, False),
        (Completed(1, "", "error: commlib error: can't resolve host name (vm)\nUnable to run job: unable to send "
                          "message to qmaster"), Refused, True),
        (Completed(1, "", 'Unable to run job: can\'t resolve hostname "nowhere"'), Refused, False),
        (Completed(1, "", "Unable to run job: a rule of the site says no"), Refused, False),
        (Completed(1, "", "your user id 0 is lower than minimum user id 1000"), Refused, False),
    ],
)  # fmt: skip
def test_only_what_is_certain_counts_as_refused(completed: Completed, kind: type, transient: bool) -> None:
    """Everything else is looked up by the token."""
    outcome = SCHEDULER.read_submit(completed)
    assert isinstance(outcome, kind)
    assert getattr(outcome, "transient", False) is transient


def directives(resources: Resources = Resources(), **settings: Any) -> dict[str, str]:  # noqa: B008
    """The options of an order with these resources on a cluster with these settings."""
    scheduler = GridEngineScheduler(Cluster(scheduler="gridengine", **settings))
    return dict(scheduler.directives(replace(ORDER, resources=resources)))


def test_every_job_is_named_by_its_token_announced_its_end_and_never_run_again() -> None:
    said = directives(account="geo", project="wps", queue="long.q", options={"p": "-7"})
    fixed = {"N": TOKEN, "S": "/bin/sh", "o": "/dev/null", "j": "y", "r": "n", "notify": ""}
    assert said == {**fixed, "q": "long.q", "A": "geo", "P": "wps", "p": "-7"}


@pytest.mark.parametrize(
    ("resources", "settings", "limits"),
    [
        (Resources(walltime_s=60), {}, "h_rt=360"),
        (Resources(memory_mb=100), {}, "h_vmem=2148M"),
        (Resources(memory_mb=100, cores=4), {"memory_spare_mb": 3}, "h_vmem=26M"),
        (Resources(memory_mb=100), {"memory_resource": "m_mem_free", "memory_spare_mb": 0}, "m_mem_free=100M"),
        (Resources(memory_mb=100, gpus=2), {"memory_resource": "-", "gpu_resource": "nvidia"}, "nvidia=2"),
        (Resources(walltime_s=60), {"options": {"l": "os=debian"}}, "h_rt=360,os=debian"),
    ],
)
def test_resources_are_asked_for_with_room_for_the_launcher(
    resources: Resources, settings: dict[str, Any], limits: str
) -> None:
    """Memory counts for each slot; and h_vmem is address space, of which Python and containers take a lot."""
    assert directives(resources, parallel_environment="smp", **settings)["l"] == limits


def test_cores_are_slots_of_the_parallel_environment_and_never_silently_one() -> None:
    assert directives(Resources(cores=4), parallel_environment="smp")["pe"] == "smp 4"
    assert "pe" not in directives(Resources(cores=1))
    with pytest.raises(NoQueueFits, match="4 cores"):
        directives(Resources(cores=4))
    with pytest.raises(NoQueueFits, match="2 nodes"):
        directives(Resources(nodes=2), parallel_environment="smp")


def test_the_queue_that_fits_is_taken_and_its_own_limit_not_passed() -> None:
    queues = (Queue(name="short.q", max_walltime_seconds=600), Queue(name="long.q"))
    said = directives(Resources(walltime_s=500), queues=queues)
    assert (said["q"], said["l"]) == ("short.q", "h_rt=600")


def test_the_folder_goes_by_the_command_line_and_the_script_by_standard_input(tmp_path: Path) -> None:
    """In a script Grid Engine would take a path's quotes for a part of it."""
    command = SCHEDULER.submit_command(ORDER)
    assert (command.argv, command.stdin) == (("qsub", "-terse", "-wd", "/jobs/ab/c d"), b"#!/bin/sh\n")


@pytest.mark.parametrize("scheduler", ["gridengine", "torque", "openpbs"])
def test_the_delivered_script_is_shell_with_its_directives_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    """And what the server's own imports need is set in it: these schedulers carry no variables along."""
    monkeypatch.setenv("PYTHONPATH", "/a b/c")
    own = Cluster.model_validate({"scheduler": scheduler, "environment": {"NASTY": "a b'c\"$(id)`\n"}})
    cluster = build_clusters(Settings(storage=Storage(root=tmp_path), clusters={"hpc": own}))["hpc"]
    script = cluster.render_script(replace(ORDER, resources=Resources(walltime_s=60, memory_mb=100)))
    checked = subprocess.run(["/bin/sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    prefix = "#$ " if scheduler == "gridengine" else "#PBS "
    assert script.startswith(f"#!/bin/sh\n{prefix}-N {TOKEN}\n")
    assert "export PYTHONPATH='/a b/c'\n" in script
    lines = script.splitlines()
    first_command = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith(prefix) for line in lines[first_command:])


@pytest.mark.parametrize(
    "completed",
    [
        Completed(0, "", ""),
        Completed(0, "Welcome to this host\n", ""),
        Completed(0, "<unknown_jobs/>", ""),
        Completed(0, "<job_info><job_list><JB_job_number>x</JB_job_number></job_list></job_info>", ""),
        Completed(0, "<job_info><job_list><JB_job_number>1</JB_job_number></job_list></job_info>", ""),
        Completed(0, "<job_info>", ""),
        Completed(1, "", "error: commlib error: got select error (Connection refused)"),
        Completed(-9, "", ""),
    ],
)
def test_an_answer_that_cannot_be_read_says_nothing_of_any_job(completed: Completed) -> None:
    """Neither «gone» nor an exception."""
    assert isinstance(SCHEDULER.read_query(completed), CouldNotAsk)
    assert isinstance(SCHEDULER.read_lookup(completed, KNOWN), CouldNotAsk)


@pytest.mark.parametrize(
    "completed",
    [
        Completed(0, "Welcome to this host\n", ""),
        Completed(0, f"====\njobname {TOKEN}\njobnumber 17\nfailed x\nexit_status 0\n", ""),
        Completed(0, f"====\njobname {TOKEN}\njobnumber 17\nfailed 0\n", ""),
        Completed(1, "", "something went wrong"),
        Completed(127, "", "a wrapper of the site's: qacct: not found"),
        Completed(-9, "", ""),
    ],
)
def test_a_record_that_cannot_be_read_says_nothing_of_any_job(completed: Completed) -> None:
    assert isinstance(SCHEDULER.read_accounting(completed, [KNOWN]), CouldNotAsk)


PART = st.sampled_from(
    ["<job_info>", "</job_info>", "<job_list>", "</job_list>", "<state>r</state>", "====\n", "jobnumber 17\n",
     f"jobname {TOKEN}\n", "failed 0\n", "exit_status 0\n", "exit_status ²\n", "\n", "17"]
)  # fmt: skip


@given(
    st.builds(
        Completed,
        st.integers(-64, 255),
        st.one_of(st.lists(PART).map("".join), st.text(max_size=30)),
        st.text(max_size=30),
    )
)
def test_readers_are_total(completed: Completed) -> None:
    """Whatever comes, each reader answers."""
    SCHEDULER.read_submit(completed)
    SCHEDULER.read_query(completed)
    SCHEDULER.read_lookup(completed, KNOWN)
    SCHEDULER.read_accounting(completed, [KNOWN])
    SCHEDULER.read_explained(completed, {"17": JobWord(Phase.ENDED, "Eqw", token=TOKEN)})
    for action in Control:
        SCHEDULER.read_control(action, completed)
