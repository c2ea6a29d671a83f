"""Download the OGC schemas that the tests validate against: `make schemas`.

The files go to `tests/.schemas` in the layout of `tests/schemas.sha256`: `ogc/…` comes from
schemas.opengis.net, `w3/…` from www.w3.org, `ogcapi/1.0/…` from where the former keeps OGC API - Processes.
References from one to the other by URL become relative paths, so that validation needs no network. What is
pinned is the SHA-256 of the result's canonical XML (C14N without comments), or of the same value as JSON with
sorted keys: line ends and the spelling of tags do not matter, every declaration does.

OGC_SCHEMAS_URL and W3_SCHEMAS_URL name mirrors. `python -m tests.download_schemas pin FOLDER` prints the pins
of a folder that is known to be good.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path, PurePosixPath

import httpx
import yaml
from lxml import etree

from tests.schemas import DOWNLOADED, ROOT

PINS = ROOT / "tests" / "schemas.sha256"
SITES = {
    "ogc": os.environ.get("OGC_SCHEMAS_URL", "https://schemas.opengis.net"),
    "w3": os.environ.get("W3_SCHEMAS_URL", "https://www.w3.org"),
}
#: Where a site keeps a folder that is called otherwise here.
FOLDERS = {"ogcapi/1.0/": "ogc/ogcapi/processes/part1/1.0/openapi/schemas/"}
# The schemas to pin, with all that they refer to.
STARTS = (
    "ogc/wps/1.0.0/wpsAll.xsd",
    "ogc/wps/2.0/wps.xsd",
    "ogc/ows/1.1.0/owsAll.xsd",
    "ogc/ows/2.0/owsAll.xsd",
    "ogc/gml/2.1.2/feature.xsd",
    "ogc/gml/3.1.1/base/gml.xsd",
    "ogc/gml/3.2.1/gml.xsd",
)
_LOCATION = re.compile(rb"""(schemaLocation\s*=\s*["'])https?://(schemas\.opengis\.net|www\.w3\.org)/([^"'\s]+)""")
_FOLDERS = {b"schemas.opengis.net": "ogc", b"www.w3.org": "w3"}


def relative_locations(content: bytes, name: str) -> bytes:
    """Return a schema whose references to the two sites are paths relative to its own `name`."""

    def relative(match: re.Match[bytes]) -> bytes:
        target = PurePosixPath(_FOLDERS[match[2]], match[3].decode())
        return match[1] + os.path.relpath(target, PurePosixPath(name).parent).encode()

    return _LOCATION.sub(relative, content)


def fingerprint(content: bytes) -> str:
    """Return the SHA-256 of the document's canonical XML, or of a YAML value, as hexadecimal digits."""
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return hashlib.sha256(json.dumps(yaml.safe_load(content), sort_keys=True).encode()).hexdigest()
    parser = etree.XMLParser(no_network=True, load_dtd=False, resolve_entities=False)
    canonical = etree.tostring(etree.fromstring(content, parser), method="c14n", with_comments=False)
    return hashlib.sha256(canonical).hexdigest()


def read_pins() -> dict[str, str]:
    """Return name -> fingerprint from the list beside this file."""
    lines = (line.split() for line in PINS.read_text().splitlines() if not line.startswith("#"))
    return {name: digest for digest, name in lines}


def download(client: httpx.Client, name: str, digest: str) -> bytes:
    """Return one schema, its locations relative; exit with a sentence if it is not the pinned one."""
    place = next((name.replace(here, there, 1) for here, there in FOLDERS.items() if name.startswith(here)), name)
    site, _, path = place.partition("/")
    try:
        answer = client.get(f"{SITES[site]}/{path}")
    except httpx.TransportError as failure:
        sys.exit(f"{SITES[site]} cannot be reached ({failure}); nothing was changed")
    if answer.status_code != 200:
        sys.exit(f"{answer.url} answered {answer.status_code}; nothing was changed")
    content = answer.content if name.endswith(".yaml") else relative_locations(answer.content, name)
    if fingerprint(content) != digest:
        sys.exit(f"{answer.url} is not the schema that {PINS.name} pins; nothing was changed")
    return content


def download_all(destination: Path) -> None:
    """Download every pinned schema; the destination appears, or is replaced, only when all are right."""
    pins = read_pins()
    headers = {"User-Agent": "wps-hpc-tests"}
    with (
        tempfile.TemporaryDirectory(dir=destination.parent) as parent,
        httpx.Client(headers=headers, follow_redirects=True, timeout=60) as client,
    ):
        fresh = Path(parent, "schemas")
        for name, digest in pins.items():
            file = fresh / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(download(client, name, digest))
        shutil.rmtree(destination, ignore_errors=True)
        fresh.rename(destination)
    print(f"{len(pins)} schemas in {destination}")


def closure(folder: Path) -> list[str]:
    """Return the names of all schemas that `STARTS` lead to in a folder, sorted."""
    todo, seen = list(STARTS), set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for child in etree.fromstring((folder / name).read_bytes()).iterchildren("{*}import", "{*}include"):
            location = child.get("schemaLocation")
            if location and "://" not in location:
                todo.append(os.path.normpath(PurePosixPath(name).parent / location))
    return sorted(seen)


def pin(folder: Path) -> str:
    """Return the list of pins for a folder that is known to be good."""
    lines = [f"{fingerprint(relative_locations((folder / n).read_bytes(), n))}  {n}" for n in closure(folder)]
    beside = folder if (folder / "ogcapi").is_dir() else folder.parent
    flat = sorted(beside.glob("ogcapi/1.0/*.yaml"))
    lines += [f"{fingerprint(path.read_bytes())}  {path.relative_to(beside)}" for path in flat]
    head = "# SHA-256 of each schema's canonical XML; written by: python -m tests.download_schemas pin FOLDER"
    return "\n".join([head, *lines])


if __name__ == "__main__":
    if sys.argv[1:2] == ["pin"]:
        print(pin(Path(sys.argv[2])))
    else:
        download_all(DOWNLOADED)
