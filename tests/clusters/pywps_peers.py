"""PyWPS and this server side by side, with the same processes and the same configuration; and what they answer."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from lxml import etree

from tests.clusters.site import PROCESSES, Site, until
from tests.protocols.conftest import NS, SCHEMAS
from tests.schemas import validate
from tests.services.pywps_releases import python_path

MODULE = "tests.pywps_processes"
CONFIG = """\
[metadata:main]
identification_title = Processes of a centre
[server]
url = {url}/wps
outputurl = {url}/outputs
outputpath = {outputs}
workdir = {work}
language = en-US,fr-CA
maxsingleinputsize = 2mb
parallelprocesses = 20
maxprocesses = 100
allowedinputpaths = {shared}
[logging]
level = {level}
database = sqlite:///{folder}/pywps.sqlite
file =
[centre]
motto = festina lente
place = on %(WPS_HPC_TEST_PLACE)s
"""


@dataclass(frozen=True)
class Peers:
    """Two servers; ``site`` is ours."""

    theirs: str
    ours: str
    site: Site
    shared: Path


@contextmanager
def peers(folder: Path, release: str, level: str = "INFO", shared: Path | None = None) -> Iterator[Peers]:
    """Both servers within the block."""
    shared = shared or folder / "shared"
    shared.mkdir(exist_ok=True)
    environment = {"PYTHONPATH": python_path(release), "WPS_HPC_TEST_PLACE": "the hill"}
    with _environment(environment):
        site = local_site(folder, environment["PYTHONPATH"], shared)
        with _pywps(folder, level, shared) as theirs:
            site.start_worker()
            try:
                yield Peers(theirs, f"{site.start_web()}/wps", site, shared)
            finally:
                site.close()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (*values, "PYWPS_CFG")}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def local_site(folder: Path, path: str, shared: Path, python: Path | None = None) -> Site:
    """A site whose local jobs have that PYTHONPATH, and run in another interpreter if one is given."""
    (folder / "ours").mkdir()
    cluster = f'environment = {{ PYTHONPATH = "{path}" }}\n' + (f'python = "{python}"\n' if python else "")
    site = Site(folder / "ours", f"sqlite:///{folder / 'ours' / 'jobs.sqlite'}", sync_seconds=100, clusters=cluster)
    offer(site, shared)
    return site


def offer(site: Site, shared: Path) -> None:
    """Have a site offer the processes, and take what PyWPS takes."""
    text = site.config.read_text()
    text = text.replace("[processes]\n", f"[processes]\nmodules = {json.dumps([MODULE])}\n")
    text = text.replace('schemes = ["file"]\n', 'schemes = ["file", "http"]\nprivate_networks = ["127.0.0.0/8"]\n')
    text = text.replace(f'folders = ["{site.folder}"]', f'folders = ["{shared}"]').replace(f'"{PROCESSES}"', "")
    site.config.write_text(text.replace("[server]\n", '[server]\nlanguages = ["en-US", "fr-CA"]\n'))


@contextmanager
def _pywps(folder: Path, level: str, shared: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    places = {name: folder / f"pywps-{name}" for name in ("outputs", "work")}
    for place in places.values():
        place.mkdir()
    url = f"http://127.0.0.1:{port}"
    config = folder / "pywps.cfg"
    config.write_text(CONFIG.format(url=url, folder=folder, shared=shared, level=level, **places))
    os.environ["PYWPS_CFG"] = str(config)
    command = [sys.executable, "-m", "tests.pywps_processes.peer", str(port), str(places["outputs"])]
    with (folder / "pywps.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            until(lambda: server.poll() is not None or _answers(url), "PyWPS answers")
            assert server.poll() is None, (folder / "pywps.log").read_text()
            yield f"{url}/wps"
        finally:
            server.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/wps", timeout=10).status_code > 0
    except httpx.TransportError:
        return False


# --- answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One request: key-value pairs, or an XML document."""

    pairs: str = ""
    document: str = ""
    #: Wait for the end of an asynchronous job, and give its stored response.
    follow: bool = False

    def at(self, remote: str, shared: Path) -> Request:
        """The request with the test's own addresses in it."""
        filled = [
            text.replace("{remote}", remote).replace("{shared}", str(shared)) for text in (self.pairs, self.document)
        ]
        return replace(self, pairs=filled[0], document=filled[1])

    def send(self, client: httpx.Client, url: str) -> httpx.Response:
        """The answer of the server at ``url``."""
        if self.document:
            answer = client.post(url, content=self.document.encode(), headers={"Content-Type": "text/xml"})
        else:
            answer = client.get(f"{url}?{self.pairs}")
        return final(client, answer) if self.follow else answer


