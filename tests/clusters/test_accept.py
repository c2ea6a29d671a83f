"""From a request to a job: what is on disk, what is in the database, and what a failure leaves behind."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from joblauncher.failpoints import VARIABLE, Failpoint
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import FileValue, LiteralValue
from wps_hpc.config import Settings
from wps_hpc.errors import (
    PARALLEL_LIMIT_TEXT,
    Forbidden,
    InvalidParameterValue,
    NoApplicableCode,
    NotEnoughStorage,
    NotFound,
    ServerBusy,
)
from wps_hpc.jobs import accept
from wps_hpc.jobs.accept import Intake
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.lease import Lease
from wps_hpc.jobs.request import ExecuteRequest, InlineContent, Mode, NestedGiven, Reference
from wps_hpc.jobs.requestjson import from_json
from wps_hpc.jobs.store import Store, StoreBusy, StoreFull
from wps_hpc.jobs.wake import Bell
from wps_hpc.processes import formats
from wps_hpc.processes.description import (
    ComplexData,
    Input,
    LiteralData,
    NestedInputs,
    Output,
    ProcessDescription,
    Resources,
)
from wps_hpc.processes.run import ProcessError

DOCUMENT = Input("doc/ument", data=ComplexData((formats.GEOJSON, formats.NETCDF)), min_occurs=0, max_occurs=9)
NUMBER = Input("number", data=LiteralData("integer", default="7"), min_occurs=0)
GROUP = Input("group", data=NestedInputs((DOCUMENT,)), min_occurs=0, max_occurs=2)
PROCESS = ProcessDescription(
    "echo", version="2.1", inputs=(DOCUMENT, NUMBER, GROUP), outputs=(Output("out", data=LiteralData()),)
)


class Offer:
    """A catalogue with a few descriptions, which is all that accepting looks at."""

    def __init__(self, *descriptions: ProcessDescription) -> None:
        self.descriptions = {entry.identifier: entry for entry in descriptions}

    def get(self, identifier: str) -> Any:
        found = self.descriptions.get(identifier)
        return None if found is None else type("Entry", (), {"description": found, "runnable": Needy(found)})


class Needy:
    """A process that needs a core for each of its number, and says no to 13."""

    def __init__(self, description: ProcessDescription) -> None:
        self.description = description

    def resources_for(self, record: RequestRecord, folder: JobFolder) -> Resources:
        """Called with the request as the launcher will have it."""
        (number,) = record.inputs["number"]
        assert isinstance(number, LiteralValue)
        if number.text == "13":
            raise ProcessError("Thirteen is unlucky.", "InvalidParameterValue", "number")
        return Resources(cores=int(number.text), walltime_s=60)


OFFER = Offer(PROCESS, replace(PROCESS, identifier="big", sync="cluster"))


def settings_for(root: Path, **limits: Any) -> Settings:
    return Settings.model_validate(
        {"storage": {"root": root}, "limits": limits, "clusters": {"hpc": {}}, "default_cluster": "hpc"}
    )


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    made = Bell(tmp_path / "run")
    yield made
    made.close()


@pytest.fixture
def intake(store: Store, tmp_path: Path, bell: Bell) -> Intake:
    return Intake(settings_for(tmp_path), store, OFFER, bell)  # type: ignore[arg-type]


def request(process: str = "echo", /, **fields: Any) -> ExecuteRequest:
    return ExecuteRequest(process, "wps1", **fields)


class TestNeeds:
    """What the site cannot give is refused before there is a job."""

    @pytest.fixture
    def intake(self, store: Store, tmp_path: Path, bell: Bell) -> Intake:
        queues = [{"name": "quick", "max_cores": 8, "max_input_mb": 0}, {"name": "bulk", "max_cores": 4}]
        settings = Settings.model_validate(
            {
                "storage": {"root": tmp_path},
                "limits": {"max_cores": 16},
                "clusters": {"hpc": {"scheduler": "slurm", "queues": queues}},
                "default_cluster": "hpc",
            }
        )
        return Intake(settings, store, OFFER, bell)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("number", "locator", "text"),
        [
            ("17", "cores", "needs 17 cores; this service gives at most 16"),
            ("9", "cores", "No queue of this service gives a job 60 s of walltime and 9 cores"),
            ("13", "number", "unlucky"),
        ],
    )
    def test_what_inputs_make_too_large(
        self, intake: Intake, store: Store, tmp_path: Path, number: str, locator: str, text: str
    ) -> None:
        wanted = request("big", mode=Mode.ASYNC, inputs={"number": (LiteralValue(number),)})
        with pytest.raises(InvalidParameterValue, match=text) as refused:
            intake.execute(wanted)
        assert refused.value.locator == locator
        assert store.list_jobs(limit=10) == [] and folders(tmp_path) == []

    def test_what_a_client_wishes_beyond_every_queue(self, intake: Intake, store: Store) -> None:
        with pytest.raises(InvalidParameterValue) as refused:
            intake.execute(request("big", mode=Mode.ASYNC, resources={"cores": 12}))
        assert refused.value.locator == "cores"
        assert store.list_jobs(limit=10) == []

    def test_inputs_that_are_too_large_for_the_queue_with_the_cores(self, intake: Intake) -> None:
        cores = {"number": (LiteralValue("6"),)}
        assert intake.execute(request("big", mode=Mode.ASYNC, inputs=cores)).state is JobState.ACCEPTED
        with pytest.raises(InvalidParameterValue, match="6 cores and 1 MiB of input files") as refused:
            intake.execute(request("big", mode=Mode.ASYNC, inputs={**cores, "doc/ument": (InlineContent(b"{}"),)}))
        assert refused.value.locator == "resources"

    def test_what_depends_on_inputs_that_are_not_there_yet_is_left_to_packing(self, intake: Intake) -> None:
        later = {"number": (LiteralValue("9"),), "doc/ument": (Reference("https://data.example.org/a.nc"),)}
        assert intake.execute(request("big", mode=Mode.ASYNC, inputs=later)).state is JobState.ACCEPTED

    def test_a_defect_in_the_authors_function_is_left_to_packing(
        self, intake: Intake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object) -> Resources:
            raise ZeroDivisionError

        monkeypatch.setattr(Needy, "resources_for", broken)
        assert intake.execute(request("big", mode=Mode.ASYNC)).state is JobState.ACCEPTED
        assert "process big cannot say what it needs" in caplog.text


class TestAccounts:
    """A cluster with a table of accounts runs jobs of those owners alone, and each under its own."""

    @pytest.fixture
    def intake(self, store: Store, tmp_path: Path, bell: Bell) -> Intake:
        cluster = {
            "scheduler": "slurm",
            "transport": "ssh_openssh",
            "ssh": {"host": "login"},
            "staging": "sftp",
            "root": "/scratch/{account}/wps",
            "accounts": {"ann": "annie", "bob@example.org": "bob"},
        }
        settings = {"storage": {"root": tmp_path}, "clusters": {"hpc": cluster}, "default_cluster": "hpc"}
        return Intake(Settings.model_validate(settings), store, OFFER, bell)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("owner", "account"), [("ann", "annie"), ("bob@example.org", "bob")])
    def test_a_job_has_the_account_of_its_owner(self, intake: Intake, store: Store, owner: str, account: str) -> None:
        job = intake.execute(request("big", owner=owner, mode=Mode.ASYNC))
        found = store.get(job.id)
        assert found is not None and (found.owner, found.account) == (owner, account)

    @pytest.mark.parametrize(("owner", "said"), [("eve", "you have none on the cluster"), (None, "log in")])
    @pytest.mark.parametrize("mode", Mode)
    def test_who_has_none_is_refused_and_leaves_nothing(
        self, intake: Intake, store: Store, tmp_path: Path, owner: str | None, said: str, mode: Mode
    ) -> None:
        with pytest.raises(Forbidden, match=said):
            intake.execute(request(owner=owner, mode=mode))
        assert (store.list_jobs(), folders(tmp_path)) == ([], [])

    def test_nobodys_code_runs_beside_the_server(self, intake: Intake) -> None:
        job = intake.execute(request("echo", owner="ann", mode=Mode.SYNC))
        assert (job.cluster, job.account) == ("hpc", "annie")

    def test_a_place_has_its_own_jobs_alone(self, intake: Intake, store: Store) -> None:
        ann, bob = (intake.execute(request("big", owner=name, mode=Mode.ASYNC)) for name in ("ann", "bob@example.org"))
        assert store.places() == {("hpc", "annie"), ("hpc", "bob")}
        assert [job.id for job in store.next_accepted("hpc", 9, "annie")] == [ann.id]
        assert [job.id for job in store.in_state("hpc", JobState.ACCEPTED, "bob")] == [bob.id]
        assert store.next_accepted("hpc", 9) == store.active("hpc") == []


def folders(root: Path) -> list[Path]:
    return list(root.glob("jobs/*/*"))


class TestAccepting:
    def test_a_synchronous_job(self, intake: Intake, store: Store, tmp_path: Path) -> None:
        before = time.time()
        job = intake.execute(request(owner="ann"))
        assert store.get(job.id) == job
        assert (job.process, job.process_version, job.protocol, job.mode) == ("echo", "2.1", "wps1", "sync")
        assert (job.state, job.staged, job.cluster, job.owner) == (JobState.ACCEPTED, True, "local", "ann")
        assert before <= job.created <= time.time()
        assert job.deadline == job.created + 15
        assert from_json(job.request).inputs == {"number": (LiteralValue("7", "integer"),)}
        assert folders(tmp_path) == [job_path(tmp_path, job.id)]

    def test_where_jobs_run(self, intake: Intake) -> None:
        assert intake.execute(request("big")).cluster == "hpc"
        job = intake.execute(request(mode=Mode.ASYNC))
        assert (job.cluster, job.deadline, job.mode) == ("hpc", None, "async")

    def test_inline_documents_become_files(self, intake: Intake, tmp_path: Path) -> None:
        binary = InlineContent(bytes(range(256)), "application/x-netcdf")
        nested = NestedGiven({"doc/ument": (InlineContent(b"[]"),)})
        job = intake.execute(request(inputs={"doc/ument": (InlineContent(b"{}"), binary), "group": (nested,)}))
        folder = JobFolder(job_path(tmp_path, job.id))
        first, second = from_json(job.request).inputs["doc/ument"]
        assert first == FileValue("inputs/doc%2Fument-1.geojson", "application/geo+json", None, None, 2)
        assert second == FileValue("inputs/doc%2Fument-2.nc", "application/x-netcdf", "base64", None, 256)
        group = from_json(job.request).inputs["group"][0]
        assert group.values["doc/ument"][0].path == "inputs/group-1,doc%2Fument-1.geojson"  # type: ignore[union-attr]
        assert (folder.path / "inputs/doc%2Fument-2.nc").read_bytes() == binary.content
        assert (folder.path / "inputs/group-1,doc%2Fument-1.geojson").read_bytes() == b"[]"
        assert job.staged

    def test_only_the_server_may_look(self, intake: Intake, tmp_path: Path) -> None:
        mask = os.umask(0)
        try:
            job = intake.execute(request(inputs={"doc/ument": (InlineContent(b"{}"),)}, lineage=b"<a/>"))
        finally:
            os.umask(mask)
        folder = job_path(tmp_path, job.id)
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
        assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
        assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}

    def test_references_wait_for_staging_and_their_secrets_stay_out_of_the_row(
        self, intake: Intake, store: Store, tmp_path: Path
    ) -> None:
        reference = Reference("http://a/", headers=(("Authorization", "s3cret"),))
        wanted = request(inputs={"doc/ument": (reference,)}, lineage=b"<wps:DataInputs/>")
        job = intake.execute(wanted)
        folder = JobFolder(job_path(tmp_path, job.id))
        assert not job.staged
        assert [found.id for found in store.to_stage(5)] == [job.id]
        assert "s3cret" not in job.request
        stored = from_json(job.request, folder)
        assert stored.inputs["doc/ument"] == (reference,)
        assert stored.lineage == b"<wps:DataInputs/>"
        assert json.loads(folder.secrets.read_text()) == [{"headers": [["Authorization", "s3cret"]], "body": None}]

    def test_a_nested_reference_waits_for_staging_too(self, intake: Intake) -> None:
        nested = NestedGiven({"doc/ument": (Reference("http://a/"),)})
        assert not intake.execute(request(inputs={"group": (nested,)})).staged

    def test_the_worker_is_woken(self, intake: Intake, bell: Bell) -> None:
        with bell.worker_listener() as worker:
            intake.execute(request())
            assert worker.wait(20) == set()


class TestRefusals:
    def test_an_unknown_process(self, intake: Intake, tmp_path: Path) -> None:
        with pytest.raises(InvalidParameterValue) as refusal:
            intake.execute(request("nothing"))
        assert refusal.value.locator == "Identifier"

    def test_an_invalid_request_leaves_nothing(self, intake: Intake, store: Store, tmp_path: Path) -> None:
        with pytest.raises(InvalidParameterValue):
            intake.execute(request(inputs={"number": (LiteralValue("x"),)}))
        assert folders(tmp_path) == [] and store.list_jobs() == []

    def test_over_the_limit(self, store: Store, tmp_path: Path, bell: Bell) -> None:
        full = Intake(settings_for(tmp_path, parallel=1, queued=0), store, OFFER, bell)  # type: ignore[arg-type]
        full.execute(request())
        for mode in Mode:
            for inputs in ({}, {"doc/ument": (InlineContent(b"{}"),)}):
                with pytest.raises(ServerBusy) as refusal:
                    full.execute(request(mode=mode, inputs=inputs))
                assert refusal.value.text == PARALLEL_LIMIT_TEXT
        assert len(folders(tmp_path)) == 1

    def test_no_room_for_an_input(self, intake: Intake, store: Store, tmp_path: Path) -> None:
        with files_limited_to(100_000), pytest.raises(NotEnoughStorage):
            intake.execute(request(inputs={"doc/ument": (InlineContent(b"x" * 200_000),)}))
        assert folders(tmp_path) == [] and store.list_jobs() == []
        assert intake.execute(request(inputs={"doc/ument": (InlineContent(b"x" * 200_000),)}))

    def test_nothing_is_written_on_a_disk_with_too_little_room(
        self, store: Store, tmp_path: Path, bell: Bell, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings = settings_for(tmp_path)
        storage = settings.storage.model_copy(update={"min_free_bytes": 10**18})
        intake = Intake(settings.model_copy(update={"storage": storage}), store, OFFER, bell)  # type: ignore[arg-type]
        with pytest.raises(NotEnoughStorage, match="too little room left"):
            intake.execute(request(inputs={"doc/ument": (InlineContent(b"{}"),)}))
        with pytest.raises(InvalidParameterValue):
            intake.execute(request("nothing"))
        assert not (tmp_path / "jobs").exists() and store.list_jobs() == []
        assert "storage.min_free_bytes" in caplog.text

    @pytest.mark.parametrize(
        ("failure", "told"),
        [
            (StoreBusy("locked"), ServerBusy),
            (StoreFull("full"), NotEnoughStorage),
            (OSError(errno.EDQUOT, "quota"), NotEnoughStorage),
            (PermissionError(errno.EACCES, "no"), NoApplicableCode),
        ],
    )
    def test_what_the_client_is_told(
        self, intake: Intake, store: Store, tmp_path: Path, failure: Exception, told: type[Exception]
    ) -> None:
        with failing(store, failure), pytest.raises(told):
            intake.execute(request(inputs={"doc/ument": (InlineContent(b"{}"),)}))
        assert folders(tmp_path) == []

    def test_a_row_that_may_be_there_keeps_its_folder(self, intake: Intake, store: Store, tmp_path: Path) -> None:
        with failing(store, StoreBusy("cut", may_have_happened=True)), pytest.raises(ServerBusy):
            intake.execute(request())
        assert len(folders(tmp_path)) == 1


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """A real refusal by the system to write more (EFBIG), for this process only."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def failing(store: Store, failure: Exception) -> Iterator[None]:
    def fail(*_: object, **__: object) -> None:
        raise failure

    store.add_job = fail  # type: ignore[method-assign]
    try:
        yield
    finally:
        del store.add_job  # type: ignore[method-assign]


