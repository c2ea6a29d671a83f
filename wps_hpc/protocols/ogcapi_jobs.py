"""Jobs as OGC API - Processes shows them: statusInfo.yaml, and which of them a list has (18-062r2 §7.12, §11)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from wps_hpc.errors import InvalidParameterValue
from wps_hpc.jobs.job import FINAL, STATE_WORDS, Job, JobState
from wps_hpc.jobs.store import JobFilter
from wps_hpc.protocols.ogcapi_links import EXCEPTIONS, RESULTS, Addresses, Link, link
from wps_hpc.protocols.wps1_response import message

#: Our states by the standard's word for them.
STATES: Mapping[str, frozenset[JobState]] = {
    word: frozenset(state for state, words in STATE_WORDS.items() if words[2] == word)
    for word in ("accepted", "running", "successful", "failed", "dismissed")
}
#: States of jobs that have a duration: without a status filter a list by duration is of these (18-062r2 req. 70).
_TIMED = STATES["running"] | FINAL
#: The bounds of ``limit`` in lists, and what it is unless given.
LEAST_LIMIT, MOST_LIMIT, DEFAULT_LIMIT = 1, 10_000, 10


def status_info(job: Job, addresses: Addresses) -> dict[str, Any]:
    """The job as of now. ``state`` is this server's own, finer word: ``held`` and ``suspended`` are paused jobs."""
    times = {"created": job.created, "started": job.started, "finished": job.finished, "updated": _updated(job)}
    return {
        "processID": job.process,
        "type": "process",
        "jobID": job.id,
        "status": STATE_WORDS[job.state][2],
        "message": message(job),
        "progress": 100 if job.state is JobState.SUCCEEDED else max(0, min(100, int(job.percent))),
        **{name: rfc3339(moment) for name, moment in times.items() if moment is not None},
        "state": job.state.value,
        "links": _links(job, addresses),
    }


def _updated(job: Job) -> float:
    """When the job came into its state; what a clock of another host says may be later than the end."""
    latest = job.finished if job.final else job.state_since
    return max(job.created, latest or job.created)


def rfc3339(seconds: float) -> str:
    """A time in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _links(job: Job, addresses: Addresses) -> list[Link]:
    here = addresses.job(job)
    links = [
        link(here, "self", "The status as JSON"),
        link(f"{here}?f=html", "alternate", "The status as HTML", "text/html"),
        link(addresses.process(job.process), "up", "The process"),
    ]
    if job.state is JobState.SUCCEEDED:
        links.append(link(addresses.results(job), RESULTS, "The results"))
    if job.state is JobState.FAILED:
        links.append(link(addresses.results(job), EXCEPTIONS, "Why the job failed", "application/problem+json"))
    return links


# ---------------------------------------------------------------------------------------------------------- the list


def job_filter(parameters: Mapping[str, str], owner: str | None) -> JobFilter | None:
    """What the parameters of a job list ask for; None when no job can fit (another ``type`` than ``process``).

    Raises InvalidParameterValue with the parameter as locator.
    """
    if "process" not in listed(parameters, "type", ("process",)):
        return None
    first, last = _interval(parameters.get("datetime", "../.."))
    durations = [_seconds(parameters, name, pick) for name, pick in (("minDuration", max), ("maxDuration", min))]
    states = _states(parameters)
    if states is None and durations != [None, None]:
        states = _TIMED
    processes = listed(parameters, "processID", ())
    return JobFilter(
        states=states,
        processes=frozenset(processes) if processes else None,
        owner=owner,
        created_from=first,
        created_before=last,
        least_seconds=durations[0],
        most_seconds=durations[1],
    )


def listed(parameters: Mapping[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """A parameter that lists words, with commas between them; empty ones count for nothing."""
    words = tuple(word for word in parameters.get(name, "").split(",") if word)
    return words or default


def _states(parameters: Mapping[str, str]) -> frozenset[JobState] | None:
    words = listed(parameters, "status", ())
    for word in words:
        if word not in STATES:
            raise InvalidParameterValue(f"status {word[:40]!r} is none of {', '.join(STATES)}.", "status")
    return frozenset().union(*(STATES[word] for word in words)) if words else None


def _seconds(parameters: Mapping[str, str], name: str, pick: Any) -> float | None:
    words = listed(parameters, name, ())
    if not all(re.fullmatch(r"[0-9]{1,12}", word) for word in words):
        raise InvalidParameterValue(f"{name} is a number of whole seconds.", name)
    return float(pick(map(int, words))) if words else None


#: RFC 3339 §5.6. A plus that was not escaped in the address has become a blank.
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d(?:\.\d+)?)([Zz]|[+ -]\d\d:\d\d)", re.ASCII)
#: Times are shown to the millisecond, cut off: one that is equal to what was shown fits.
_SHOWN = 0.001


def _interval(text: str) -> tuple[float | None, float | None]:
    """``datetime`` as Unix seconds: from the first on, before the second (18-062r2 req. 66)."""
    parts = text.split("/")
    if len(parts) > 2:
        raise _no_interval()
    first, last = (_moment(part) for part in (parts[0], parts[-1]))
    if len(parts) == 1 and first is None:
        raise _no_interval()
    return first, None if last is None else last + _SHOWN


def _moment(text: str) -> float | None:
    if text in ("", ".."):
        return None
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise _no_interval()
    day, clock, zone = found.groups()
    try:
        return datetime.fromisoformat(f"{day}T{clock}{zone.replace(' ', '+').upper()}").timestamp()
    except (ValueError, OverflowError) as error:
        raise _no_interval() from error


def _no_interval() -> InvalidParameterValue:
    return InvalidParameterValue(
        "datetime is a time as 2026-01-31T12:00:00Z, or two with a slash between them of which one may be '..'.",
        "datetime",
    )


def limit(parameters: Mapping[str, str]) -> int:
    """How many entries a page of a list has; raises InvalidParameterValue."""
    return min(MOST_LIMIT, _whole(parameters, "limit", DEFAULT_LIMIT, LEAST_LIMIT))


def offset(parameters: Mapping[str, str]) -> int:
    """How many entries of a list come before its page; raises InvalidParameterValue."""
    return _whole(parameters, "offset", 0, 0)


def _whole(parameters: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise InvalidParameterValue(f"{name} is a whole number from {least}.", name)
    return int(text)


_CURSOR = re.compile(r"(\d{1,12}\.\d{1,9})~([0-9a-f-]{36})", re.ASCII)


def cursor(job: Job) -> str:
    """Where the next page begins, for a link: behind this job."""
    return f"{job.created!r}~{job.id}"


def read_cursor(parameters: Mapping[str, str]) -> tuple[float, str] | None:
    """The same, read back; raises InvalidParameterValue."""
    text = parameters.get("cursor")
    if text is None:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise InvalidParameterValue("cursor comes from a link to a next page; it cannot be made up.", "cursor")
    return float(found[1]), found[2]