def final(client: httpx.Client, answer: httpx.Response) -> httpx.Response:
    """The stored response of an asynchronous job, once it is final."""
    location = etree.fromstring(answer.content).get("statusLocation")
    assert location, answer.text
    last: list[httpx.Response] = []

    def ended() -> bool:
        # PyWPS rewrites its file in place: what is read may be empty, or shorter than was said.
        try:
            last[:] = [client.get(location)]
        except httpx.RemoteProtocolError:
            return False
        return b"ProcessSucceeded" in last[0].content or b"ProcessFailed" in last[0].content

    until(ended, "the job ends")
    return last[0]


@dataclass
class Answered:
    """An answer, taken apart: path -> value."""

    values: dict[str, Any] = field(default_factory=dict)

    def __setitem__(self, path: str, value: Any) -> None:
        if value not in (None, ""):
            self.values[path] = value


def parsed(answer: httpx.Response, client: httpx.Client, *, valid: bool) -> dict[str, Any]:
    """Path -> value of everything that an answer says, but for what must differ: addresses, times, the server's own
    words about a job. ``valid``: documents are validated on the way."""
    found = Answered()
    found["http"] = answer.status_code
    if not answer.headers["content-type"].startswith(("text/xml", "application/xml")):
        found["type"] = answer.headers["content-type"].partition(";")[0]
        found["content"] = answer.content
        return found.values
    try:
        root = etree.fromstring(answer.content)
    except etree.XMLSyntaxError:
        assert not valid, answer.text
        found["root"] = "not well-formed"
        return found.values
    if valid and root.tag in SCHEMAS:
        validate(root, SCHEMAS[root.tag])
    found["root"] = etree.QName(root).localname
    _PARSERS.get(found.values["root"], _read_raw)(root, found, client)
    return found.values


def _read_report(root: etree._Element, found: Answered, client: httpx.Client) -> None:
    for exception in root.iter("{*}Exception"):
        found["exception code"] = exception.get("exceptionCode")
        found["exception locator"] = exception.get("locator")
        found["exception text"] = " ".join((exception.findtext("{*}ExceptionText") or "").split())


def _read_raw(root: etree._Element, found: Answered, client: httpx.Client) -> None:
    found["content"] = etree.tostring(root, method="c14n2")


def _read_execute(root: etree._Element, found: Answered, client: httpx.Client) -> None:
    (process,) = root.iterfind("wps:Process", NS)
    _read_words(process, "process", found)
    found["process version"] = process.get(f"{{{NS['wps']}}}processVersion")
    (status,) = root.iterfind("wps:Status/*", NS)
    found["status"] = etree.QName(status).localname
    found["has statusLocation"] = bool(root.get("statusLocation"))
    found["report namespace"] = next((etree.QName(item).namespace for item in status), None)
    _read_report(status, found, client)
    for item in root.iterfind("wps:DataInputs/wps:Input", NS):
        _read_value(item, f"lineage input {item.findtext('ows:Identifier', '', NS)}", found, client)
    for item in root.iterfind("wps:OutputDefinitions/wps:Output", NS):
        name = f"lineage output {item.findtext('ows:Identifier', '', NS)}"
        found[name] = True
        for attribute, value in item.attrib.items():
            found[f"{name} {attribute}"] = value
    for item in root.iterfind("wps:ProcessOutputs/wps:Output", NS):
        name = f"output {item.findtext('ows:Identifier', '', NS)}"
        found[name] = True
        _read_words(item, name, found)
        _read_value(item, name, found, client)


