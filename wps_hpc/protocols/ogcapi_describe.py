"""Processes as OGC API - Processes describes them (18-062r2 §7.10, §7.11: processSummary.yaml and process.yaml)."""

from __future__ import annotations

from typing import Any

from wps_hpc.processes.description import Described, Input, LiteralData, Output, ProcessDescription
from wps_hpc.protocols.ogcapi_links import EXECUTE, Addresses, Link, link
from wps_hpc.protocols.ogcapi_schema import Schema, input_schema, schema


def summary(process: ProcessDescription, language: str, addresses: Addresses, *, dismissable: bool) -> Schema:
    """What the list says of a process. ``dismissable`` says whether clients may dismiss jobs here."""
    return {
        "id": process.identifier,
        "version": process.version,
        **_words(process, language),
        "jobControlOptions": job_control_options(process, dismissable=dismissable),
        "outputTransmission": ["value", "reference"] if process.store_supported else ["value"],
        "links": _links(process, addresses),
    }


def description(process: ProcessDescription, language: str) -> Schema:
    """What the description of a process has beyond its summary."""
    return {
        "inputs": {entry.identifier: _input(entry, language) for entry in process.inputs},
        "outputs": {entry.identifier: _output(entry, language) for entry in process.outputs},
    }


def job_control_options(process: ProcessDescription, *, dismissable: bool) -> list[str]:
    """How a process can be run (18-062r2 §7.11.2.6)."""
    options = {
        "sync-execute": runs_sync(process),
        "async-execute": runs_async(process),
        "dismiss": dismissable and runs_async(process),
    }
    return [name for name, offered in options.items() if offered]


def runs_sync(process: ProcessDescription) -> bool:
    """Whether a client can wait for the process."""
    return process.sync != "refused"


def runs_async(process: ProcessDescription) -> bool:
    """Whether a client can come back for the results of the process."""
    return process.store_supported and process.status_supported


def _links(process: ProcessDescription, addresses: Addresses) -> list[Link]:
    here = addresses.process(process.identifier)
    return [
        link(here, "self", "The description as JSON"),
        link(f"{here}?f=html", "alternate", "The description as HTML", "text/html"),
        link(f"{here}/execution", EXECUTE, "Run this process (POST)"),
    ]


def _words(described: Described, language: str) -> Schema:
    """Title, description, keywords and metadata (descriptionType.yaml); what there is not is left out."""
    title, abstract = described.words(language)
    made: dict[str, Any] = {"title": title, "description": abstract, "keywords": list(described.keywords)}
    made["metadata"] = [
        {name: text for name, text in (("title", m.title), ("role", m.role), ("href", m.href)) if text}
        for m in described.metadata
    ]
    return {name: value for name, value in made.items() if value}


def _input(described: Input, language: str) -> Schema:
    return {
        **_words(described, language),
        **_units(described),
        "minOccurs": described.min_occurs,
        "maxOccurs": "unbounded" if described.max_occurs is None else described.max_occurs,
        "schema": input_schema(described),
    }


def _output(described: Output, language: str) -> Schema:
    return {**_words(described, language), **_units(described), "schema": schema(described.data)}


def _units(described: Input | Output) -> Schema:
    """The units of a literal, the default one first: the standard has no place of its own for them."""
    if not isinstance(described.data, LiteralData) or not described.data.uoms:
        return {}
    return {"additionalParameters": {"parameters": [{"name": "uom", "value": list(described.data.uoms)}]}}
