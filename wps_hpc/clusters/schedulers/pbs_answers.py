"""What ``qstat`` of the PBS family prints, as rows: TORQUE's XML, OpenPBS's JSON, and the full text of both.

Its tables are not read: they cut names off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from lxml import etree

#: A job's attributes by their names, in the words of the dialect; nested ones as ``Resource_List.walltime``.
Row = Mapping[str, str]

_ID = re.compile(r"\d+(?:\[\d*\])?(?:\.[\w.-]+)?")
_TEXT_JOB = re.compile(r"Job Id:\s*(\S+)\s*")
_JSON_NAMES = frozenset({"timestamp", "pbs_version", "pbs_server", "Jobs"})
#: A job's environment: any user's, with whatever characters it has. Nothing in it is needed.
_ENVIRONMENT = re.compile(r'^(\t+)"Variable_List":\s*\{\n(?:.*\n)*?\1\},?\n', re.MULTILINE)
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, remove_comments=True)


def is_id(text: str) -> bool:
    """Whether that is an id of a job: a number, with brackets for an array, and mostly with the server's name."""
    return bool(_ID.fullmatch(text))


def read_rows(text: str) -> Iterator[tuple[str, Row]]:
    """The jobs in an answer of ``qstat -x``, ``qstat -F json`` or ``qstat -f``, by id; none where nothing was printed.

    Raises ValueError for anything else, also for an answer about nodes, queues or servers.
    """
    kind = text.lstrip()[:1]
    readers = {"": _nothing, "<": _xml, "{": _json}
    for number, row in readers.get(kind, _full_text)(text):
        if not is_id(number):
            raise ValueError(f"not an id: {number!r:.80}")
        yield number, row


def _nothing(_: str) -> Iterator[tuple[str, Row]]:
    return iter(())


def _xml(text: str) -> Iterator[tuple[str, Row]]:
    try:
        root = etree.fromstring(text.strip().encode(), _PARSER)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"no XML: {error}") from error
    if root.tag != "Data" or any(job.tag != "Job" for job in root):
        raise ValueError("XML, but not a list of jobs")
    for job in root:
        yield job.findtext("Job_Id") or "", {str(element.tag): element.text or "" for element in job}


def _json(text: str) -> Iterator[tuple[str, Row]]:
    answer = _loaded(text)
    if not isinstance(answer, dict) or not _JSON_NAMES.issuperset(answer):
        raise ValueError("JSON, but not a list of jobs")
    jobs = answer.get("Jobs", {})
    if not isinstance(jobs, dict) or not all(isinstance(job, dict) for job in jobs.values()):
        raise ValueError("JSON, but not a list of jobs")
    for number, job in jobs.items():
        yield number, {name: str(value) for name, value in job.items()}


def _loaded(text: str) -> object:
    """The answer's JSON. What some user has in the environment must not hide everybody's jobs."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        try:
            return json.loads(_ENVIRONMENT.sub("", text), strict=False)
        except RecursionError as error:
            raise ValueError("JSON that is nested too deeply") from error


def _full_text(text: str) -> Iterator[tuple[str, Row]]:
    """Blocks of «Job Id: …» and one attribute a line; a line that goes on begins with a tab.

    Slurm's imitation of it begins every line of a block with one.
    """
    attribute = re.compile(r"    ([\w.]+) = (.*)" if "\n    " in text else r"\t([\w.]+) = (.*)")
    row: dict[str, str] = {}
    number = last = ""
    for line in text.splitlines():
        begun = _TEXT_JOB.fullmatch(line)
        found = attribute.fullmatch(line)
        if begun:
            if number:
                yield number, row
            number, row, last = begun[1], {}, ""
        elif number and found:
            last = found[1]
            row[last] = found[2]
        elif last and line.startswith("\t"):
            row[last] += line[1:]
        elif line.strip():
            raise ValueError(f"no line of a job: {line!r:.80}")
    if number:
        yield number, row
