"""A WPS 1.0.0 client (OGC 05-007r7), for ``wps-hpc run`` against this or any other server.

What a server sends is not trusted: answers are capped in size, and XML with a document type is refused.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import httpx
from lxml import etree
from lxml.builder import ElementMaker

WPS = "http://www.opengis.net/wps/1.0.0"
OWS = "http://www.opengis.net/ows/1.1"
XLINK = "http://www.w3.org/1999/xlink"
NAMESPACES = {"wps": WPS, "ows": OWS, "xlink": XLINK}

#: Largest document that is read as XML, in bytes. Outputs by reference go to disk, without a limit.
DOCUMENT_BYTES = 256_000_000

_wps = ElementMaker(namespace=WPS, nsmap=NAMESPACES)
_ows = ElementMaker(namespace=OWS, nsmap=NAMESPACES)


class ClientError(Exception):
    """The server cannot be reached, or what it says is not WPS 1.0.0; the text says which."""


class ServiceFailure(Exception):
    """The server's exception report, or the failure of a process:

    the text of every exception, with its code.
    """

    def __init__(self, text: str, code: str, locator: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.locator = locator


@dataclass(frozen=True)
class ProcessSummary:
    """A process as capabilities list it."""

    identifier: str
    title: str
    version: str


@dataclass(frozen=True)
class Parameter:
    """An input or output: ``kind`` is literal, complex or bbox; ``formats`` are MIME types, the default
    first.

    For a bounding box ``formats`` are reference systems. ``max_occurs`` counts inputs alone.
    """

    identifier: str
    title: str
    kind: str
    formats: tuple[str, ...] = ()
    encoding: str | None = None
    min_occurs: int = 1
    max_occurs: int = 1


@dataclass(frozen=True)
class ProcessInterface:
    """A process as DescribeProcess tells it (table 22)."""

    identifier: str
    title: str
    inputs: Mapping[str, Parameter]
    outputs: Mapping[str, Parameter]
    store_supported: bool
    status_supported: bool


@dataclass(frozen=True)
class GivenInput:
    """One value for an input: literal or bounding-box text, the content of a file, or a document's address.

    ``mime_type`` is the format of the content or document; None: the process's default.
    """

    identifier: str
    text: str | None = None
    content: bytes | None = None
    href: str | None = None
    mime_type: str | None = None


@dataclass(frozen=True)
class OutputValue:
    """One output of a finished process:

    text (literals, bounding boxes), content, or the address of a document.
    """

    identifier: str
    text: str | None = None
    content: bytes | None = None
    href: str | None = None
    mime_type: str | None = None
    uom: str | None = None


@dataclass(frozen=True)
class ExecuteStatus:
    """What an ExecuteResponse says.

    ``state`` is the status element's name, such as ProcessStarted (table 55).
    """

    state: str
    message: str
    percent: int
    location: str | None
    outputs: tuple[OutputValue, ...] = ()
    failure: ServiceFailure | None = None

    @property
    def finished(self) -> bool:
        """The process has succeeded or failed."""
        return self.state in ("ProcessSucceeded", "ProcessFailed")


class WpsClient:
    """Requests to one WPS endpoint. ``rebase`` (from, to) replaces the start of addresses that the server
    returns, for a server that calls itself by a public address which is not the way to it from here.

    Every method raises ClientError when there is no usable answer and ServiceFailure for an exception
    report.
    """

    def __init__(self, url: str, http: httpx.Client, rebase: tuple[str, str] | None = None) -> None:
        self.url = url
        self.http = http
        self.rebase = rebase

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def processes(self) -> tuple[ProcessSummary, ...]:
        """The processes on offer (GetCapabilities, §8)."""
        root = self._get(self.url, {"service": "WPS", "request": "GetCapabilities"})
        return tuple(
            ProcessSummary(
                _text(element, "ows:Identifier"),
                _text(element, "ows:Title"),
                element.get(f"{{{WPS}}}processVersion", ""),
            )
            for element in root.iterfind("wps:ProcessOfferings/wps:Process", NAMESPACES)
        )

    def describe(self, identifier: str) -> ProcessInterface:
        """The inputs and outputs of a process (DescribeProcess, §9)."""
        query = {"service": "WPS", "version": "1.0.0", "request": "DescribeProcess", "identifier": identifier}
        element = self._get(self.url, query).find("ProcessDescription")
        if element is None:
            raise ClientError(f"{self.url} describes no process {identifier}")
        return _read_interface(element)

    def execute(self, document: bytes) -> ExecuteStatus:
        """Send an Execute document (§10), as ``execute_document`` makes it."""
        headers = {"Content-Type": "text/xml; charset=utf-8"}
        return self._status(self._document("POST", self.url, content=document, headers=headers))

    def status(self, location: str) -> ExecuteStatus:
        """The status at a statusLocation."""
        return self._status(self._get(location, {}))

    def download(self, href: str, target: Path) -> None:
        """Save the document at ``href``, whole or not at all."""
        partial = target.with_name(f".{target.name}.partial")
        try:
            with self.http.stream("GET", self._here(href)) as response, partial.open("wb") as stream:
                response.raise_for_status()
                for block in response.iter_bytes():
                    stream.write(block)
            partial.replace(target)
        except httpx.HTTPError as error:
            raise ClientError(f"cannot fetch {href}: {error or type(error).__name__}") from error
        finally:
            partial.unlink(missing_ok=True)

    def _status(self, root: etree._Element) -> ExecuteStatus:
        status = _read_status(root)
        if status.location is None:
            return status
        return ExecuteStatus(**{**vars(status), "location": self._here(urljoin(self.url, status.location))})

    def _here(self, address: str) -> str:
        if self.rebase and address.startswith(self.rebase[0]):
            return self.rebase[1] + address[len(self.rebase[0]) :]
        return address

    def _get(self, url: str, query: Mapping[str, str]) -> etree._Element:
        return self._document("GET", str(httpx.URL(url).copy_merge_params(query)))

    def _document(
        self, method: str, url: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> etree._Element:
        try:
            with self.http.stream(method, url, content=content, headers=headers) as response:
                body = b"".join(_capped(response.iter_bytes(), url))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClientError(f"no answer from {url}: {error or type(error).__name__}") from error
        root = _parse(body, f"{url} answered with status {response.status_code}")
        if etree.QName(root).localname == "ExceptionReport":
            raise read_exception_report(root)
        if response.is_error:
            raise ClientError(f"{url} answered with status {response.status_code}")
        return root


def _capped(blocks: Iterable[bytes], url: str) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if size > DOCUMENT_BYTES:
            raise ClientError(f"{url} answered with more than {DOCUMENT_BYTES} bytes")
        yield block


def _parse(content: bytes, origin: str) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise ClientError(f"{origin}: this is not XML: {error.msg}") from error
    if root.getroottree().docinfo.doctype:
        raise ClientError(f"{origin}: XML with a document type is not accepted")
    return root


def _text(element: etree._Element, path: str) -> str:
    return (element.findtext(path, "", NAMESPACES) or "").strip()


def read_exception_report(root: etree._Element) -> ServiceFailure:
    """An ``ows:ExceptionReport`` (06-121r3 §8), any version, as an exception to raise."""
    exceptions = list(root.iterfind("{*}Exception"))
    texts = [(text.text or "").strip() for entry in exceptions for text in entry.iterfind("{*}ExceptionText")]
    code = exceptions[0].get("exceptionCode", "NoApplicableCode") if exceptions else "NoApplicableCode"
    locator = exceptions[0].get("locator") if exceptions else None
    return ServiceFailure("\n".join(text for text in texts if text) or code, code, locator)


def _read_interface(element: etree._Element) -> ProcessInterface:
    return ProcessInterface(
        identifier=_text(element, "ows:Identifier"),
        title=_text(element, "ows:Title"),
        inputs={p.identifier: p for p in map(_read_parameter, element.iterfind("DataInputs/Input"))},
        outputs={p.identifier: p for p in map(_read_parameter, element.iterfind("ProcessOutputs/Output"))},
        store_supported=element.get("storeSupported") in ("true", "1"),
        status_supported=element.get("statusSupported") in ("true", "1"),
    )


#: Element name of an input's or output's data to kind, and where its formats or reference systems stand.
_KINDS: Mapping[str, tuple[str, tuple[str, str]]] = {
    "LiteralData": ("literal", ("Default/None", "Supported/None")),
    "LiteralOutput": ("literal", ("Default/None", "Supported/None")),
    "ComplexData": ("complex", ("Default/Format/MimeType", "Supported/Format/MimeType")),
    "ComplexOutput": ("complex", ("Default/Format/MimeType", "Supported/Format/MimeType")),
    "BoundingBoxData": ("bbox", ("Default/CRS", "Supported/CRS")),
    "BoundingBoxOutput": ("bbox", ("Default/CRS", "Supported/CRS")),
}


def _read_parameter(element: etree._Element) -> Parameter:
    for name, (kind, paths) in _KINDS.items():
        if (data := element.find(name)) is not None:
            found = (node.text or "" for path in paths for node in data.iterfind(path))
            return Parameter(
                identifier=_text(element, "ows:Identifier"),
                title=_text(element, "ows:Title"),
                kind=kind,
                formats=tuple(dict.fromkeys(text.strip() for text in found)),
                encoding=data.findtext("Default/Format/Encoding"),
                min_occurs=_count(element.get("minOccurs")),
                max_occurs=_count(element.get("maxOccurs")),
            )
    raise ClientError(f"the description of {_text(element, 'ows:Identifier')} is of no kind that WPS 1.0.0 has")


def _count(text: str | None, default: int = 1) -> int:
    return int(text) if text and text.isdecimal() else default


def execute_document(process: ProcessInterface, inputs: Sequence[GivenInput], *, asynchronous: bool) -> bytes:
    """An Execute document (§10.2). Asynchronous: stored, with status, complex outputs by reference.

    ``inputs`` are inputs of ``process``.
    """
    root = _wps.Execute(_ows.Identifier(process.identifier), service="WPS", version="1.0.0")
    if inputs:
        root.append(_wps.DataInputs(*(_input_element(process.inputs[given.identifier], given) for given in inputs)))
    flag = "true" if asynchronous else "false"
    document = _wps.ResponseDocument(storeExecuteResponse=flag, status=flag, lineage="false")
    document.extend(
        _wps.Output(_ows.Identifier(output.identifier), asReference=flag if output.kind == "complex" else "false")
        for output in process.outputs.values()
    )
    root.append(_wps.ResponseForm(document))
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def _input_element(parameter: Parameter, given: GivenInput) -> etree._Element:
    element = _wps.Input(_ows.Identifier(given.identifier))
    if given.href is not None:
        mime_type = {"mimeType": given.mime_type} if given.mime_type else {}
        element.append(_wps.Reference({f"{{{XLINK}}}href": given.href, **mime_type}))
    else:
        element.append(_wps.Data(_DATA_WRITERS[parameter.kind](parameter, given)))
    return element


def _literal_element(parameter: Parameter, given: GivenInput) -> etree._Element:
    return _wps.LiteralData(_as_text(given))


def _complex_element(parameter: Parameter, given: GivenInput) -> etree._Element:
    """Inline content: XML as elements, other text as text where XML can carry it, else base64."""
    content = given.content if given.content is not None else (given.text or "").encode()
    mime_type = given.mime_type or next(iter(parameter.formats), "")
    attributes = {"mimeType": mime_type} if mime_type else {}
    try:
        if mime_type.partition(";")[0].endswith("xml"):
            return _wps.ComplexData(_parse(content, f"{given.identifier} is {mime_type}"), attributes)
        return _wps.ComplexData(content.decode(), attributes)
    except ValueError:
        encoded = base64.b64encode(content).decode()
        return _wps.ComplexData(encoded, {**attributes, "encoding": "base64"})


def _bbox_element(parameter: Parameter, given: GivenInput) -> etree._Element:
    """A bounding box from ``minx,miny,maxx,maxy[,crs]``."""
    lower, upper, crs = split_bbox(_as_text(given))
    attributes = {"crs": crs or next(iter(parameter.formats), ""), "dimensions": str(len(lower))}
    return _wps.BoundingBoxData(
        _ows.LowerCorner(" ".join(lower)),
        _ows.UpperCorner(" ".join(upper)),
        {name: text for name, text in attributes.items() if text},
    )


def _as_text(given: GivenInput) -> str:
    return given.text if given.text is not None else (given.content or b"").decode()


_DATA_WRITERS = {"literal": _literal_element, "complex": _complex_element, "bbox": _bbox_element}


def split_bbox(text: str) -> tuple[list[str], list[str], str | None]:
    """Lower corner, upper corner and reference system of ``minx,miny,maxx,maxy[,crs]`` (06-121r3 §10.2.3).

    Raises ValueError for anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    crs = parts.pop() if len(parts) % 2 else None
    if len(parts) < 4:
        raise ValueError(f"{text!r} is not a bounding box: minx,miny,maxx,maxy[,crs]")
    for part in parts:
        float(part)
    half = len(parts) // 2
    return parts[:half], parts[half:], crs


