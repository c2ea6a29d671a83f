"""Documents of OGC API - Processes as pages (18-062r2 §8.3): everything that the JSON has, every link a link.

A page is made from the very document that the JSON form sends, so the two cannot differ. Nothing on it comes from
elsewhere and nothing on it runs; what is not ours (titles, messages, results) is escaped.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

_STYLE = files("wps_hpc.assets").joinpath("page.css").read_text(encoding="utf-8")
_DIGEST = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: A page shows its own style and nothing else: no scripts, no frames, no forms, nothing from other places.
SAFETY = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
)

#: Members that are shown as a table, with the columns that come first.
TABLES: Mapping[str, tuple[str, ...]] = {
    "processes": ("id", "title", "description", "version"),
    "jobs": ("jobID", "processID", "status", "progress", "message", "created", "finished"),
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("wps_hpc", "assets"),
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["web_address"] = is_web_address
    return environment


def is_web_address(text: object) -> bool:
    """Whether a text may be the target of a link: anything else than http(s) could be made to run."""
    return isinstance(text, str) and text.startswith(("http://", "https://"))


def page(title: str, document: Mapping[str, Any], base: str) -> bytes:
    """The page of a document. ``base`` is the public address of the server."""
    template = _environment().get_template("page.html.j2")
    text = template.render(title=title, document=document, base=base, style=_STYLE, tables=TABLES)
    # Half a surrogate pair may come from a job's own JSON.
    return text.encode("utf-8", "replace")
