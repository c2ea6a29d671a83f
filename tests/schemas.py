"""The official OGC schemas: where they are, and validation against them without a network."""

import os
from functools import cache
from pathlib import Path

from lxml import etree

from tests.services import require

ROOT = Path(__file__).parent.parent
DOWNLOADED = ROOT / "tests" / ".schemas"
HOW = "run `make schemas`, or let OGC_SCHEMAS name a folder that holds ogc/wps/1.0.0/"
_PROOF = "wps/1.0.0/wpsExecute_response.xsd"


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
