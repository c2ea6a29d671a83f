"""The five operations: what is sent, and what must come back for an answer to count."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import IncompleteRead

from load import SERIAL, Exchange
from lxml import etree
from servers import Server, fetch

#: Jobs whose status documents are polled.
POLLED = 8
#: Jobs of which none ends for so many seconds are stuck.
STUCK_AFTER = 30.0
STATUS_LOCATION = 'statusLocation="([^"]+)"'
_WPS = "{http://www.opengis.net/wps/1.0.0}"
_KVP = "/wps?service=WPS&version=1.0.0&request="
_LATER = '<wps:ResponseForm><wps:ResponseDocument storeExecuteResponse="true" status="true"/></wps:ResponseForm>'
_ENDS = re.compile(rb"<[\w.-]+:(ProcessSucceeded|ProcessFailed)[\s>/]")
_PAUSE = 0.1
#: A look at the jobs of a round ends after so many that have not ended, for the later ones wait behind them; but when
#: none of these has ended for so many seconds, all are looked at.
_OPEN_AT_MOST, _QUIET = 20, 3.0


class UnexpectedAnswer(Exception):
    """A server does not do what is to be measured; the text says what it answered."""


@dataclass(frozen=True)
class Operation:
    """One thing to measure. ``exchanges`` prepares it on a server; ``aim``: so many times PyWPS.

    ``most`` bounds the requests of a round, ``warm_up`` those before the first. ``drained``: the jobs that a round
    leaves are waited for after it.
    """

    title: str
    aim: float
    exchanges: Callable[[Server], tuple[Exchange, ...]]
    most: int = 200_000
    warm_up: int = 200
    drained: bool = False


@dataclass(frozen=True)
class Drained:
    """What became of the jobs of a round, and how long after it the last one ended, in seconds."""

    succeeded: int
    failed: int
    stuck: int
    seconds: float


def execute_document(process: str, inputs: Mapping[str, str], form: str = "") -> str:
    """A WPS 1.0.0 Execute with literal inputs, whose values need no escapes."""
    given = "".join(
        f"<wps:Input><ows:Identifier>{name}</ows:Identifier><wps:Data>"
        f"<wps:LiteralData>{value}</wps:LiteralData></wps:Data></wps:Input>"
        for name, value in inputs.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<wps:Execute service="WPS" version="1.0.0" xmlns:wps="http://www.opengis.net/wps/1.0.0"'
        f' xmlns:ows="http://www.opengis.net/ows/1.1"><ows:Identifier>{process}</ows:Identifier>'
        f"<wps:DataInputs>{given}</wps:DataInputs>{form}</wps:Execute>"
    )


def _get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n"


def _post(body: str) -> str:
    return (
        "POST /wps HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nContent-Type: text/xml\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def _document(content: bytes, root: str, below: str) -> str:
    """An answer as text, if it is such a document; raises UnexpectedAnswer."""
    tree = etree.fromstring(content)
    if tree.tag != f"{_WPS}{root}" or tree.find(f".//{below}") is None:
        raise UnexpectedAnswer(content[:2000].decode(errors="replace"))
    return content.decode()


def _unchanging(root: str, below: str, query: str) -> Callable[[Server], tuple[Exchange, ...]]:
    def exchanges(server: Server) -> tuple[Exchange, ...]:
        path = _KVP + query
        return (Exchange(_get(path), exact=_document(fetch(server.url + path), root, below)),)

    return exchanges


def _polls(server: Server) -> tuple[Exchange, ...]:
    """The status documents of jobs that have succeeded."""
    locations = [accepted(server, "echo", {"text": f"polled {n}"}) for n in range(POLLED)]
    drained = drain(locations)
    if drained.succeeded != POLLED:
        raise UnexpectedAnswer(f"{server.name}: of {POLLED} jobs {drained.succeeded} succeeded")
    return tuple(
        Exchange(
            _get(location.removeprefix(server.url)),
            exact=_document(fetch(location), "ExecuteResponse", f"{_WPS}ProcessSucceeded"),
        )
        for location in locations
    )


def accepted(server: Server, process: str, inputs: Mapping[str, str]) -> str:
    """Send an asynchronous Execute; its status location. Raises UnexpectedAnswer, ServerError."""
    answer = fetch(f"{server.url}/wps", execute_document(process, inputs, _LATER).encode()).decode()
    found = re.search(STATUS_LOCATION, answer)
    if found is None:
        raise UnexpectedAnswer(f"{server.name} accepts no asynchronous Execute: {answer[:2000]}")
    return found[1]


def _sync(server: Server) -> tuple[Exchange, ...]:
    text = f"echo {SERIAL} echo"
    body = execute_document("echo", {"text": text})
    return (Exchange(_post(body), holds=(f">{text}<", "ProcessSucceeded", ":ExecuteResponse>")),)


def _async(server: Server) -> tuple[Exchange, ...]:
    body = execute_document("echo", {"text": f"echo {SERIAL} echo"}, _LATER)
    return (Exchange(_post(body), holds=("ProcessAccepted", 'statusLocation="http', ":ExecuteResponse>")),)


#: By the name that ``--only`` takes.
OPERATIONS: Mapping[str, Operation] = {
    "capabilities": Operation(
        "GetCapabilities", 20, _unchanging("Capabilities", f"{_WPS}ProcessOfferings", "GetCapabilities")
    ),
    "describe": Operation(
        "DescribeProcess",
        20,
        _unchanging("ProcessDescriptions", "ProcessDescription", "DescribeProcess&identifier=echo"),
    ),
    "status": Operation("status poll", 20, _polls),
    "sync": Operation("sync Execute", 5, _sync, most=20_000),
    "async": Operation("async accept", 10, _async, most=1_000, warm_up=8, drained=True),
}


def drain(locations: Sequence[str]) -> Drained:
    """Wait until the jobs at these status locations have ended; one that does not end is stuck."""
    began = changed = time.monotonic()
    waiting, words = list(locations), Counter[str]()
    while waiting and time.monotonic() < changed + STUCK_AFTER:
        quiet = time.monotonic() > changed + _QUIET
        ended = look(waiting, len(waiting) if quiet else _OPEN_AT_MOST)
        waiting = [location for location in waiting if location not in ended]
        words.update(ended.values())
        if ended:
            changed = time.monotonic()
        else:
            time.sleep(_PAUSE)
    return Drained(words["ProcessSucceeded"], words["ProcessFailed"], len(waiting), changed - began)


def look(waiting: Sequence[str], open_at_most: int) -> dict[str, str]:
    """The jobs that have ended, and how; no further than so many that have not."""
    ended: dict[str, str] = {}
    still_open = 0
    for location in waiting:
        try:
            found = _ENDS.search(fetch(location))
        except IncompleteRead:
            found = None  # a document that was cut short while it was being sent: rewritten in place, as PyWPS does
        if found is not None:
            ended[location] = found[1].decode()
        else:
            still_open += 1
        if still_open >= open_at_most:
            break
    return ended
