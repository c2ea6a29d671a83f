"""What the launcher and a process agree on at run time: the job argument, and how any kind of process is run.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Protocol

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord, WantedOutput
from joblauncher.formats.values import Value
from wps_hpc.processes.description import ProcessDescription, Resources


class ProcessError(Exception):
    """What an author raises to tell the client why a process cannot go on. The text reaches the client as it is.

    ``code`` and ``locator`` become those of the OWS exception.
    """

    def __init__(self, text: str, code: str = "NoApplicableCode", locator: Optional[str] = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.locator = locator


class OutputError(Exception):
    """What a process gave cannot be one of its outputs; the text says which and why, for the author and the client.

    The launcher reports it with the cause «bad output».
    """


class Cancelled(BaseException):
    """Raised inside the process when the job is cancelled or preempted (SIGTERM), so that ``finally`` blocks run."""


@dataclass(frozen=True)
class Job:
    """The ``job`` argument of a process function: one run, seen from inside.

    ``workdir`` is the run's own folder and the current directory. ``resources`` is what the job was given.
    ``wanted`` has the outputs that the client asked for (all of them when it named none), each with its format or unit
    filled in; the process fills it, the launcher need not. ``outputs_url`` is the address below which clients will find
    the files of the outputs folder. ``entered`` are the words by which a command is started in the job's container.
    """

    id: str
    workdir: Path
    resources: Resources
    logger: logging.Logger
    language: str
    report: Callable[[float, str], None]
    on_time_warning: Callable[[Callable[[], None]], None]
    wanted: Mapping[str, WantedOutput] = field(default_factory=dict)
    outputs_url: str = ""
    entered: Sequence[str] = ()

    def progress(self, percent: float, message: str = "") -> None:
        """Tell the client how far the run is: 0 to 100, and a short sentence. Cheap: reports are throttled."""
        self.report(percent, message)

    def command(self, *words: str) -> list[str]:
        """A command as the process has to start it, in the current directory or one below it.

        Where the job's container is for its commands (an image without Python), that starts it in the container, which
        has a program's exit codes and signals, and 255 where it cannot be started; else these are just the words.
        """
        return [*self.entered, *words]


@dataclass(frozen=True)
class RunFolders:
    """Where a run reads and writes: the job folder, its attempt's working directory and outputs folder."""

    job: JobFolder
    work: Path
    outputs: Path


class Runnable(Protocol):
    """A process that can be run, whatever it was made of. It is what ``payload.dill`` holds."""

    description: ProcessDescription

    def resources_for(self, request: RequestRecord, job: JobFolder) -> Resources:
        """What a run with these inputs needs. Called by the server once all inputs are in the job folder; raises
        ProcessError for inputs that the process cannot be run with."""

    def run(self, request: RequestRecord, job: Job, folders: RunFolders) -> Mapping[str, tuple[Value, ...]]:
        """Run once and return the outputs by identifier; files lie in ``folders.outputs`` with relative paths
        ``outputs/<name>``. Raises ProcessError for what the client should read; anything else is a defect of the
        process and becomes a failure with its exception's class and text."""
