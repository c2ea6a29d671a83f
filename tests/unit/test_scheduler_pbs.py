"""The dialects of TORQUE and OpenPBS without either: 365 recorded answers of real ones read, commands built."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from joblauncher.formats.records import CAUSES
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
from wps_hpc.clusters.schedulers.openpbs import OpenPbsScheduler
from wps_hpc.clusters.schedulers.pbs_words import OPENPBS, REASONS, TORQUE, Words, waiting
from wps_hpc.clusters.schedulers.torque import TorqueScheduler
from wps_hpc.clusters.transports.base import Completed
from wps_hpc.config import Cluster, Queue
from wps_hpc.processes.description import Resources

RECORDED = Path(__file__).parent.parent / "recorded"
SCHEDULERS: dict[str, TorqueScheduler] = {
    "torque": TorqueScheduler(Cluster(scheduler="torque")),
    "openpbs": OpenPbsScheduler(Cluster(scheduler="openpbs")),
}
CASES = [(name, path) for name in SCHEDULERS for path in sorted((RECORDED / name).glob("*.yaml"))]
TOKEN = "wrun00000000000"
KNOWN = Known(TOKEN, "17.head", 1_795_000_000.0)
ORDER = JobOrder(TOKEN, "job", "#!/bin/sh\n", "/jobs/ab/c d", ("python",), 3)
CONTROLS = {"qdel": Control.CANCEL, "qhold": Control.HOLD, "qrls": Control.RELEASE, "qsig": Control.SUSPEND}
CONTROLS |= {"qrerun": Control.RELEASE}


def token(name: str) -> str:
    """The token that stands in a recording for a job's own name: its letters, and what makes it as long as a token."""
    letters = re.sub("[^a-z0-9]", "", name.lower())[:8]
    return ("w" + letters + hashlib.sha256(name.encode()).hexdigest())[:15]


def renamed(text: str) -> str:
    """An answer with tokens for names: only jobs with such a name are this server's."""
    text = re.sub(r"(?<=<Job_Name>)[^<]*", lambda found: token(found[0]), text)
    text = re.sub(r'("Job_Name":\s*)"([^"]*)"', lambda found: f'{found[1]}"{token(found[2])}"', text)
    return re.sub(
        r"(?m)^(    Job_Name = )(.*(?:\n\t.*)*)", lambda found: found[1] + token(found[2].replace("\n\t", "")), text
    )


def read(dialect: str, case: dict[str, Any]) -> Any:
    """What the dialect makes of a recorded case, by the command that it is of; all other commands count as queries."""
    scheduler, command = SCHEDULERS[dialect], case["command"][0]
    completed = Completed(case["exit_code"], renamed(case["stdout"]), case["stderr"])
    if command == "qsub":
        return scheduler.read_submit(completed)
    if command in CONTROLS:
        return scheduler.read_control(CONTROLS[command], completed)
    return scheduler.read_query(completed)


def as_recorded(answer: Any) -> Any:
    """An answer as a case's ``expected`` has it: the name of its kind, and whatever is not the default."""
    if isinstance(answer, dict):
        return {key: as_recorded(word) for key, word in answer.items()}
    fields = {name: value for name, value in asdict(answer).items() if value is not None and value != ""}
    if isinstance(answer, JobWord):
        return {
            **{name: value for name, value in fields.items() if name not in ("restarts", "ending")},
            "phase": answer.phase.value,
        }
    # What an operator reads is the scheduler's own text, which the case has already.
    return {type(answer).__name__: {name: value for name, value in fields.items() if name != "why"}}


