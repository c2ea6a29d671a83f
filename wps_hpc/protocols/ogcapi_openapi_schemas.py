"""The schema objects of the OpenAPI document: what the documents of OGC API - Processes hold (18-062r2 annex)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wps_hpc.protocols.ogcapi_jobs import STATES
from wps_hpc.protocols.ogcapi_schema import CRS84

Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_ADDRESS: Schema = {"type": "string", "format": "uri"}


def ref(name: str) -> Schema:
    """A reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def _record(properties: Mapping[str, Schema], *required: str) -> Schema:
    made: Schema = {"type": "object", "properties": dict(properties)}
    return {**made, "required": list(required)} if required else made


def _strings(*names: str) -> dict[str, Schema]:
    return dict.fromkeys(names, _STRING)


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


_LINKS = array(ref("link"))
_DESCRIBED: dict[str, Schema] = {
    **_strings("title", "description"),
    "keywords": array(_STRING),
    "metadata": array(_record(_strings("title", "role", "href"))),
    "additionalParameters": {"type": "object"},
}
_SUMMARY: dict[str, Schema] = {
    **_strings("id", "version"),
    **_DESCRIBED,
    "jobControlOptions": array({"type": "string", "enum": ["sync-execute", "async-execute", "dismiss"]}),
    "outputTransmission": array(ref("transmissionMode")),
    "links": _LINKS,
}
_FORMAT: dict[str, Schema] = {
    **_strings("mediaType", "encoding"),
    "schema": {"anyOf": [{"type": "string", "format": "url"}, {"type": "object"}]},
}
_STATUS_INFO: dict[str, Schema] = {
    **_strings("processID", "jobID", "message", "state"),
    "type": {"type": "string", "enum": ["process"]},
    "status": {"type": "string", "enum": [*STATES]},
    **dict.fromkeys(("created", "started", "finished", "updated"), _TIME),
    "progress": {"type": "integer", "minimum": 0, "maximum": 100},
    "links": _LINKS,
}
_BOX: dict[str, Schema] = {
    "bbox": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 6},
    "crs": {"type": "string", "format": "uri", "default": CRS84},
}
_DESCRIPTION: dict[str, Schema] = {
    "inputs": _map(ref("inputDescription")),
    "outputs": _map(ref("outputDescription")),
}
_OCCURRENCES: dict[str, Schema] = {
    "minOccurs": _INTEGER,
    "maxOccurs": {"anyOf": [_INTEGER, {"type": "string", "enum": ["unbounded"]}]},
}
_EXECUTE: dict[str, Schema] = {
    "inputs": _map({"anyOf": [ref("value"), array(ref("value"))]}),
    "outputs": _map(ref("output")),
    "response": {"type": "string", "enum": ["raw", "document"], "default": "raw"},
}

SCHEMAS: Mapping[str, Schema] = {
    "link": _record(_strings("href", "rel", "type", "hreflang", "title"), "href"),
    "landingPage": _record({**_strings("title", "description"), "links": _LINKS}, "links"),
    "confClasses": _record({"conformsTo": array(_STRING)}, "conformsTo"),
    "transmissionMode": {"type": "string", "enum": ["value", "reference"], "default": "value"},
    "processSummary": _record(_SUMMARY, "id", "version"),
    "processList": _record({"processes": array(ref("processSummary")), "links": _LINKS}, "processes", "links"),
    "inputDescription": _record({**_DESCRIBED, **_OCCURRENCES, "schema": {"type": "object"}}, "schema"),
    "outputDescription": _record({**_DESCRIBED, "schema": {"type": "object"}}, "schema"),
    "process": _record({**_SUMMARY, **_DESCRIPTION}, "id", "version"),
    "bbox": _record(_BOX, "bbox"),
    "qualifiedValue": _record({**_FORMAT, "uom": _STRING, "value": {}}, "value"),
    "value": {
        "anyOf": [
            *({"type": name} for name in ("string", "number", "boolean")),
            array({}),
            *map(ref, ("bbox", "qualifiedValue", "link")),
        ]
    },
    "output": _record(
        {"format": _record(_FORMAT), "transmissionMode": ref("transmissionMode"), "uom": _STRING},
    ),
    "execute": _record(_EXECUTE),
    "results": _map({"anyOf": [ref("value"), array(ref("value"))]}),
    "statusInfo": _record(_STATUS_INFO, "jobID", "status", "type"),
    "jobList": _record({"jobs": array(ref("statusInfo")), "links": _LINKS}, "jobs", "links"),
    "exception": _record(
        {**_strings("type", "title", "detail", "instance", "code", "locator"), "status": _INTEGER}, "type"
    ),
}
#: Only where callbacks are on.
SUBSCRIBER: Schema = _record(dict.fromkeys(("successUri", "inProgressUri", "failedUri"), _ADDRESS), "successUri")