CRASH = """
import sys
from pathlib import Path
from tests.clusters.test_accept import OFFER, request, settings_for
from wps_hpc.jobs.accept import Intake
from wps_hpc.jobs.request import InlineContent
from wps_hpc.jobs.store import Store
from wps_hpc.jobs.wake import Bell
root = Path(sys.argv[1])
intake = Intake(settings_for(root), Store(sys.argv[2]), OFFER, Bell(root / "run"))
intake.execute(request(inputs={"doc/ument": (InlineContent(b"{}"),)}))
"""


class TestCrashes:
    def crash(self, point: Failpoint, root: Path, url: str) -> None:
        environment = {**os.environ, VARIABLE: f"{point.value}:{root / 'marker'}"}
        command = [sys.executable, "-c", CRASH, str(root), url]
        assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == -9

    def test_before_the_row_there_is_no_job(self, store: Store, store_url: str, tmp_path: Path) -> None:
        self.crash(Failpoint.ACCEPT_BEFORE_ROW, tmp_path, store_url)
        assert store.list_jobs() == []
        assert len(folders(tmp_path)) == 1

    def test_after_the_row_there_is_a_whole_job(self, store: Store, store_url: str, tmp_path: Path) -> None:
        self.crash(Failpoint.ACCEPT_AFTER_ROW, tmp_path, store_url)
        [job] = store.next_accepted("local", 5)
        [value] = from_json(job.request).inputs["doc/ument"]
        assert isinstance(value, FileValue)
        assert (job_path(tmp_path, job.id) / value.path).read_bytes() == b"{}"


