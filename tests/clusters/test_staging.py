"""Staging whole jobs from a real web site: types, names, limits, turns, crashes, cancellation, secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from joblauncher.failpoints import Failpoint
from joblauncher.formats.folder import JobFolder
from joblauncher.formats.values import FileValue, LiteralValue
from tests.services.website import Reply, Website, page, website
from wps_hpc.config import Settings, parse_settings
from wps_hpc.jobs.request import ExecuteRequest, NestedGiven, Reference
from wps_hpc.jobs.requestjson import from_json, save_secrets, to_json
from wps_hpc.jobs.staging import FairPool, Stager, StagingFailed
from wps_hpc.processes.description import (
    ComplexData,
    Format,
    Input,
    NestedInputs,
    ProcessDescription,
)

GEOJSON = Format("application/geo+json", extension=".geojson")
XML = Format("application/xml", schema="gml.xsd", extension=".xml")
PROCESS = ProcessDescription(
    "buffer",
    inputs=(
        Input("layer", data=ComplexData((GEOJSON, XML)), max_occurs=None),
        Input("small", data=ComplexData((GEOJSON,), maximum_megabytes=0.001), min_occurs=0),
        Input("group", data=NestedInputs((Input("part", data=ComplexData((XML,))),)), min_occurs=0),
    ),
)
BODY = b'{"type": "FeatureCollection"}'


@pytest.fixture
def site() -> Iterator[Website]:
    with website() as running:
        running.pages["/a"] = page(BODY, "Content-Type: application/xml")
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    (tmp_path / "job").mkdir()
    return JobFolder(tmp_path / "job")


def settings(**inputs: object) -> Settings:
    given = {"private_networks": ["127.0.0.0/8"], "timeout_seconds": 5.0, "parallel": 3, **inputs}
    return parse_settings({"inputs": given, "limits": {"input_bytes": 1_000_000}})


@pytest.fixture
def stager() -> Iterator[Stager]:
    made = Stager(settings(), {"buffer": PROCESS}.get)
    yield made
    made.close()


def asking(**inputs: object) -> ExecuteRequest:
    """A request; a bare value stands for a single occurrence."""
    given = {name: value if isinstance(value, tuple) else (value,) for name, value in inputs.items()}
    return ExecuteRequest("buffer", "wps1", given)  # type: ignore[arg-type]


def failed(stage: Callable[[], object]) -> StagingFailed:
    with pytest.raises(StagingFailed) as caught:
        stage()
    return caught.value


def test_references_become_files_and_all_else_stays(site: Website, folder: JobFolder, stager: Stager) -> None:
    inline = FileValue("inputs/layer-2.xml", "application/xml", size=3)
    number = LiteralValue("5", "integer")
    request = asking(
        layer=(Reference(site.url("/a")), inline, Reference(site.url("/a"), "application/xml", schema="s")),
        distance=number,
    )
    staged = stager.stage("job", folder, request)
    first, second, third = staged.inputs["layer"]
    size, href = len(BODY), site.url("/a")
    assert first == FileValue("inputs/layer-1.xml", "application/xml", schema="gml.xsd", size=size, href=href)
    assert second is inline and staged.inputs["distance"] == (number,)
    assert third == FileValue("inputs/layer-3.xml", "application/xml", schema="s", size=size, href=href)
    assert [path.name for path in sorted(folder.inputs.iterdir())] == ["layer-1.xml", "layer-3.xml"]
    assert (folder.path / "inputs/layer-3.xml").read_bytes() == BODY
    assert replace(staged, inputs={}) == replace(request, inputs={})


def test_a_request_without_references_is_left_alone(folder: JobFolder, stager: Stager) -> None:
    request = asking(distance=LiteralValue("5"))
    assert stager.stage("job", folder, request) is request
    assert not folder.staging.exists()


@pytest.mark.parametrize(
    ("given", "replied", "expected"),
    [
        ("application/geo+json", "text/html", "application/geo+json"),
        (None, "application/xml", "application/xml"),
        (None, "text/xml", "application/xml"),
        (None, "text/plain", "application/geo+json"),
        (None, None, "application/geo+json"),
    ],
)
def test_the_type_is_the_clients_then_the_replys_then_the_default(
    site: Website, folder: JobFolder, stager: Stager, given: str | None, replied: str | None, expected: str
) -> None:
    site.pages["/a"] = page(BODY, *([f"Content-Type: {replied}"] if replied else []))
    (found,) = stager.stage("job", folder, asking(layer=Reference(site.url("/a"), given))).inputs["layer"]
    assert isinstance(found, FileValue) and found.mime_type == expected
    assert found.path == ("inputs/layer-1.xml" if expected == XML.mime_type else "inputs/layer-1.geojson")


def test_a_process_that_is_not_on_offer_any_more_takes_what_comes(site: Website, folder: JobFolder) -> None:
    stager = Stager(settings())
    try:
        (found,) = stager.stage("job", folder, asking(layer=Reference(site.url("/a")))).inputs["layer"]
    finally:
        stager.close()
    assert found == FileValue("inputs/layer-1.xml", "application/xml", size=len(BODY), href=site.url("/a"))


def test_nested_inputs_are_staged_in_their_place(site: Website, folder: JobFolder, stager: Stager) -> None:
    groups = tuple(NestedGiven({"part": (Reference(site.url("/a")),)}) for _ in range(2))
    staged = stager.stage("job", folder, asking(group=groups, layer=Reference(site.url("/a"))))
    names = []
    for group in staged.inputs["group"]:
        assert isinstance(group, NestedGiven)
        (part,) = group.values["part"]
        assert isinstance(part, FileValue) and (folder.path / part.path).read_bytes() == BODY
        names.append(part.path)
    assert len({*names, "inputs/layer-1.xml"}) == 3 == len(list(folder.inputs.iterdir()))


def test_the_processs_own_limit_and_the_sites_hold(site: Website, folder: JobFolder, stager: Stager) -> None:
    site.pages["/big"] = page(b"x" * 2000)
    site.pages["/huge"] = page(b"x" * 1_000_001)
    too_big = failed(lambda: stager.stage("job", folder, asking(small=Reference(site.url("/big")))))
    assert (too_big.failure.code, too_big.failure.locator) == ("FileSizeExceeded", "small")
    assert "1000 bytes" in too_big.failure.text
    assert (
        failed(lambda: stager.stage("job", folder, asking(layer=Reference(site.url("/huge"))))).failure.locator
        == "layer"
    )
    assert stager.stage("job", folder, asking(layer=Reference(site.url("/big")))).inputs["layer"]


def test_files_of_the_shared_filesystem_stay_where_they_are(tmp_path: Path, folder: JobFolder) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/big.nc").write_bytes(bytes(2_000_000))
    stager = Stager(settings(schemes=["file"], folders=[str(tmp_path / "data")]), {"buffer": PROCESS}.get)
    href = f"file://{tmp_path}/data/big.nc"
    try:
        (found,) = stager.stage("job", folder, asking(layer=Reference(href))).inputs["layer"]
        refused = failed(lambda: stager.stage("job", folder, asking(small=Reference(href))))
        outside = failed(lambda: stager.stage("job", folder, asking(layer=Reference("file:///etc/passwd"))))
    finally:
        stager.close()
    # Larger than what the server would copy, which does not matter to a file that is not copied.
    assert found == FileValue(f"{tmp_path}/data/big.nc", "application/geo+json", None, None, 2_000_000, True, href)
    assert list(folder.inputs.iterdir()) == []
    assert refused.failure.code == "FileSizeExceeded" and outside.failure.code == "InvalidParameterValue"


def test_a_failure_says_which_input_and_what(site: Website, folder: JobFolder, stager: Stager) -> None:
    found = failed(lambda: stager.stage("job", folder, asking(layer=Reference(site.url("/none"))))).failure
    assert (found.cause, found.code, found.locator) == ("input not available", "NoApplicableCode", "layer")
    assert "404" in found.text and "none here" not in found.text


def test_the_first_failure_ends_what_else_the_job_fetches(site: Website, folder: JobFolder, stager: Stager) -> None:
    hanging = threading.Event()

    def hang(reply: Reply) -> None:
        reply.send(page(b"", length=10))
        hanging.set()
        reply.wait_for_hang_up()

    def fail(reply: Reply) -> None:
        assert hanging.wait(10)
        reply.send(page(b"", status="500 Oops"))

    site.pages.update({"/hang": hang, "/fail": fail})
    many = tuple(Reference(site.url("/a?late")) for _ in range(20))
    request = asking(layer=(Reference(site.url("/hang")), Reference(site.url("/fail")), *many))
    assert "500" in failed(lambda: stager.stage("job", folder, request)).failure.text
    assert site.hung_up.wait(10)


def test_an_unwritable_job_folder_is_the_servers_fault(site: Website, folder: JobFolder, stager: Stager) -> None:
    folder.inputs.write_text("not a folder")
    found = failed(lambda: stager.stage("job", folder, asking(layer=Reference(site.url("/a"))))).failure
    assert (found.cause, found.code) == ("disk full", "NotEnoughStorage")


def test_cancelling_ends_a_stage_and_keeps_the_secrets(site: Website, folder: JobFolder, stager: Stager) -> None:
    cancelled = threading.Event()

    def hang(reply: Reply) -> None:
        cancelled.set()
        reply.wait_for_hang_up()

    site.pages["/hang"] = hang
    request = asking(layer=Reference(site.url("/hang"), headers=(("X-Key", "abc"),)))
    save_secrets(request, folder)
    found = failed(lambda: stager.stage("job", folder, request, cancelled.is_set))
    assert found.failure.cause == "cancelled"
    assert "abc" in folder.secrets.read_text()


@pytest.mark.parametrize("path", ["/a", "/none"])
def test_secrets_are_gone_after_use_and_the_stored_request_is_still_readable(
    site: Website, folder: JobFolder, stager: Stager, path: str
) -> None:
    reference = Reference(site.url(path), headers=(("X-Key", "swordfish"),), method="POST", body=b"hush")
    request = asking(layer=(reference, Reference(site.url("/a"))))
    save_secrets(request, folder)
    stored = to_json(request)
    assert "swordfish" not in stored and folder.secrets.stat().st_mode & 0o777 == 0o600
    try:
        stager.stage("job", folder, from_json(stored, folder))
    except StagingFailed:
        assert path == "/none"
    (asked,) = (asked for asked in site.asked if asked.headers.get("x-key"))
    assert (asked.headers["x-key"], asked.body) == ("swordfish", b"hush")
    for kept in folder.path.rglob("*"):
        if kept.is_file():
            assert b"swordfish" not in kept.read_bytes() and b"aHVzaA" not in kept.read_bytes()
    assert from_json(stored, folder).inputs["layer"][0].headers == ()  # type: ignore[union-attr]


def test_secrets_that_cannot_be_blanked_are_removed(site: Website, folder: JobFolder, stager: Stager) -> None:
    folder.secrets.write_text("torn")
    assert stager.stage("job", folder, asking(layer=Reference(site.url("/a")))).inputs["layer"]
    assert not folder.secrets.exists()


def test_a_stage_that_begins_again_takes_what_is_whole(site: Website, folder: JobFolder, stager: Stager) -> None:
    request = asking(layer=(Reference(site.url("/a?1")), Reference(site.url("/a?2")), Reference(site.url("/a?3"))))
    before = stager.stage("job", folder, request)
    (folder.inputs / "layer-2.xml").write_bytes(b"torn")
    (folder.inputs / "layer-3.xml").unlink()
    (folder.staging / "layer-3.part").write_bytes(b"half")
    site.asked.clear()
    assert stager.stage("job", folder, request) == before
    assert sorted(asked.target for asked in site.asked) == ["/a?2", "/a?3"]
    assert (folder.inputs / "layer-2.xml").read_bytes() == BODY
    assert {path.suffix for path in folder.staging.iterdir()} == {".json"}


@pytest.mark.parametrize("record", ["", "[]", '{"kind": "literal", "text": "x"}', '{"kind": "file"', "null"])
def test_a_torn_record_is_fetched_again(site: Website, folder: JobFolder, stager: Stager, record: str) -> None:
    request = asking(layer=Reference(site.url("/a")))
    before = stager.stage("job", folder, request)
    (folder.staging / "layer-1.json").write_text(record)
    assert stager.stage("job", folder, request) == before
    assert len(site.asked) == 2


_STAGE = """
    import sys
    from pathlib import Path
    from joblauncher.formats.folder import JobFolder
    from wps_hpc.config import parse_settings
    from wps_hpc.jobs.request import ExecuteRequest, Reference
    from wps_hpc.jobs.staging import Stager
    settings = parse_settings({"inputs": {"private_networks": ["127.0.0.0/8"]}})
    request = ExecuteRequest("p", "wps1", {"layer": (Reference(sys.argv[2] + "?1"), Reference(sys.argv[2] + "?2"))})
    Stager(settings).stage("job", JobFolder(Path(sys.argv[1])), request)