@pytest.mark.parametrize(("dialect", "path"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_recorded_answers_are_read_as_expected(dialect: str, path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    assert as_recorded(read(dialect, case)) == case["expected"]


def test_all_recordings_are_read_and_no_job_of_others_is_believed() -> None:
    """With the names that the recorded jobs really had, none is this server's."""
    assert {name: sum(dialect == name for dialect, _ in CASES) for name in SCHEDULERS} == {
        "torque": 190,
        "openpbs": 175,
    }
    for dialect, path in CASES:
        case = yaml.safe_load(path.read_text())
        answer = SCHEDULERS[dialect].read_query(Completed(case["exit_code"], case["stdout"], case["stderr"]))
        assert isinstance(answer, CouldNotAsk) or not answer, path


#: What the notes of the recordings say of ended jobs: state, cause, exit code, signal.
ENDS: dict[str, tuple[str | None, int | None, int | None]] = {
    "ok": (None, 0, None),
    "badout": (None, 0, None),
    "exit3": ("exit code", 3, None),
    "exit200": ("exit code", 200, None),
    "nocmd": ("exit code", 127, None),
    "badinterp": ("exit code", 127, None),
    "kill9": ("signal", None, 9),
    "term": ("signal", None, 15),
    "segv": ("signal", None, 11),
    "overwall": ("time limit", None, None),
    "overwall_plain": ("time limit", None, None),
    "deleted_queued": ("cancelled", None, None),
    "deleted_running": ("cancelled", None, None),
    "deltrap": ("cancelled", None, None),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize(
    ("dialect", "stem"), [("torque", "qstat_x"), ("torque", "qstat_f"), ("openpbs", "qstat_fx_json")]
)
def test_every_end_is_told_truly(dialect: str, stem: str, how: str) -> None:
    """The same ends, in three formats of two schedulers whose exit codes differ."""
    answer = read(dialect, yaml.safe_load((RECORDED / dialect / f"{stem}_{how}.yaml").read_text()))
    (word,) = answer.values()
    assert (word.phase, (word.cause, word.exit_code, word.signal)) == (Phase.ENDED, ENDS[how])


@pytest.mark.parametrize("dialect", SCHEDULERS)
def test_completed_without_an_exit_status_is_no_success(dialect: str) -> None:
    letter = {"torque": "C", "openpbs": "F"}[dialect]
    text = f"Job Id: 17.head\n    Job_Name = {TOKEN}\n    job_state = {letter}\n"
    answer = SCHEDULERS[dialect].read_query(Completed(0, text, ""))
    assert not isinstance(answer, CouldNotAsk)
    assert answer["17.head"].cause == "cancelled" and answer["17.head"].exit_code is None


@pytest.mark.parametrize(("words", "letters"), [(TORQUE, "CEHQRTWS"), (OPENPBS, "BEFHMQRSTUWX")])
def test_every_documented_state_is_in_the_table(words: Words, letters: str) -> None:
    """qstat(1) of both."""
    assert sorted(words.states) == sorted(letters)
    for native in (*words.states.values(), *words.ends.values()):
        assert native.cause is None or native.cause in CAUSES
        assert native.phase is Phase.ENDED or native.cause is None


@pytest.mark.parametrize(("words", "codes"), [(TORQUE, range(-14, 0)), (OPENPBS, [*range(-7, 0), *range(-30, -9)])])
def test_every_documented_negative_exit_status_is_in_the_table(words: Words, codes: Any) -> None:
    """JOB_EXEC_ of TORQUE's mom_func.h and of OpenPBS's job.h."""
    assert sorted(words.ends) == sorted(codes)
    assert all(native.phase is Phase.ENDED and native.cause for native in words.ends.values())


@pytest.mark.parametrize("dialect", SCHEDULERS)
def test_an_unheard_of_state_says_only_that_there_is_a_job(dialect: str) -> None:
    text = f"Job Id: 17.head\n    Job_Name = {TOKEN}\n    job_state = Z\n"
    assert SCHEDULERS[dialect].read_query(Completed(0, text, "")) == {
        "17.head": JobWord(Phase.RUNNING, "Z", None, token=TOKEN)
    }


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        ("Not Running: Queue not started.", "the queue is closed for now"),
        ("Not Running: Insufficient amount of resource: ncpus (R: 4 A: 2 T: 4)", "waiting for resources"),
        ("Can Never Run: Insufficient amount of resource: ncpus (R: 20 A: 4 T: 4)",
         "no node can give what it asks for: it can start only if an operator changes that"),
        ("Not Running: User has reached queue workq running job limit.",
         "the project's limit on jobs at a time is reached"),
        ("<b>what some administrator wrote</b>", None),
        ("", None),
    ],
)  # fmt: skip
def test_reasons_in_words(comment: str, text: str | None) -> None:
    assert waiting(comment) == text
    assert all(REASONS.values())


@pytest.mark.parametrize(
    ("dialect", "completed", "kind", "transient"),
    [
        ("torque", Completed(0, "Welcome to this host\n184.head\n", ""), Submitted, False),
        ("torque", Completed(0, "", ""), Unknown, False),
        ("torque", Completed(1, "184.head\n", "qsub: a wrapper of ours failed afterwards"), Unknown, False),
        ("torque", Completed(1, "", "a wrapper of ours has failed"), Unknown, False),
        ("torque", Completed(-9, "", ""), Unknown, False),
        ("torque", Completed(185, "", "qsub: submit error (Batch protocol error)"), Unknown, False),
        ("torque", Completed(200, "", "qsub: submit error (Maximum number of jobs already in queue)"), Refused, True),
        ("torque", Completed(175, "", "qsub: submit error (Queue is not enabled)"), Refused, True),
        ("torque", Completed(214, "", "qsub: submit error (Request not allowed: Server shutting down)"), Refused, True),
        ("openpbs", Completed(212, "", "qsub: Server shutting down"), Refused, True),
        ("openpbs", Completed(172, "", "qsub: submit error"), Unknown, False),
        ("openpbs", Completed(100, "", "qsub: would exceed queue generic's per-user limit"), Refused, True),
        ("openpbs", Completed(188, "", "qsub: Job violates queue and/or server resource limits"), Refused, False),
    ],
)  # fmt: skip
def test_only_what_is_certain_counts_as_refused(
    dialect: str, completed: Completed, kind: type, transient: bool
) -> None:
    """Everything else is looked up by the token. The same code means different things in the two."""
    outcome = SCHEDULERS[dialect].read_submit(completed)
    assert isinstance(outcome, kind)
    assert getattr(outcome, "transient", False) is transient


def directives(dialect: str, resources: Resources = Resources(), **settings: Any) -> dict[str, str]:  # noqa: B008
    """The options of an order with these resources on a cluster with these settings."""
    scheduler = replace(SCHEDULERS[dialect], settings=Cluster(scheduler=dialect, **settings))  # type: ignore[arg-type]
    return dict(scheduler.directives(replace(ORDER, resources=resources)))


@pytest.mark.parametrize("dialect", SCHEDULERS)
def test_every_job_is_named_by_its_token_and_never_run_again(dialect: str) -> None:
    said = directives(dialect, account="geo", queue="batch", options={"p": "7"})
    assert (said["N"], said["r"], said["o"], said["A"], said["q"], said["p"]) == (
        TOKEN, "n", "/dev/null", "geo", "batch", "7",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "resources", "expected"),
    [
        ("torque", Resources(), "nodes=1:ppn=1"),
        ("torque", Resources(cores=3, memory_mb=100, walltime_s=60), "nodes=1:ppn=3,walltime=360,mem=356mb"),
        ("torque", Resources(nodes=2, cores=5, gpus=4), "nodes=2:ppn=3:gpus=2"),
        ("openpbs", Resources(), "select=1:ncpus=1"),
        ("openpbs", Resources(cores=3, memory_mb=100, walltime_s=60), "select=1:ncpus=3:mem=356mb,walltime=360"),
        ("openpbs", Resources(nodes=2, cores=5, memory_mb=144, gpus=4), "select=2:ncpus=3:mem=200mb:ngpus=2"),
    ],
)
def test_resources_are_for_the_whole_job_with_room_for_the_launcher(
    dialect: str, resources: Resources, expected: str
) -> None:
    """What the launcher keeps itself must not be cut short by the scheduler."""
    assert directives(dialect, resources)["l"] == expected


def test_a_queues_own_limit_is_not_passed_for_the_sake_of_the_launcher() -> None:
    queues = (Queue(name="short", max_walltime_seconds=600), Queue(name="long"))
    said = directives("torque", Resources(walltime_s=500), queues=queues)
    assert (said["q"], said["l"]) == ("short", "nodes=1:ppn=1,walltime=600")
    assert directives("torque", Resources(walltime_s=700), queues=queues)["q"] == "long"


def test_a_sites_own_resources_stand_beside_those_of_the_job() -> None:
    assert directives("torque", options={"l": "feature=avx2"})["l"] == "nodes=1:ppn=1,feature=avx2"
    assert directives("torque", Resources(memory_mb=100), memory_spare_mb=0)["l"] == "nodes=1:ppn=1,mem=100mb"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Control.CANCEL, ("qdel", "17.head")),
        (Control.HOLD, ("qhold", "17.head")),
        (Control.RELEASE, ("qrls", "17.head")),
        (Control.SUSPEND, ("qsig", "-s", "suspend", "17.head")),
        (Control.RESUME, ("qsig", "-s", "resume", "17.head")),
    ],
)
@pytest.mark.parametrize("dialect", SCHEDULERS)
def test_each_call_is_for_one_job(dialect: str, action: Control, words: tuple[str, ...]) -> None:
    """«qdel known unknown» has crashed an OpenPBS server."""
    assert SCHEDULERS[dialect].control_command(action, KNOWN).argv == words


