"""The landing page and the conformance classes of OGC API - Processes (18-062r2 §7.2, §7.4)."""

from __future__ import annotations

from typing import Any

from wps_hpc.config import Settings
from wps_hpc.protocols.ogcapi_http import OPENAPI_TYPE
from wps_hpc.protocols.ogcapi_links import CONFORMANCE, JOBS, PROCESSES, Addresses, Link, link

_CLASSES = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf"
#: What every site has; lists and dismissal of jobs may be off, callbacks are off unless hosts are listed.
_ALWAYS = ("core", "ogc-process-description", "json", "html", "oas30")
_WITH_CONTROL = ("job-list", "dismiss")


def conformance_classes(settings: Settings) -> list[str]:
    """The classes that this server, as it is configured, conforms to."""
    names = [*_ALWAYS]
    if settings.server.job_control:
        names += _WITH_CONTROL
    if settings.callbacks.hosts:
        names.append("callback")
    return [f"{_CLASSES}/{name}" for name in names]


def landing_page(
    settings: Settings, addresses: Addresses, others: tuple[str, ...], *, lists_jobs: bool
) -> dict[str, Any]:
    """Where everything is (landingPage.yaml); ``others`` are paths beside this API."""
    metadata = settings.metadata
    return {
        "title": metadata.title,
        "description": metadata.abstract,
        "links": [*_links(addresses, lists_jobs=lists_jobs), *_beside(addresses, others)],
    }


def _links(addresses: Addresses, *, lists_jobs: bool) -> list[Link]:
    base = addresses.base
    links = [
        link(f"{base}/api", "service-desc", "The definition of this API", OPENAPI_TYPE),
        link(f"{base}/api?f=html", "service-doc", "The definition of this API as HTML", "text/html"),
        link(f"{base}/conformance", CONFORMANCE, "Conformance classes"),
        link(f"{base}/processes", PROCESSES, "Processes"),
    ]
    return [*links, link(f"{base}/jobs", JOBS, "Jobs")] if lists_jobs else links


def _beside(addresses: Addresses, others: tuple[str, ...]) -> list[Link]:
    """The service's other faces: WPS, and what is mounted beside it."""
    capabilities = f"{addresses.base}/wps?service=WPS&request=GetCapabilities&AcceptVersions="
    wps = [
        link(capabilities + accepted, "related", f"The same processes by WPS {version}", "text/xml")
        for version, accepted in (("2.0", "2.0.0"), ("1.0.0", "1.0.0"))
    ]
    return [*wps, *(link(f"{addresses.base}{path}", "related", path.strip("/"), None) for path in others)]