"""


def test_a_crash_after_fetching_loses_nothing(site: Website, folder: JobFolder, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    command = [sys.executable, "-c", textwrap.dedent(_STAGE), str(folder.path), site.url("/a")]
    environment = {**os.environ, "WPS_HPC_FAILPOINT": f"{Failpoint.STAGE_FETCHED.value}:{marker}"}
    assert subprocess.run(command, env=environment, timeout=60).returncode == -signal.SIGKILL
    assert marker.exists() and len(site.asked) == 2
    assert subprocess.run(command, env=environment, timeout=60).returncode == 0
    assert len(site.asked) == 2


def test_jobs_take_turns() -> None:
    pool = FairPool(1)
    order: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def block() -> FileValue:
        begun.set()
        assert go.wait(10)
        return FileValue("", "")

    def note(name: str) -> Callable[[], FileValue]:
        def call() -> FileValue:
            order.append(name)
            return FileValue("", "")

        return call

    futures = [pool.submit("first", block)]
    assert begun.wait(10)
    futures += [pool.submit("large", note(f"large {n}")) for n in range(3)]
    futures += [pool.submit("small", note("small")), pool.submit("other", note("other"))]
    go.set()
    for future in futures:
        future.result(10)
    pool.close()
    assert order == ["large 0", "small", "other", "large 1", "large 2"]


def test_a_closed_pool_cancels_what_waits(folder: JobFolder, site: Website) -> None:
    stager = Stager(settings())
    stager.close()
    found = failed(lambda: stager.stage("job", folder, asking(layer=Reference(site.url("/a")))))
    assert found.failure.cause == "cancelled" and site.asked == []


def test_never_more_fetches_at_a_time_than_configured(site: Website, folder: JobFolder, stager: Stager) -> None:
    lock = threading.Condition()
    now: list[str] = []
    most = 0

    def answer(reply: Reply) -> None:
        nonlocal most
        with lock:
            now.append(reply.asked.target)
            most = max(most, len(now))
            lock.notify_all()
            # Hold the door until three are inside (or nobody can come any more), so that a fourth would be seen.
            lock.wait_for(lambda: most >= 3, 10)
        reply.send(page(BODY))
        with lock:
            now.remove(reply.asked.target)

    site.pages["/n"] = answer
    stager.stage("job", folder, asking(layer=tuple(Reference(site.url(f"/n?{n}")) for n in range(12))))
    assert most == 3 and len(site.asked) == 12


def test_records_say_nothing_secret(site: Website, folder: JobFolder, stager: Stager) -> None:
    stager.stage("job", folder, asking(layer=Reference(site.url("/a?token=opensesame"))))
    record = json.loads((folder.staging / "layer-1.json").read_text())
    assert set(record) == {"kind", "path", "mime_type", "schema", "size", "shared"}
