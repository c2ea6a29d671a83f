"""``wps_hpc.pywps_service`` in the place of ``pywps.Service``, as existing test suites and ``wsgi.py`` files use it."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pywps.tests import assert_process_exception, assert_response_success, client_for
from werkzeug.test import Client

from joblauncher.formats.folder import JobFolder, job_path
from tests.clusters.site import until
from tests.protocols.conftest import execute_xml, literal_xml
from tests.pywps_processes import processes
from tests.pywps_processes.made import endless, greeter
from wps_hpc import pywps_service
from wps_hpc.config import ConfigError
from wps_hpc.pywps_wsgi import PywpsService

# Its test module turns logging off for the whole process that imports it, and so for every other test.
logging.disable(logging.NOTSET)

ROOT = Path(__file__).parents[2]
EXECUTE = "?service=wps&version=1.0.0&request=Execute&identifier="


@pytest.fixture(scope="module")
def service() -> Iterator[PywpsService]:
    """A service without any configuration, as test suites make it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYWPS_CFG", raising=False)
        made: PywpsService = pywps_service(processes)
        yield made
        made.close()


def test_it_has_the_processes(service: PywpsService) -> None:
    assert set(service.processes) == {process.identifier for process in processes}


def test_pywps_own_test_client(service: PywpsService) -> None:
    client = client_for(service)
    response = client.get(f"{EXECUTE}salut&datainputs=name=Ada")
    assert_response_success(response)
    (greeting,) = response.xpath("//wps:LiteralData")
    assert greeting.text == "Salut Ada"


def test_capabilities_at_the_root(service: PywpsService) -> None:
    response = client_for(service).get("?service=wps&request=GetCapabilities")
    assert {"salut", "power_2", "documents"} <= set(response.xpath_text("//ows:Identifier").split())


def test_post(service: PywpsService) -> None:
    document = execute_xml("shadowed", literal_xml("number", "21"))
    response = client_for(service).post("/wps", data=document, content_type="text/xml")
    assert_response_success(response)


def test_refusals_are_what_pywps_tests_look_for(service: PywpsService) -> None:
    response = client_for(service).get(f"{EXECUTE}salut")
    assert_process_exception(response, code="MissingParameterValue")


def test_a_stored_response_and_its_files(service: PywpsService) -> None:
    client = Client(service)
    stored = "&storeExecuteResponse=true&status=true&ResponseDocument=text@asReference=true"
    location = client_for(service).get(f"{EXECUTE}files{stored}").xml.get("statusLocation")
    assert location.startswith("http://localhost/wps/status/")

    def document() -> Any:
        return client_for(service).get(location.removeprefix("http://localhost")).xml

    until(lambda: document().xpath("//*[local-name()='ProcessSucceeded']"), "the job ends")
    (href,) = document().xpath("//*[local-name()='Reference']/@href")
    assert client.get(href.removeprefix("http://localhost")).data == b"line 0\nline 1\nline 2\n"


def test_what_is_temporary_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYWPS_CFG", raising=False)
    short: PywpsService = pywps_service([greeter("moin", "Moin")])
    root = short.settings.storage.root
    assert_response_success(client_for(short).get(f"{EXECUTE}moin&datainputs=name=Ada"))
    assert (root / "jobs").is_dir()
    short.close()
    assert not root.exists()


def test_a_dismissed_job_ends_and_what_its_handler_said_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a process of this server's own kind."""
    monkeypatch.delenv("PYWPS_CFG", raising=False)
    marker = tmp_path / "pid"
    short: PywpsService = pywps_service([endless(str(marker))])
    try:
        client = client_for(short)
        accepted = client.get(f"{EXECUTE}endless&storeExecuteResponse=true&status=true")
        location = accepted.xml.get("statusLocation")
        assert location, accepted.text
        job_id = location.rsplit("/", 1)[1].removesuffix(".xml")
        until(lambda: marker.exists() and marker.read_text(), "the handler runs")
        dismissed = client.get(f"?service=WPS&version=1.0.0&request=Dismiss&executionId={job_id}")
        assert dismissed.status_code == 200, dismissed.data
        until(lambda: not psutil.pid_exists(int(marker.read_text())), "the handler's process has ended")
        ended = client.get(location.removeprefix("http://localhost"))
        assert "dismissed" in ended.text and ended.xpath("//*[local-name()='ProcessFailed']")
        folder = JobFolder(job_path(short.settings.storage.root, job_id))
        assert folder.attempt(1).stdout.read_text() == "said by the handler\n"
    finally:
        short.close()


WSGI = """
from tests.pywps_processes import processes
from wps_hpc import pywps_service as Service

application = Service(processes, ["pywps.cfg"])
"""
SERVE = """
import sys
from werkzeug.serving import run_simple
from wsgi import application
run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
"""


def test_an_existing_wsgi_file_with_one_import_changed(tmp_path: Path) -> None:
    (tmp_path / "wsgi.py").write_text(WSGI)
    (tmp_path / "pywps.cfg").write_text(
        "[metadata:main]\nidentification_title = A centre\n[centre]\nmotto = festina lente\n"
        f"[server]\nurl = http://127.0.0.1:5000/wps\noutputpath = {tmp_path}\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/wps"
    command = [sys.executable, "-c", SERVE, str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}, stdout=log, stderr=log
        )
    try:
        until(lambda: server.poll() is not None or _answers(url), "it answers")
        assert b"A centre" in httpx.get(f"{url}?service=WPS&request=GetCapabilities").content
        answer = httpx.get(f"{url}{EXECUTE}surroundings", timeout=60)
        assert "festina lente" in answer.text, answer.text
        assert list((tmp_path / "wps-hpc" / "jobs").iterdir())
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code > 0
    except httpx.TransportError:
        return False


def test_configurations_are_looked_for_where_pywps_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are named need not be there, and that of the environment comes last, whatever is named."""
    given, last = tmp_path / "given.cfg", tmp_path / "last.cfg"
    given.write_text("[server]\nparallelprocesses = 3\nmaxprocesses = 7\n")
    last.write_text("[server]\nmaxprocesses = 8\n")
    monkeypatch.setenv("PYWPS_CFG", str(last))
    made: PywpsService = pywps_service(processes, [tmp_path / "missing.cfg", given])
    assert (made.settings.limits.parallel, made.settings.limits.queued) == (3, 8)
    assert made.settings.processes.pywps_config == (given, last)
    monkeypatch.delenv("PYWPS_CFG")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pywps.cfg").write_text("[server]\nparallelprocesses = 4\n")
    made = pywps_service(processes)
    assert made.settings.limits.parallel == 4


def test_its_processes_are_the_processes(service: PywpsService) -> None:
    """As those of a ``pywps.Service``, which tests look at."""
    assert service.processes["salut"] in processes
    assert service.processes["salut"].title == "Says Salut"


def test_a_missing_configuration_of_our_own_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        pywps_service(processes, [tmp_path / "missing.toml"])


def test_our_own_configuration(tmp_path: Path) -> None:
    config = tmp_path / "wps-hpc.toml"
    config.write_text(f'[storage]\nroot = "{tmp_path / "data"}"\n[server]\npublic_url = "https://wps.example.org"\n')
    made: PywpsService = pywps_service(processes, [config])
    assert made.settings.server.base_url == "https://wps.example.org"
    assert "salut" in made.processes