def test_what_is_asked_is_machine_readable_and_a_history_is_asked_by_id_where_possible() -> None:
    torque, openpbs = SCHEDULERS["torque"], SCHEDULERS["openpbs"]
    assert torque.query_command().argv == ("qstat", "-x")
    assert torque.accounting_command([KNOWN]) is None
    assert openpbs.query_command().argv == ("qstat", "-f", "-F", "json")
    history = ("qstat", "-f", "-F", "json", "-x")
    for known, ids in (
        ([KNOWN], ("17.head",)),
        ([KNOWN, replace(KNOWN, scheduler_id="forgotten")], ()),
        ([KNOWN] * 2000, ()),
    ):
        command = openpbs.accounting_command(known)
        assert command is not None and command.argv == history + ids
    assert torque.submit_command(ORDER).stdin == b"#!/bin/sh\n"


def test_a_users_environment_cannot_hide_everybodys_jobs() -> None:
    """OpenPBS has written JSON that is none for values with odd characters."""
    text = (RECORDED / "openpbs" / "qstat_f_json_running.yaml").read_text()
    stdout = renamed(yaml.safe_load(text)["stdout"])
    broken = stdout.replace('"B":\t"x y"', '"B":\tx y"\n{')
    with pytest.raises(ValueError):
        json.loads(broken)
    answer = SCHEDULERS["openpbs"].read_query(Completed(0, broken, ""))
    assert answer == SCHEDULERS["openpbs"].read_query(Completed(0, stdout, "")) != {}


