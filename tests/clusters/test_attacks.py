"""Hostile clients, hostile jobs and curious neighbours, against the real server with its worker, over HTTP."""

import os
import re
import resource
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from joblauncher.formats.folder import JobFolder
from tests.clusters import site as sites
from tests.clusters.site import Site, until
from tests.protocols.conftest import execute_xml, literal_xml
from wps_hpc.clusters.spooler.jobs import _left_exit
from wps_hpc.clusters.spooler.spool import JobRecord
from wps_hpc.jobs.purge import _deleted

PROCESS = """
import os
from pathlib import Path
from typing import Annotated
from wps_hpc import ComplexOutput, Job, formats, outputs, process

@process(version="1.0.0")
def attack(code: str, job: Job = None) -> Annotated[ComplexOutput, outputs.complex(formats.BINARY)]:
    scope = {"os": os, "job": job}
    exec(code, scope)
    return ComplexOutput(Path("o"), "application/octet-stream")
"""
STORED = '<wps:ResponseForm><wps:ResponseDocument storeExecuteResponse="true" status="true"{}/></wps:ResponseForm>'
RAW = (
    "<wps:ResponseForm><wps:RawDataOutput{}><ows:Identifier>result</ows:Identifier>"
    "</wps:RawDataOutput></wps:ResponseForm>"
)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site that offers ``attack``, with worker and web side."""
    folder = tmp_path / "processes"
    folder.mkdir()
    (folder / "attack.py").write_text(PROCESS)
    (tmp_path / "data").mkdir(mode=0o755)
    monkeypatch.setattr(sites, "PROCESSES", folder)
    started = Site(tmp_path, f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite'}")
    before = os.umask(0)
    try:
        started.start_worker()
        started.start_web()
        yield started
    finally:
        os.umask(before)
        started.close()


def post(site: Site, code: str, form: str) -> httpx.Response:
    document = execute_xml("attack", literal_xml("code", code)).replace("</wps:Execute>", form + "</wps:Execute>")
    return httpx.post(f"{site.settings.server.base_url}/wps", content=document, timeout=30)


def ended(site: Site, code: str, *, lineage: bool = False) -> str:
    """The status document of a stored run of ``code``, once it is final."""
    answer = post(site, code, STORED.format(' lineage="true"' if lineage else ""))
    found = re.search('statusLocation="([^"]+)"', answer.text)
    assert found, answer.text
    return str(until(lambda: _final(found[1]), "the job ends"))


def _final(address: str) -> str | None:
    text = httpx.get(address, timeout=10).text
    return text if re.search("<wps:Process(Succeeded|Failed)", text) else None


@pytest.mark.parametrize("planted", ["os.mkfifo(p)", "os.symlink('/dev/zero', p)", "open(p, 'w').truncate(10**12)"])
def test_a_job_that_plants_something_in_place_of_its_lineage_hangs_nobody(running: Site, planted: str) -> None:
    code = f"p = '../../../lineage.xml'; os.unlink(p); {planted}; open('o', 'w').write('x')"
    document = ended(running, code, lineage=True)
    assert "ProcessSucceeded" in document
    assert "DataInputs" not in document


@pytest.mark.parametrize(
    "code",
    ["os.mkfifo('o')", "os.mkdir('o')", "os.symlink('/dev/zero', 'o')", "os.kill(os.getppid(), 9)", "os.killpg(0, 9)"],
)
def test_what_is_no_output_is_a_failure_with_its_reason(running: Site, code: str) -> None:
    document = ended(running, code)
    assert "ProcessFailed" in document
    assert "ows:ExceptionText" in document
    assert "Traceback" not in document


def test_a_large_output_in_base64_costs_no_memory(running: Site) -> None:
    server = psutil.Process(running.servers[-1].pid)
    post(running, "open('o', 'w').write('x')", RAW.format(' encoding="base64"'))
    before = _memory(server)
    size = 0
    largest = 0
    document = execute_xml("attack", literal_xml("code", "open('o', 'w').truncate(300_000_000)"))
    document = document.replace("</wps:Execute>", RAW.format(' encoding="base64"') + "</wps:Execute>")
    address = f"{running.settings.server.base_url}/wps"
    with httpx.stream("POST", address, content=document, timeout=60) as answer:
        assert answer.headers["content-transfer-encoding"] == "base64"
        for number, piece in enumerate(answer.iter_raw(1_000_000)):
            size += len(piece)
            largest = max(largest, _memory(server)) if number % 40 == 0 else largest
    assert size == 400_000_000
    assert largest - before < 100_000_000


def _memory(server: psutil.Process) -> int:
    return sum(process.memory_info().rss for process in server.children(recursive=True))


def test_chunks_that_are_none_are_the_clients_fault(running: Site) -> None:
    address = urlsplit(running.settings.server.base_url)
    for chunk in (b"zz", b"-5", b"5;\x00", b"5\r\nabc\r\n0"):
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            host = f"Host: {address.netloc}\r\n".encode()
            head = b"POST /wps HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + chunk + b"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'exceptionCode="NoApplicableCode"' in answer
        assert answer.count(b"HTTP/1.1 ") == 1
    assert "incident" not in (running.folder / "serve.log").read_text()


def test_a_lineage_that_would_cost_gigabytes_is_refused(running: Site) -> None:
    answer = post(running, "x" * 9_000_000, STORED.format(' lineage="true"'))
    assert answer.status_code == 413
    assert 'exceptionCode="FileSizeExceeded" locator="lineage"' in answer.text


def test_nothing_of_a_run_is_open_to_other_accounts(running: Site) -> None:
    assert "ProcessSucceeded" in ended(running, "print('x'); open('o', 'w').write('x')", lineage=True)
    root = running.settings.storage.root
    assert stat.S_IMODE(root.stat().st_mode) == 0o755
    assert [str(path) for path in _open_to_others(root)] == []


def _open_to_others(folder: Path) -> Iterator[Path]:
    """Files that others can read or write, folders that they can write to; only what they can reach."""
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            continue
        if mode & (0o022 if stat.S_ISDIR(mode) else 0o066):
            yield path
        if stat.S_ISDIR(mode) and mode & 0o011:
            yield from _open_to_others(path)


def test_a_process_cannot_forge_lines_of_the_log(running: Site) -> None:
    forged = "2026-01-01T00:00:00.000Z ERROR wps_hpc.serve[1]: forged"
    ended(running, f"from wps_hpc import ProcessError; raise ProcessError('x\\n{forged}\\x1b[31m')")
    lines = (running.folder / "worker.log").read_text().splitlines()
    assert any(forged in line for line in lines)
    assert not any(line.startswith(forged) for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_a_planted_exit_file_does_not_hang_the_spooler(tmp_path: Path) -> None:
    attempt = JobFolder(tmp_path).attempt(1)
    attempt.path.mkdir(parents=True)
    record = JobRecord.__new__(JobRecord)
    object.__setattr__(record, "folder", str(tmp_path))
    object.__setattr__(record, "submission", 1)
    os.mkfifo(attempt.exit)
    begun = time.monotonic()
    assert _left_exit(record) is None
    attempt.exit.unlink()
    attempt.exit.symlink_to("/dev/zero")
    assert _left_exit(record) is None
    assert time.monotonic() - begun < 5


def test_a_tree_too_deep_for_recursion_and_open_files_is_purged(tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    grown.mkdir()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    folder = os.open(grown, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=folder)
        os.symlink(kept, "link", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.fchmod(folder, 0)
    os.close(folder)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        assert _deleted(grown)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not grown.exists()
    assert (kept / "file").exists()