def _read_words(element: etree._Element, name: str, found: Answered) -> None:
    for tag in ("Title", "Abstract"):
        found[f"{name} {tag}"] = (element.findtext(f"ows:{tag}", None, NS) or "").strip()


def _read_value(element: etree._Element, name: str, found: Answered, client: httpx.Client) -> None:
    for value in (*element.iterfind("wps:Data/*", NS), *element.iterfind("wps:Reference", NS)):
        kind = etree.QName(value).localname
        found[f"{name} kind"] = kind
        for attribute, text in value.attrib.items():
            local = etree.QName(attribute).localname
            if local != "href":
                found[f"{name} {local}"] = text
        found[f"{name} content"] = _READERS[kind](value, client)


def _literal(value: etree._Element, client: httpx.Client) -> Any:
    return value.text


def _box(value: etree._Element, client: httpx.Client) -> Any:
    return [[float(number) for number in (corner.text or "").split()] for corner in value]


def _complex(value: etree._Element, client: httpx.Client) -> Any:
    if len(value):
        return etree.tostring(value[0], method="c14n2", strip_text=True)
    text = value.text or ""
    if value.get("encoding") == "base64":
        return base64.b64decode(text)
    return _plain(text, value.get("mimeType") or "")


def _plain(text: str, mime_type: str) -> Any:
    if "json" not in mime_type or not text.strip():
        return text.encode()
    try:
        return json.loads(text)
    except ValueError:
        return f"not JSON: {text}"


def _reference(value: etree._Element, client: httpx.Client) -> Any:
    """What lies there; addresses outside of the test are only compared."""
    href = value.get("href") or value.get(f"{{{NS['xlink']}}}href") or ""
    if urlsplit(href).hostname != "127.0.0.1":
        return href
    answer = client.get(href)
    answer.raise_for_status()
    if "metalink" in (value.get("mimeType") or ""):
        return _metalink(etree.fromstring(answer.content), client)
    return answer.content


def _metalink(root: etree._Element, client: httpx.Client) -> dict[str, bytes]:
    """Name -> content of every file that the document leads to."""
    files = {}
    for file in root.iter("{*}file"):
        (address,) = [url.text for url in file.iter("{*}url", "{*}metaurl")]
        answer = client.get(address or "")
        answer.raise_for_status()
        files[file.get("name") or ""] = answer.content
    return files


_READERS = {"LiteralData": _literal, "BoundingBoxData": _box, "ComplexData": _complex, "Reference": _reference}


def _read_descriptions(root: etree._Element, found: Answered, client: httpx.Client) -> None:
    for process in root.iterfind("ProcessDescription"):
        _flatten(process, process.findtext("ows:Identifier", "", NS), found)


def _flatten(element: etree._Element, path: str, found: Answered) -> None:
    """Every attribute and text beneath an element, by a path of names, identifiers and counts."""
    for attribute, text in element.attrib.items():
        # The schema fixes xlink:type: who leaves it out says the same.
        if attribute != f"{{{NS['xlink']}}}type":
            found[f"{path} @{etree.QName(attribute).localname}"] = text
    if (element.text or "").strip():
        found[path] = (element.text or "").strip()
    elif etree.QName(element).localname == "AnyValue":
        found[path] = True
    counts: dict[str, int] = {}
    for child in element.iterchildren("*"):
        name = child.findtext("ows:Identifier", None, NS) or ""
        local = etree.QName(child).localname
        counts[local] = counts.get(local, 0) + 1
        _flatten(child, f"{path}/{local} {name or (counts[local] if counts[local] > 1 else '')}".rstrip(), found)


_PARSERS = {
    "ExecuteResponse": _read_execute,
    "ExceptionReport": _read_report,
    "ProcessDescriptions": _read_descriptions,
}