@pytest.mark.parametrize("control", ["\x00", "\x08", "\x0b", "\x0c", "\x1b", "\x1f", "\ufffe", "\uffff", "\udc80"])
def test_a_control_character_of_some_user_cannot_hide_everybodys_jobs(control: str) -> None:
    """«qsub -V» carries whatever is set, as LESS_TERMCAP_mb=ESC[…; TORQUE writes it into its XML as it is."""
    stdout = renamed(yaml.safe_load((RECORDED / "torque" / "qstat_x_running.yaml").read_text())["stdout"])
    odd = stdout.replace("<Variable_List>", f"<Variable_List>LESS_TERMCAP_mb={control}[1;31m,")
    assert odd != stdout
    answer = SCHEDULERS["torque"].read_query(Completed(0, odd, ""))
    assert answer == SCHEDULERS["torque"].read_query(Completed(0, stdout, "")) != {}


@pytest.mark.parametrize(
    "completed",
    [
        Completed(0, "", ""),
        Completed(0, "Welcome to this host\n", ""),
        Completed(0, "<Data><Job><Job_Id>17.head</Job_Id>", ""),
        Completed(0, "<Data><Node><name>head</name></Node></Data>", ""),
        Completed(0, f"<Data><Job><Job_Id>17.head</Job_Id><Job_Name>{TOKEN}</Job_Name></Job></Data>", ""),
        Completed(0, '{"Jobs": []}', ""),
        Completed(0, '{"Jobs": {"17.head": 3}}', ""),
        Completed(0, '{"Server": {}}', ""),
        Completed(0, f'{{"Jobs": {{"x": {{"Job_Name": "{TOKEN}"}}}}}}', ""),
        Completed(1, "", "qstat: something went wrong"),
        Completed(-9, "", ""),
    ],
)
@pytest.mark.parametrize("dialect", SCHEDULERS)
def test_an_answer_that_cannot_be_read_says_nothing_of_any_job(dialect: str, completed: Completed) -> None:
    """Neither «gone» nor an exception; the same for query, accounting and look-up."""
    scheduler = SCHEDULERS[dialect]
    assert isinstance(scheduler.read_query(completed), CouldNotAsk)
    assert isinstance(scheduler.read_accounting(completed, [KNOWN]), CouldNotAsk)
    assert isinstance(scheduler.read_lookup(completed, KNOWN), CouldNotAsk)


def test_a_control_of_a_job_that_is_gone_says_so() -> None:
    assert SCHEDULERS["torque"].read_control(Control.CANCEL, Completed(0, "", "")) == ControlOutcome(done=True)


PART = st.sampled_from(
    ["<Data>", "</Data>", "<Job>", "{", "}", '"Jobs"', ":", "Job Id: 17.head\n", f"    Job_Name = {TOKEN}\n",
     "    job_state = F\n", "    Exit_status = x\n", "    exit_status = 9\n", "\t", "\n", "17.head", "²"]
)  # fmt: skip


@given(
    st.sampled_from(sorted(SCHEDULERS)),
    st.builds(
        Completed,
        st.integers(-64, 255),
        st.one_of(st.lists(PART).map("".join), st.text(max_size=30)),
        st.text(max_size=30),
    ),
)
def test_readers_are_total(dialect: str, completed: Completed) -> None:
    """Whatever comes, each reader answers."""
    scheduler = SCHEDULERS[dialect]
    scheduler.read_submit(completed)
    scheduler.read_query(completed)
    scheduler.read_lookup(completed, KNOWN)
    scheduler.read_accounting(completed, [KNOWN])
    for action in Control:
        scheduler.read_control(action, completed)
