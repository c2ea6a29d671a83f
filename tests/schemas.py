"""The official OGC schemas: where they are, and validation against them without a network."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator
from lxml import etree
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from tests.services import require

ROOT = Path(__file__).parent.parent
DOWNLOADED = ROOT / "tests" / ".schemas"
HOW = "run `make schemas`, or let OGC_SCHEMAS name a folder that holds ogc/wps/1.0.0/"
_PROOF = "wps/1.0.0/wpsExecute_response.xsd"
#: Where the schemas of OGC API - Processes lie, beside the folder of XML schemas or within it, and what must be there.
_OGCAPI = "ogcapi/1.0"
_OGCAPI_PROOF = "statusInfo.yaml"


@cache
def ogc_folder() -> Path | None:
    """Return the folder laid out like schemas.opengis.net (`wps/1.0.0/…`), or None if there is none.

    OGC_SCHEMAS, when set, is the only place looked at; it may name that folder or the one above.
    """
    if named := os.environ.get("OGC_SCHEMAS"):
        places = [Path(named)]
    else:
        places = [ROOT.parent / "shared" / "schemas" / "xml", DOWNLOADED]
    folders = [folder for place in places for folder in (place, place / "ogc")]
    return next((folder for folder in folders if (folder / _PROOF).is_file()), None)


def required_ogc_folder() -> Path:
    """Return the schema folder; skip or fail the test if it is missing."""
    folder = ogc_folder()
    require("The OGC schema folder", folder, HOW)
    assert folder is not None
    return folder


@cache
def compiled(schema: str) -> etree.XMLSchema:
    """Return a compiled schema, named as below schemas.opengis.net: `wps/1.0.0/wpsExecute_response.xsd`."""
    parser = etree.XMLParser(no_network=True)
    return etree.XMLSchema(etree.parse(required_ogc_folder() / schema, parser))


def validate(document: bytes | etree._Element, schema: str) -> etree._Element:
    """Assert that a document is well-formed and valid, and return its root.

    The failure lists every place, with its line.
    """
    root = etree.fromstring(document) if isinstance(document, bytes) else document
    checker = compiled(schema)
    if not checker.validate(root):
        places = "\n".join(f"line {entry.line}: {entry.message}" for entry in checker.error_log)
        raise AssertionError(f"not valid against {schema}\n{places}\n\n{etree.tostring(root).decode()}")
    return root


@cache
def ogcapi_folder() -> Path | None:
    """Return the folder of OpenAPI schema objects of OGC API - Processes 1.0, or None if there is none.

    It lies beside what OGC_SCHEMAS names, or within; when that is set, nothing else is looked at.
    """
    if named := os.environ.get("OGC_SCHEMAS"):
        places = [Path(named).parents[1], Path(named).parent, Path(named)]
    else:
        places = [ROOT.parent / "shared" / "schemas", DOWNLOADED]
    folders = [place / _OGCAPI for place in places]
    return next((folder for folder in folders if (folder / _OGCAPI_PROOF).is_file()), None)


@cache
def json_schema(name: str) -> Draft4Validator:
    """Return a validator for a schema object, by its file name: `statusInfo.yaml`.

    JSON Schema draft 4 as OpenAPI 3.0 has it: `nullable` is a type, and the published `oneOf` is read as `anyOf`, for
    its branches overlap (every string is also a binaryInputValue). Skips or fails the test if the schemas are missing.
    """
    folder = ogcapi_folder()
    require("The folder of OGC API schemas", folder, "run `make schemas`, or let OGC_SCHEMAS name a folder beside it")
    assert folder is not None
    registry: Registry[Any] = Registry(retrieve=lambda uri: _resource(folder, uri))  # type: ignore[call-arg]
    return Draft4Validator({"$ref": name}, registry=registry)


def _resource(folder: Path, name: str) -> Resource[Any]:
    content = yaml.safe_load((folder / name).read_text())
    return Resource(contents=_as_draft4(content), specification=DRAFT4)


def _as_draft4(node: Any) -> Any:
    if isinstance(node, list):
        return [_as_draft4(item) for item in node]
    if not isinstance(node, dict):
        return node
    # A schema of schemas has properties of these names, which are no keywords there.
    made = {name: _as_draft4(inner) for name, inner in node.items()}
    if isinstance(made.get("oneOf"), list):
        made["anyOf"] = [*made.get("anyOf", []), *made.pop("oneOf")]
    if made.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def validate_json(document: Any, name: str) -> Any:
    """Assert that a JSON value is valid, and return it. The failure lists every place."""
    errors = sorted(json_schema(name).iter_errors(document), key=lambda error: [str(part) for part in error.path])
    places = [f"{'/'.join(map(str, error.absolute_path)) or '(whole)'}: {error.message}" for error in errors]
    assert not errors, f"not valid against {name}\n" + "\n".join(places)
    return document
