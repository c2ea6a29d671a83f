"""A client that validates every document it gets, and a site in memory behind the application."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from werkzeug.test import Client, TestResponse

from tests.protocols.site import Site
from tests.schemas import validate
from wps_hpc.app import create_app
from wps_hpc.config import Settings

WPS = "{http://www.opengis.net/wps/1.0.0}"
OWS = "{http://www.opengis.net/ows/1.1}"
NS = {
    "wps": "http://www.opengis.net/wps/1.0.0",
    "ows": "http://www.opengis.net/ows/1.1",
    "xlink": "http://www.w3.org/1999/xlink",
}

WPS2 = "{http://www.opengis.net/wps/2.0}"
OWS2 = "{http://www.opengis.net/ows/2.0}"
NS2 = {
    "wps": "http://www.opengis.net/wps/2.0",
    "ows": "http://www.opengis.net/ows/2.0",
    "xlink": "http://www.w3.org/1999/xlink",
}

SCHEMAS = {
    f"{WPS}Capabilities": "wps/1.0.0/wpsGetCapabilities_response.xsd",
    f"{WPS}ProcessDescriptions": "wps/1.0.0/wpsDescribeProcess_response.xsd",
    f"{WPS}ExecuteResponse": "wps/1.0.0/wpsExecute_response.xsd",
    f"{OWS}ExceptionReport": "ows/1.1.0/owsExceptionReport.xsd",
    f"{OWS2}ExceptionReport": "ows/2.0/owsExceptionReport.xsd",
    f"{OWS2}BoundingBox": "ows/2.0/owsCommon.xsd",
    **dict.fromkeys(
        (f"{WPS2}{name}" for name in ("Capabilities", "ProcessOfferings", "StatusInfo", "Result", "LiteralValue")),
        "wps/2.0/wps.xsd",
    ),
}


@dataclass
class Received:
    """A response; its document, if it is one of the standard's, has been validated."""

    response: TestResponse
    document: etree._Element | None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status_code

    @property
    def body(self) -> bytes:
        """The body as it came."""
        return self.response.data

    @property
    def root(self) -> etree._Element:
        """The document's root."""
        assert self.document is not None, self.body
        return self.document

    def find(self, path: str) -> etree._Element:
        """The one element at a path with the usual prefixes."""
        found = self.all(path)
        assert len(found) == 1, f"{len(found)} × {path} in {etree.tostring(self.root).decode()}"
        return found[0]

    def all(self, path: str) -> list[etree._Element]:
        """All elements at a path."""
        second = self.root.tag.startswith((WPS2, OWS2))
        return self.root.findall(path, NS2 if second else NS)

    def text(self, path: str) -> str:
        """The text of the one element at a path."""
        return self.find(path).text or ""

    @property
    def exception(self) -> tuple[int, str, str | None]:
        """HTTP status, exceptionCode and locator of an exception report of OWS Common 1.1."""
        return self._exception(OWS)

    @property
    def exception2(self) -> tuple[int, str, str | None]:
        """The same of OWS Common 2.0."""
        return self._exception(OWS2)

    def _exception(self, ows: str) -> tuple[int, str, str | None]:
        assert self.root.tag == f"{ows}ExceptionReport", self.body
        exception = self.find("ows:Exception")
        assert exception.findtext(f"{ows}ExceptionText"), "an exception without words"
        return self.status, exception.get("exceptionCode", ""), exception.get("locator")

    @property
    def outcome(self) -> str:
        """The local name below wps:Status."""
        return str(self.find("wps:Status/*").tag).rpartition("}")[2]