def _read_status(root: etree._Element) -> ExecuteStatus:
    if etree.QName(root).localname != "ExecuteResponse":
        raise ClientError(f"the server answered with {etree.QName(root).localname} instead of an ExecuteResponse")
    status = next(iter(root.iterfind("wps:Status/*", NAMESPACES)), None)
    if status is None:
        raise ClientError("the server's ExecuteResponse has no status")
    report = status.find("{*}ExceptionReport")
    return ExecuteStatus(
        state=etree.QName(status).localname,
        message=(status.text or "").strip(),
        percent=_count(status.get("percentCompleted"), 0),
        location=root.get("statusLocation"),
        outputs=tuple(_read_output(node) for node in root.iterfind("wps:ProcessOutputs/wps:Output", NAMESPACES)),
        failure=None if report is None else read_exception_report(report),
    )


def _read_output(element: etree._Element) -> OutputValue:
    identifier = _text(element, "ows:Identifier")
    for path, reader in _OUTPUT_READERS.items():
        if (data := element.find(path, NAMESPACES)) is not None:
            return reader(identifier, data)
    raise ClientError(f"output {identifier} has no value that WPS 1.0.0 knows")


def _read_reference(identifier: str, data: etree._Element) -> OutputValue:
    href = data.get("href") or data.get(f"{{{XLINK}}}href")
    if not href:
        raise ClientError(f"the reference of output {identifier} has no address")
    return OutputValue(identifier, href=href, mime_type=data.get("mimeType"))


