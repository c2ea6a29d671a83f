"""What nodes leave, honest and forged: attempts, records, output files, and what is served of them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from joblauncher.formats import status
from joblauncher.formats.folder import AttemptFolder, JobFolder, job_path
from joblauncher.formats.records import (
    CAUSES,
    ExitRecord,
    Failure,
    RequestRecord,
    ResultRecord,
    WantedOutput,
    dump,
)
from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue, NestedValue, Value
from wps_hpc.config import parse_settings
from wps_hpc.errors import NoApplicableCode, NotFound
from wps_hpc.jobs import beneath, results, shape, trusted
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import ExecuteRequest
from wps_hpc.jobs.requestjson import to_json
from wps_hpc.jobs.results import Results
from wps_hpc.jobs.trusted import Left, read_attempt
from wps_hpc.processes.description import (
    BoundingBoxData,
    ComplexData,
    Format,
    LiteralData,
    NestedOutputs,
    Output,
    ProcessDescription,
)

JOB = "0123abcd-0000-4000-8000-000000000000"
HEAD = status.StatusHead(JOB, "buffer")
PROCESS = ProcessDescription(
    "buffer",
    outputs=(
        Output("shape", data=ComplexData((Format("application/geo+json"), Format("application/xml")))),
        Output("count", data=LiteralData("integer", uoms=("m",))),
        Output("extent", data=BoundingBoxData(("EPSG:4326",)), optional=True),
        Output("more", data=NestedOutputs((Output("inner", data=LiteralData("double")),)), optional=True),
    ),
)
BODY = b'{"type": "FeatureCollection"}'
Outputs = Mapping[str, tuple[Value, ...]]
GOOD: Outputs = {
    "shape": (FileValue("outputs/shape.geojson", "application/geo+json", size=len(BODY)),),
    "count": (LiteralValue("3", "integer", "m"),),
    "extent": (BoundingBoxValue((1.0, 2.0), (3.0, 4.0), "EPSG:4326"),),
    "more": (NestedValue({"inner": (LiteralValue("0.5", "double"),)}),),
}


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    """A job whose first attempt has succeeded."""
    folder = JobFolder(job_path(tmp_path, JOB))
    attempt = folder.attempt(1)
    attempt.outputs.mkdir(parents=True)
    (attempt.outputs / "shape.geojson").write_bytes(BODY)
    folder.request.write_bytes(dump(RequestRecord("buffer", {})))
    attempt.claim.write_text("{}")
    finish(attempt, GOOD)
    return folder


def record(outputs: Outputs, **changes: Any) -> ResultRecord:
    return replace(ResultRecord("succeeded", 1.0, 2.0, "node1", outputs, rusage={"cpu_s": 1.5}), **changes)


def finish(attempt: AttemptFolder, outputs: Outputs) -> None:
    """Let the launcher write a success."""
    attempt.result.write_bytes(dump(record(outputs)))
    attempt.status.write_bytes(status.succeeded(HEAD, "done", outputs, 2.0))


def refused(folder: JobFolder) -> Failure:
    """The reason why a claimed success is none."""
    left = read_attempt(folder, 1, PROCESS)
    assert left.state == "failed" and left.failure is not None, left
    assert left.failure.cause == "bad output"
    return left.failure


def test_an_honest_success_is_believed(folder: JobFolder) -> None:
    left = read_attempt(folder, 1, PROCESS)
    assert (left.state, left.percent, left.message, left.claimed, left.failure) == (
        "succeeded",
        100,
        "done",
        True,
        None,
    )
    assert left.result is not None and left.result.outputs == GOOD
    assert left.seen_at == folder.attempt(1).status.stat().st_mtime
    assert read_attempt(folder, 1).state == "succeeded"


def test_an_attempt_that_does_not_exist_left_nothing(folder: JobFolder, tmp_path: Path) -> None:
    assert read_attempt(folder, 2) == Left()
    assert read_attempt(JobFolder(tmp_path / "nowhere"), 1) == Left()


def test_a_claim_alone_is_no_state(folder: JobFolder) -> None:
    attempt = folder.attempt(2)
    attempt.path.mkdir()
    attempt.claim.write_text("{}")
    attempt.exit.write_bytes(dump(ExitRecord(None, 9, "node\x00 1")))
    left = read_attempt(folder, 2)
    assert left == Left(claimed=True, exit=ExitRecord(None, 9, "node\ufffd 1"))
    assert "signal 9" in left.described() and "claimed by a launcher" in left.described()


def test_a_running_attempt_says_how_far_it_is(folder: JobFolder) -> None:
    folder.attempt(1).status.write_bytes(status.started(HEAD, 42, "half way", 1.0))
    left = read_attempt(folder, 1, PROCESS)
    assert (left.state, left.percent, left.message, left.result) == ("running", 42, "half way", None)


def test_a_failure_comes_with_its_record(folder: JobFolder) -> None:
    told = Failure("signal", "killed \x1b[1m by signal 11", "NoApplicableCode", signal=11, detail="trace\x00back")
    attempt = folder.attempt(1)
    attempt.status.write_bytes(status.failed(HEAD, told, 2.0))
    attempt.result.write_bytes(dump(record({}, state="failed", failure=told)))
    left = read_attempt(folder, 1, PROCESS)
    assert left.state == "failed" and left.failure is not None
    assert left.failure == replace(told, text="killed \ufffd[1m by signal 11", detail="trace\ufffdback")


def test_a_failure_without_a_readable_record_keeps_what_the_status_says(folder: JobFolder) -> None:
    attempt = folder.attempt(1)
    told = Failure("process error", "no such layer", "InvalidParameterValue", "layer")
    attempt.status.write_bytes(status.failed(HEAD, told, 2.0))
    attempt.result.write_text("{")
    failure = read_attempt(folder, 1).failure
    assert failure is not None and "no record" in failure.detail
    assert replace(failure, detail="") == told


def test_a_forged_failure_is_made_presentable(folder: JobFolder) -> None:
    attempt = folder.attempt(1)
    forged = Failure("world domination", "x" * 100_000, "<script>", "l" * 5000, detail="d" * 1_000_000)
    attempt.status.write_bytes(status.failed(HEAD, replace(forged, text="x", locator=None), 2.0))
    attempt.result.write_bytes(dump(record({}, state="failed", failure=forged)))
    failure = read_attempt(folder, 1).failure
    assert failure is not None and failure.cause in CAUSES and failure.code == "NoApplicableCode"
    assert len(failure.text) <= 4000 and len(failure.locator or "") <= 200 and len(failure.detail) <= 64_000


BOMB = b"""<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<r>&b;</r>"""
EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><r>&a;</r>'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<",
        status.succeeded(HEAD, "done", {}, 2.0)[:-20],
        status.succeeded(HEAD, "done", {}, 2.0) * 2,
        b"<ExecuteResponse/>",
        b"\x00" * 100,
        BOMB,
        EXTERNAL,
        b"<a>" * 100_000,
        b"<?xml version='1.0' encoding='nonsense'?><a/>",
        b" " * (status.SIZE_LIMIT + 1),
    ],
)
def test_a_torn_or_forged_status_is_unreadable(folder: JobFolder, content: bytes) -> None:
    folder.attempt(1).status.write_bytes(content)
    left = read_attempt(folder, 1, PROCESS)
    assert left.state == "unreadable" and left.why and left.claimed
    assert left.failure is None and "cannot be read" in left.described()


def test_an_endless_status_is_not_read_to_its_end(folder: JobFolder) -> None:
    with folder.attempt(1).status.open("wb") as stream:
        stream.truncate(1 << 40)
    assert "larger than" in read_attempt(folder, 1).why


def link_to_passwd(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def sibling_link(path: Path) -> None:
    other = path.with_name("real-" + path.name)
    other.write_bytes(BODY)
    path.symlink_to(other.name)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            bound.bind(path.name)
        finally:
            os.chdir(here)


FORGERIES: tuple[Callable[[Path], None], ...] = (
    link_to_passwd,
    link_to_nothing,
    sibling_link,
    unix_socket,
    os.mkfifo,
    Path.mkdir,
)


@pytest.mark.parametrize("forge", FORGERIES)
@pytest.mark.parametrize("name", ["status", "result", "outputs/shape.geojson"])
def test_nothing_but_regular_files_is_opened(folder: JobFolder, forge: Callable[[Path], None], name: str) -> None:
    attempt = folder.attempt(1)
    path = attempt.path / {"status": "status.xml", "result": "result.json"}.get(name, name)
    path.unlink()
    forge(path)
    left = read_attempt(folder, 1, PROCESS)
    if name == "status":
        assert left.state == "unreadable" and left.why
    else:
        assert refused(folder).detail


def test_a_device_is_not_opened(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    # /dev/zero by way of a folder that is open on /dev: making a device needs more than an ordinary account.
    with beneath.folder_beneath(Path("/dev"), "") as devices, pytest.raises(beneath.Untrusted, match="regular"):
        monkeypatch.setattr(beneath.os, "open", None)
        beneath.open_in(devices, "zero")


@pytest.mark.parametrize("name", ["attempts", "1", "outputs"])
def test_folders_on_the_way_are_not_links(folder: JobFolder, tmp_path: Path, name: str) -> None:
    path = {"attempts": folder.attempts, "1": folder.attempt(1).path, "outputs": folder.attempt(1).outputs}[name]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    left = read_attempt(folder, 1, PROCESS)
    assert left.state == ("failed" if name == "outputs" else "unreadable")


@pytest.mark.parametrize(
    "path",
    [
        "outputs/../status.xml",
        "outputs/./shape.geojson",
        "outputs//shape.geojson",
        "outputs/",
        "outputs",
        "/etc/passwd",
        "../../../secrets.json",
        "status.xml",
        "work/shape.geojson",
        "outputs/shape.geojson/x",
        "outputs/missing",
        "outputs/nul\0",
        "outputs/" + "x" * 5000,
        "outputs/sur\udc80rogate",
        "",
    ],
)
def test_output_paths_do_not_leave_the_outputs(folder: JobFolder, path: str) -> None:
    forged = {**GOOD, "shape": (FileValue(path, "application/geo+json", size=len(BODY)),)}
    folder.attempt(1).result.write_bytes(dump(record(forged)))
    assert refused(folder)


def test_outputs_may_lie_in_folders_of_their_own(folder: JobFolder) -> None:
    attempt = folder.attempt(1)
    (attempt.outputs / "a/b").mkdir(parents=True)
    (attempt.outputs / "a/b/c").write_bytes(b"123")
    finish(attempt, {**GOOD, "shape": (FileValue("outputs/a/b/c", "application/xml", size=3),)})
    assert read_attempt(folder, 1, PROCESS).state == "succeeded"


def test_a_hard_link_counts_as_the_file_it_is(folder: JobFolder) -> None:
    # The launcher itself links large files into the outputs.
    os.link(folder.attempt(1).outputs / "shape.geojson", folder.path / "another name")
    assert read_attempt(folder, 1, PROCESS).state == "succeeded"


def with_part(part: FileValue) -> Outputs:
    """Good outputs, the file of which leads to another one."""
    (file,) = GOOD["shape"]
    assert isinstance(file, FileValue)
    return {**GOOD, "shape": (replace(file, parts=(part,)),)}


def test_a_part_of_an_output_is_a_file_like_any_other(folder: JobFolder) -> None:
    attempt = folder.attempt(1)
    (attempt.outputs / "stored").mkdir()
    (attempt.outputs / "stored" / "part.txt").write_bytes(b"12345")
    finish(attempt, with_part(FileValue("outputs/stored/part.txt", "text/plain", size=5)))
    assert read_attempt(folder, 1, PROCESS).state == "succeeded"


@pytest.mark.parametrize("path", ["outputs/missing.txt", "work/file.txt", "outputs/../../../request.json"])
def test_a_part_does_not_leave_the_outputs(folder: JobFolder, path: str) -> None:
    finish(folder.attempt(1), with_part(FileValue(path, "text/plain", size=5)))
    refused(folder)


@pytest.mark.parametrize(
    ("href", "believed"),
    [("https://example.org/a", True), ("ftp://example.org/a", True), ("javascript:alert(1)", False), ("/a", False)],
)
def test_a_link_leads_where_a_browser_runs_nothing(folder: JobFolder, href: str, believed: bool) -> None:
    finish(folder.attempt(1), {**GOOD, "shape": (LinkValue(href, "application/geo+json"),)})
    assert (read_attempt(folder, 1, PROCESS).state == "succeeded") is believed


@pytest.mark.parametrize("crs", ["urn:ogc:def:crs:EPSG::4326", "http://www.opengis.net/def/crs/EPSG/0/4326"])
def test_a_reference_system_may_be_spelled_otherwise(folder: JobFolder, crs: str) -> None:
    finish(folder.attempt(1), {**GOOD, "extent": (BoundingBoxValue((1.0, 2.0), (3.0, 4.0), crs),)})
    assert read_attempt(folder, 1, PROCESS).state == "succeeded"


def test_files_of_another_account_are_not_believed(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath.os, "geteuid", lambda: os.getuid() + 1)
    left = read_attempt(folder, 1, PROCESS)
    assert left.state == "unreadable" and "another account" in left.why and not left.claimed


def test_a_shared_file_is_never_an_output(folder: JobFolder) -> None:
    forged = FileValue("/etc/passwd", "application/geo+json", size=Path("/etc/passwd").stat().st_size, shared=True)
    folder.attempt(1).result.write_bytes(dump(record({**GOOD, "shape": (forged,)})))
    assert refused(folder)


@pytest.mark.parametrize("size", [None, 0, len(BODY) + 1])
def test_the_recorded_size_must_be_the_files(folder: JobFolder, size: int | None) -> None:
    forged = {**GOOD, "shape": (FileValue("outputs/shape.geojson", "application/geo+json", size=size),)}
    folder.attempt(1).result.write_bytes(dump(record(forged)))
    assert "bytes" in refused(folder).detail


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": ()}, "shape is missing"),
        ({"count": (LiteralValue("three", "integer"),)}, "count is not a literal"),
        ({"count": (LiteralValue("3", "string"),)}, "count is not of type integer"),
        ({"count": (LiteralValue("3", "integer", "furlong"),)}, "unit furlong"),
        ({"count": GOOD["shape"]}, "count is of another kind"),
        ({"count": (LiteralValue("3", "integer"), LiteralValue("x", "integer"))}, "count is not a literal"),
        ({"shape": (LiteralValue("x"),)}, "shape is of another kind"),
        ({"shape": (replace(GOOD["shape"][0], mime_type="text/html"),)}, "text/html"),  # type: ignore[type-var]
        ({"extent": (BoundingBoxValue((1.0, 2.0), (3.0,), "EPSG:4326"),)}, "extent is not a bounding box"),
        ({"extent": (BoundingBoxValue((), ()),)}, "extent is not a bounding box"),
        ({"extent": (BoundingBoxValue((1.0,), (2.0,), "EPSG:3857"),)}, "EPSG:3857"),
        ({"more": (NestedValue({}),)}, "inner is missing"),
        ({"more": (NestedValue({"inner": (LiteralValue("x", "double"),)}),)}, "inner is not a literal"),
        ({"extra": (LiteralValue("1"),)}, "extra is not one of the process"),
        ({"count": (LiteralValue("3", "integer", "\x01"),)}, "characters"),
    ],
)
def test_outputs_must_be_those_that_are_described(folder: JobFolder, changes: Outputs, words: str) -> None:
    folder.attempt(1).result.write_bytes(dump(record({**GOOD, **changes})))
    assert words in refused(folder).text


def test_only_wanted_outputs_are_required(folder: JobFolder) -> None:
    folder.request.write_bytes(dump(RequestRecord("buffer", {}, (WantedOutput("count"),))))
    finish(folder.attempt(1), {"count": GOOD["count"]})
    assert read_attempt(folder, 1, PROCESS).state == "succeeded"
    finish(folder.attempt(1), {"shape": GOOD["shape"]})
    assert "count is missing" in refused(folder).text


@pytest.mark.parametrize(
    "forge",
    [
        lambda body: body.update(schema=99),
        lambda body: body.update(state="failed"),
        lambda body: body.update(state=["succeeded"]),
        lambda body: body.update(failure={"cause": "signal", "text": "x"}),
        lambda body: body.update(started="yesterday"),
        lambda body: body.update(finished=float("nan")),
        lambda body: body.update(host=None),
        lambda body: body.update(rusage={"cpu_s": "1"}),
        lambda body: body.update(signals=[1]),
        lambda body: body.update(surprise=1),
        lambda body: body.update(outputs=[]),
        lambda body: body["outputs"].update(count="3"),
        lambda body: body["outputs"].update(count=[{"kind": "literal", "text": {"a": 1}}]),
        lambda body: body["outputs"].update(count=[{"kind": "literal", "text": "3", "data_type": 5}]),
        lambda body: body["outputs"].update(shape=[{"kind": "file", "path": 5, "mime_type": "a/b"}]),
        lambda body: body["outputs"]["shape"][0].update(size="29"),
        lambda body: body["outputs"]["shape"][0].update(size=True),
        lambda body: body["outputs"]["extent"][0].update(lower=["1", "2"]),
        lambda body: body["outputs"]["extent"][0].update(lower=[float("inf"), 2.0]),
        lambda body: body["outputs"].update(more=[{"kind": "nested", "values": {"inner": [5]}}]),
    ],
)
def test_a_forged_record_makes_no_success(folder: JobFolder, forge: Callable[[dict[str, Any]], None]) -> None:
    attempt = folder.attempt(1)
    body = json.loads(attempt.result.read_bytes())
    forge(body)
    attempt.result.write_text(json.dumps(body))
    assert refused(folder).detail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 200_000,
        b'{"schema": 1}',
        b"null",
        b"\xff\xfe",
        b'{"schema":' + b"1" * 5000 + b"}",
        b"x" * 33_000_000,
    ],
)
def test_a_torn_or_huge_record_makes_no_success(folder: JobFolder, content: bytes) -> None:
    folder.attempt(1).result.write_bytes(content)
    assert refused(folder).detail


def test_values_nested_without_end_make_no_success(folder: JobFolder) -> None:
    deep: Outputs = {"more": (LiteralValue("1"),)}
    for _ in range(100):
        deep = {"more": (NestedValue(deep),)}
    folder.attempt(1).result.write_bytes(dump(record(deep)))
    assert refused(folder).detail


def test_a_missing_record_makes_no_success(folder: JobFolder) -> None:
    folder.attempt(1).result.unlink()
    assert "not there" in refused(folder).detail


def test_a_forged_exit_is_ignored(folder: JobFolder) -> None:
    attempt = folder.attempt(1)
    for content in (b"{", b'{"schema":1,"exit_code":"0","signal":null,"host":"h"}', b"x" * 100_000):
        attempt.exit.write_bytes(content)
        assert read_attempt(folder, 1).exit is None


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_to_any_file_raises(folder: JobFolder, data: st.DataObject) -> None:
    attempt = folder.attempt(1)
    path = data.draw(st.sampled_from([attempt.status, attempt.result, folder.request]))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=30)) + whole[end:])
    try:
        left = read_attempt(folder, 1, PROCESS)
        assert left.state in ("running", "succeeded", "failed", "unreadable") and left.described()
    finally:
        path.write_bytes(whole)


def test_a_folder_is_listed_before_a_file_is_called_missing(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NFS client that remembers a negative answer forgets it when the folder is read."""
    stale = {"status.xml"}
    real_stat, real_listdir = os.stat, os.listdir

    def forgetful_stat(path: Any, **rest: Any) -> os.stat_result:
        if path in stale:
            raise FileNotFoundError(2, "No such file or directory")
        return real_stat(path, **rest)

    def listdir(path: Any) -> list[str]:
        stale.clear()
        return real_listdir(path)

    monkeypatch.setattr(beneath.os, "stat", forgetful_stat)
    monkeypatch.setattr(beneath.os, "listdir", listdir)
    assert read_attempt(folder, 1, PROCESS).state == "succeeded"