class TestWaiting:
    def test_the_end_is_seen_at_once(self, intake: Intake, store: Store, epoch: int, bell: Bell) -> None:
        job = intake.execute(request())
        store.add_submission([job.id], "t", "local", epoch)

        def end() -> None:
            store.change(job.id, epoch, state=JobState.SUCCEEDED)
            bell.ring({job.id})

        timer = threading.Timer(0.3, end)
        timer.start()
        assert intake.wait(job.id, 30).state is JobState.SUCCEEDED
        timer.join()

    def test_it_is_seen_without_a_bell(
        self, intake: Intake, store: Store, epoch: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = intake.execute(request())
        looks: list[float] = []
        get = store.get

        def look(job_id: str) -> Job | None:
            looks.append(time.monotonic())
            if len(looks) == 6:
                store.change(job_id, epoch, state=JobState.FAILED)
            return get(job_id)

        monkeypatch.setattr(store, "get", look)
        assert intake.wait(job.id, 30).state is JobState.FAILED
        pauses = [after - before for before, after in pairwise(looks)]
        assert len(looks) == 6
        assert pauses[0] < pauses[-1]

    def test_pauses_stay_short(self) -> None:
        assert accept.FIRST_LOOK <= 0.1 and accept.LONGEST_LOOK <= 0.5

    def test_a_job_that_takes_longer_is_shown_as_it_is(self, intake: Intake) -> None:
        job = intake.execute(request())
        before = time.monotonic()
        assert intake.wait(job.id, 0.1) == job
        assert 0.09 <= time.monotonic() - before < 20
        assert intake.wait(job.id, 0) == job

    def test_nobody_waits_for_a_job_that_is_not_there(self, intake: Intake) -> None:
        with pytest.raises(NotFound):
            intake.wait("nothing", 30)


class TestDismissing:
    def test_the_worker_is_told(self, intake: Intake, bell: Bell) -> None:
        job = intake.execute(request())
        with bell.worker_listener() as worker:
            asked = intake.dismiss(job.id, "ann")
            assert worker.wait(20) == {job.id}
        assert asked.cancelled_by == "ann" and asked.cancel_requested is not None
        assert asked.state is JobState.ACCEPTED

    def test_a_job_that_has_ended_stays_as_it_is(self, intake: Intake, store: Store) -> None:
        job = intake.execute(request())
        epoch = Lease(store, "me", 60).acquire()
        assert epoch is not None
        ended = store.change(job.id, epoch, state=JobState.FAILED)
        assert intake.dismiss(job.id, "ann") == ended

    def test_an_unknown_job(self, intake: Intake) -> None:
        with pytest.raises(NotFound):
            intake.dismiss("nothing", "ann")


def test_a_locked_database_is_a_busy_server(tmp_path: Path, bell: Bell) -> None:
    import sqlite3

    path = tmp_path / "jobs.sqlite"
    store = Store(f"sqlite:///{path}", busy_seconds=0.1)
    store.upgrade()
    intake = Intake(settings_for(tmp_path), store, OFFER, bell)  # type: ignore[arg-type]
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServerBusy):
        intake.execute(request())
    assert folders(tmp_path) == []
    other.execute("COMMIT")
    assert intake.execute(request())
    other.close()
    store.close()