def _read_literal(identifier: str, data: etree._Element) -> OutputValue:
    return OutputValue(identifier, text=data.text or "", uom=data.get("uom"))


def _read_bbox(identifier: str, data: etree._Element) -> OutputValue:
    corners = [_text(data, f"ows:{name}").split() for name in ("LowerCorner", "UpperCorner")]
    return OutputValue(identifier, text=",".join([*corners[0], *corners[1], *filter(None, [data.get("crs")])]))


def _read_complex(identifier: str, data: etree._Element) -> OutputValue:
    """The content of ``wps:ComplexData``: base64, an XML tree, or text."""
    children = list(data)
    if (data.get("encoding") or "").lower() == "base64":
        try:
            content = base64.b64decode(data.text or "")
        except ValueError as error:
            raise ClientError(f"output {identifier} is not the base64 that it claims to be") from error
    elif children:
        content = etree.tostring(children[0], encoding="utf-8", xml_declaration=True, with_tail=False)
    else:
        content = (data.text or "").encode()
    return OutputValue(identifier, content=content, mime_type=data.get("mimeType"))


_OUTPUT_READERS = {
    "wps:Reference": _read_reference,
    "wps:Data/wps:LiteralData": _read_literal,
    "wps:Data/wps:BoundingBoxData": _read_bbox,
    "wps:Data/wps:ComplexData": _read_complex,
}