class CheckedClient:
    """Sends requests to the application and validates what comes back against the official schemas."""

    def __init__(self, application: Any) -> None:
        self._client = Client(application)

    def open(self, *args: Any, valid: bool = True, **kwargs: Any) -> Received:
        """Any request."""
        return check(self._client.open(*args, buffered=True, **kwargs), valid)

    def kvp(self, query: str | None = None, *, valid: bool = True, **pairs: str) -> Received:
        """GET /wps with a query string, or with pairs that are encoded as a browser does."""
        return self.open("/wps", query_string=pairs if query is None else query, valid=valid)

    def execute(self, **pairs: str) -> Received:
        """Execute by KVP."""
        return self.kvp(service="WPS", version="1.0.0", request="Execute", **pairs)

    def post(self, document: str | bytes, content_type: str = "text/xml", **kwargs: Any) -> Received:
        """POST /wps."""
        return self.open("/wps", method="POST", data=document, content_type=content_type, **kwargs)


def check(response: TestResponse, valid: bool = True) -> Received:
    """Validate the document of a response; other content passes. ``valid=False`` is for the one invalid document."""
    head = response.headers
    assert head.get("X-Content-Type-Options") == "nosniff"
    if response.status_code >= 400:
        assert response.data == b"" or b"ExceptionReport" in response.data, response.data
    if response.mimetype not in ("text/xml", "application/xml") or not response.data:
        return Received(response, None)
    document = etree.fromstring(response.data)
    schema = SCHEMAS.get(str(document.tag))
    if schema and valid:
        validate(document, schema)
    return Received(response, document)


def execute_xml(process: str, inputs: str = "", form: str = "", **attributes: str) -> str:
    """An Execute document around inputs and response form."""
    extra = "".join(f' {name}="{value}"' for name, value in attributes.items())
    data = f"<wps:DataInputs>{inputs}</wps:DataInputs>" if inputs else ""
    response_form = f"<wps:ResponseForm>{form}</wps:ResponseForm>" if form else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<wps:Execute xmlns:wps="http://www.opengis.net/wps/1.0.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" service="WPS" version="1.0.0"{extra}>'
        f"<ows:Identifier>{process}</ows:Identifier>{data}{response_form}</wps:Execute>"
    )


def literal_xml(identifier: str, value: str, attributes: str = "") -> str:
    """A literal Input."""
    return input_xml(identifier, f"<wps:Data><wps:LiteralData{attributes}>{value}</wps:LiteralData></wps:Data>")


def complex_xml(content: str, attributes: str = "") -> str:
    """A complex Input called complex."""
    return input_xml("complex", f"<wps:Data><wps:ComplexData {attributes}>{content}</wps:ComplexData></wps:Data>")


def input_xml(identifier: str, inner: str) -> str:
    """An Input around its data or reference."""
    return f"<wps:Input><ows:Identifier>{identifier}</ows:Identifier>{inner}</wps:Input>"


def document_xml(*outputs: str, attributes: str = "") -> str:
    """A ResponseDocument; each output is an identifier, or with attributes after a space."""
    parts = (output.partition(" ") for output in outputs)
    elements = "".join(
        f"<wps:Output {rest}><ows:Identifier>{name}</ows:Identifier></wps:Output>" for name, _, rest in parts
    )
    return f"<wps:ResponseDocument {attributes}>{elements}</wps:ResponseDocument>"


def raw_xml(identifier: str, attributes: str = "") -> str:
    """A RawDataOutput."""
    return f"<wps:RawDataOutput {attributes}><ows:Identifier>{identifier}</ows:Identifier></wps:RawDataOutput>"


def settings_with(**sections: Mapping[str, Any]) -> Settings:
    """Settings with some options changed: ``limits={"request_bytes": 10}``. No call waits unless a test says so."""
    return Settings.model_validate(
        {
            "server": {
                "public_url": "https://wps.example.org/site",
                "languages": ("en-US", "fr-CA"),
                **sections.pop("server", {}),
            },
            "limits": {"grace_seconds": 0, **sections.pop("limits", {})},
            **sections,
        }
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """The site in memory."""
    return Site(tmp_path)


@pytest.fixture
def client(site: Site) -> CheckedClient:
    """A client of an application with default settings."""
    return CheckedClient(create_app(settings_with(), site.backend))