#: Each state in which a job can be steered, and the wishes that pausing and resuming it are.
WISHES = {
    JobState.ACCEPTED: ("hold", "release"),
    JobState.STAGING: ("hold", "release"),
    JobState.SUBMITTING: ("hold", "release"),
    JobState.QUEUED: ("hold", "release"),
    JobState.HELD: ("hold", "release"),
    JobState.RUNNING: ("suspend", "resume"),
    JobState.SUSPENDED: ("suspend", "resume"),
}
#: The way from accepted to each of these states.
PATHS = {
    JobState.STAGING: (JobState.STAGING,),
    JobState.SUBMITTING: (JobState.SUBMITTING,),
    JobState.QUEUED: (JobState.SUBMITTING, JobState.QUEUED),
    JobState.HELD: (JobState.HELD,),
    JobState.RUNNING: (JobState.SUBMITTING, JobState.RUNNING),
    JobState.SUSPENDED: (JobState.SUBMITTING, JobState.SUSPENDED),
}


class TestSteering:
    @pytest.mark.parametrize("state", WISHES)
    def test_a_paused_job_is_held_or_suspended_by_where_it_is(
        self, intake: Intake, store: Store, bell: Bell, epoch: int, state: JobState
    ) -> None:
        job = intake.execute(request())
        for step in PATHS.get(state, ()):
            store.change(job.id, epoch, state=step)
        with bell.worker_listener() as worker:
            paused = intake.pause(job.id)
            assert worker.wait(20) == {job.id}
        resumed = intake.resume(job.id)
        assert (paused.wish, resumed.wish) == WISHES[state]
        assert (paused.state, resumed.state) == (state, state)

    def test_every_state_that_is_not_final_can_be_steered(self) -> None:
        assert set(WISHES) == {state for state in JobState if not state.final}

    def test_a_job_that_has_ended_is_not_steered(self, intake: Intake, store: Store, epoch: int) -> None:
        job = intake.execute(request())
        ended = store.change(job.id, epoch, state=JobState.FAILED)
        assert intake.pause(job.id) == intake.resume(job.id) == ended

    def test_the_results_of_an_ended_job_are_let_go(self, intake: Intake, store: Store, epoch: int) -> None:
        job = intake.execute(request())
        intake.forget(job.id)
        assert store.get(job.id) == job, "one that has not ended stays"
        store.change(job.id, epoch, state=JobState.FAILED)
        before = time.time()
        intake.forget(job.id)
        found = store.get(job.id)
        assert found is not None and found.expires is not None
        assert before <= found.expires <= time.time()
        assert store.mark_expired(time.time()) == 1

    def test_an_unknown_job(self, intake: Intake) -> None:
        for steer in (intake.pause, intake.resume):
            with pytest.raises(NotFound):
                steer("nothing")
        intake.forget("nothing")