@pytest.mark.parametrize("forge", [link_to_passwd, os.mkfifo])
def test_a_swap_between_look_and_open_leads_nowhere(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch, forge: Callable[[Path], None]
) -> None:
    path = folder.attempt(1).outputs / "shape.geojson"
    real_stat = os.stat

    def swapping_stat(name: Any, **rest: Any) -> os.stat_result:
        found = real_stat(name, **rest)
        if name == path.name:
            path.unlink()
            forge(path)
        return found

    monkeypatch.setattr(beneath.os, "stat", swapping_stat)
    with pytest.raises(beneath.Untrusted, match=r"regular|symbolic"):
        beneath.open_beneath(folder.path, "attempts/1/outputs/shape.geojson")


def test_a_swapped_folder_does_not_lead_out(folder: JobFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once a folder is open it is the one that was looked at, whatever its name now stands for."""
    outputs = folder.attempt(1).outputs
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/shape.geojson").write_bytes(b"secret")
    real_open = os.open

    def swapping_open(name: Any, *rest: Any, **more: Any) -> int:
        descriptor = real_open(name, *rest, **more)
        if name == outputs.name:
            outputs.rename(tmp_path / "away")
            outputs.symlink_to(tmp_path / "secret")
        return descriptor

    monkeypatch.setattr(beneath.os, "open", swapping_open)
    descriptor = beneath.open_beneath(folder.path, "attempts/1/outputs/shape.geojson")
    with os.fdopen(descriptor, "rb") as stream:
        assert stream.read() == BODY


@pytest.fixture
def open_descriptors() -> Iterator[None]:
    """Nothing may be left open."""
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert set(Path("/proc/self/fd").iterdir()) <= before


def test_no_descriptor_is_left_open(folder: JobFolder, open_descriptors: None) -> None:
    assert read_attempt(folder, 1, PROCESS).state == "succeeded"
    (folder.attempt(1).outputs / "shape.geojson").write_bytes(b"short")
    assert read_attempt(folder, 1, PROCESS).state == "failed"
    folder.attempt(1).status.unlink()
    os.mkfifo(folder.attempt(1).status)
    assert read_attempt(folder, 1, PROCESS).state == "unreadable"


@pytest.mark.parametrize("kind", [ResultRecord, ExitRecord, RequestRecord])
def test_every_record_that_a_node_writes_can_be_judged(kind: type) -> None:
    samples = {
        ResultRecord: record(GOOD, failure=Failure("signal", "x", signal=9), signals=("TERM",)),
        ExitRecord: ExitRecord(0, None, "node"),
        RequestRecord: RequestRecord("p", GOOD, (WantedOutput("a", "b/c"),)),
    }
    assert shape.conforms(samples[kind], kind)
    assert not shape.conforms("something else", kind)


# --- what is served ---------------------------------------------------------------------------------------------------


@pytest.fixture
def job(folder: JobFolder) -> Job:
    return Job(
        id=JOB,
        process="buffer",
        process_version="1",
        protocol="wps1",
        mode="async",
        state=JobState.SUCCEEDED,
        message="done",
        percent=100,
        created=1.0,
        request=to_json(ExecuteRequest("buffer", "wps1", {"distance": (LiteralValue("5", "integer"),)})),
        attempt=1,
    )


@pytest.fixture
def served(tmp_path: Path) -> Results:
    return Results(parse_settings({"storage": {"root": str(tmp_path)}}))


def shape_of(served: Results, job: Job) -> FileValue:
    (value,) = served.outputs(job)["shape"]
    assert isinstance(value, FileValue)
    return value


def test_outputs_and_files_of_a_job(served: Results, job: Job) -> None:
    assert served.outputs(job) == GOOD
    with served.open(job, shape_of(served, job)) as stream:
        assert stream.read() == BODY
        assert stream.fileno() > 0


def test_a_job_that_did_not_succeed_has_no_outputs(served: Results, job: Job) -> None:
    for state in set(JobState) - {JobState.SUCCEEDED}:
        with pytest.raises(NotFound):
            served.outputs(replace(job, state=state))


def test_only_the_attempt_that_counts_is_served(served: Results, job: Job, folder: JobFolder) -> None:
    (folder.attempts / "2").mkdir()
    with pytest.raises(NotFound):
        served.outputs(replace(job, attempt=2))


def test_records_are_kept_in_memory_within_bounds(
    served: Results, job: Job, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    real = trusted.read_result

    def counting(folder: JobFolder, attempt: int) -> tuple[ResultRecord, int]:
        reads.append(attempt)
        return real(folder, attempt)

    monkeypatch.setattr(results, "read_result", counting)
    for _ in range(3):
        served.outputs(job)
    assert reads == [1]
    monkeypatch.setattr(results, "KEPT_RECORDS", 1)
    (folder.attempts / "1").rename(folder.attempts / "2")
    served.outputs(replace(job, attempt=2))
    with pytest.raises(NotFound):
        served.outputs(job)
    monkeypatch.setattr(results, "KEPT_BYTES", 10)
    (folder.attempts / "2").rename(folder.attempts / "3")
    for _ in range(2):
        served.outputs(replace(job, attempt=3))
    assert reads == [1, 2, 1, 3, 3]


def test_files_that_changed_after_acceptance_are_not_served(served: Results, job: Job, folder: JobFolder) -> None:
    value = shape_of(served, job)
    path = folder.attempt(1).outputs / "shape.geojson"
    path.write_bytes(BODY + b"more")
    with pytest.raises(NoApplicableCode):
        served.open(job, value)
    path.unlink()
    with pytest.raises(NotFound):
        served.open(job, value)
    for forge in FORGERIES:
        forge(path)
        with pytest.raises(NoApplicableCode) as caught:
            served.open(job, value)
        assert "/" not in caught.value.text.replace(JOB, "")
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def test_values_that_the_record_does_not_list_cannot_lead_elsewhere(served: Results, job: Job) -> None:
    for path in ("status.xml", "outputs/../../../request.json", "/etc/passwd"):
        with pytest.raises(NoApplicableCode):
            served.open(job, FileValue(path, "text/plain", size=1))


def test_a_record_that_was_forged_later_is_not_served(served: Results, job: Job, folder: JobFolder) -> None:
    folder.attempt(1).result.write_text('{"schema": 1, "outputs": {}}')
    with pytest.raises(NoApplicableCode):
        served.outputs(job)


def test_request_and_lineage_come_back(served: Results, job: Job, folder: JobFolder) -> None:
    assert served.request(job).inputs == {"distance": (LiteralValue("5", "integer"),)}
    assert served.lineage(job) is None
    folder.lineage.write_bytes(b"<wps:DataInputs/>")
    assert served.lineage(job) == b"<wps:DataInputs/>"


def test_the_end_of_a_log(served: Results, job: Job, folder: JobFolder) -> None:
    attempt = folder.attempt(1)
    assert served.log(job, "stdout", 100) == b""
    attempt.stdout.write_bytes(b"0123456789")
    assert served.log(job, "stdout", 4) == b"6789"
    assert served.log(job, "stdout", 100) == b"0123456789"
    assert served.log(job, "stderr", 100) == b""
    attempt.stderr.symlink_to("/etc/passwd")
    with pytest.raises(NoApplicableCode):
        served.log(job, "stderr", 100)
    assert served.log(replace(job, attempt=0), "stdout", 100) == b""
