"""A whole site in memory behind the protocols: processes that are plain functions, jobs in a dictionary.

It stands for the catalogue, the intake, the store and the results, and really runs the processes. Tests decide when an
asynchronous job runs (`Site.run`), unless `background` is set.
"""

import io
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from joblauncher.formats.records import Failure
from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue, NestedValue, Value
from wps_hpc.config import Settings
from wps_hpc.errors import (
    PARALLEL_LIMIT_TEXT,
    InvalidParameterValue,
    MissingParameterValue,
    NotFound,
    ServerBusy,
)
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import ExecuteRequest, Given, InlineContent, NestedGiven, Reference
from wps_hpc.jobs.store import JobFilter
from wps_hpc.jobs.validate import check_wishes, validated
from wps_hpc.processes import literals
from wps_hpc.processes.description import (
    AllowedRange,
    BoundingBoxData,
    ComplexData,
    Format,
    Input,
    LiteralData,
    Metadata,
    NestedInputs,
    NestedOutputs,
    Output,
    ProcessDescription,
    Translation,
)
from wps_hpc.processes.run import ProcessError
from wps_hpc.protocols.ports import Backend

CRS84 = "urn:ogc:def:crs:OGC:1.3:CRS84"
EPSG4326 = "urn:ogc:def:crs:EPSG::4326"
JSON = Format("application/geo+json", extension=".geojson")
GML = Format("text/xml", schema="http://schemas.opengis.net/gml/3.1.1/base/gml.xsd", extension=".gml")
TEXT = Format("text/plain", encoding="UTF-8", extension=".txt")
CSV = Format("text/csv", extension=".csv")
TIFF = Format("image/tiff", encoding="base64", extension=".tif")
HTML = Format("text/html", extension=".html")
FORMATS = (GML, JSON, TEXT, CSV, TIFF, HTML)

Inputs = Mapping[str, tuple[Given, ...]]
Outputs = Mapping[str, tuple[Value, ...]]


@dataclass
class Offer:
    """A process: its description and the function that runs it in a folder for outputs."""

    description: ProcessDescription
    run: Callable[[ExecuteRequest, Path], Outputs]


def echo(request: ExecuteRequest, folder: Path) -> Outputs:
    """Give back what came in: each input as the output of the same name."""
    return {name: tuple(_echoed(value, name, folder) for value in values) for name, values in request.inputs.items()}


def _echoed(value: Given, name: str, folder: Path) -> Value:
    if isinstance(value, InlineContent):
        form = next((form for form in FORMATS if form.mime_type == value.mime_type), FORMATS[0])
        (folder / "outputs").mkdir(exist_ok=True)
        (folder / "outputs" / f"{name}{form.extension}").write_bytes(value.content)
        path = f"outputs/{name}{form.extension}"
        return FileValue(path, form.mime_type, form.encoding, form.schema, len(value.content))
    if isinstance(value, Reference):
        return LiteralValue(repr(value))
    if isinstance(value, NestedGiven):
        inner = {inner: tuple(_echoed(item, inner, folder) for item in items) for inner, items in value.values.items()}
        return NestedValue(inner)
    assert isinstance(value, LiteralValue | BoundingBoxValue)
    return value


def refuse(request: ExecuteRequest, folder: Path) -> Outputs:
    """Fail as an author says it."""
    raise ProcessError("The moon is in the wrong phase \x00 today.", "NoApplicableCode", "moon")


def nothing(request: ExecuteRequest, folder: Path) -> Outputs:
    """Make no output at all."""
    return {}


def point(request: ExecuteRequest, folder: Path) -> Outputs:
    """What processes that were made for PyWPS make: an output elsewhere, and files that rather go out by reference."""
    (folder / "outputs" / "part").mkdir(parents=True)
    (folder / "outputs" / "list.gml").write_text("<list/>")
    (folder / "outputs" / "part" / "one.csv").write_text("1,2")
    part = FileValue("outputs/part/one.csv", CSV.mime_type, size=3)
    made: Outputs = {
        "far": (LinkValue(FAR, CSV.mime_type),),
        "list": (FileValue("outputs/list.gml", GML.mime_type, size=7, by_reference=True, parts=(part,)),),
        "length": (LiteralValue("2.5", "double", "metre"),),
    }
    wanted = [wish.wanted.identifier for wish in request.outputs]
    return {name: values for name, values in made.items() if name in (wanted or made)}


ECHO = ProcessDescription(
    "echo",
    "Echo",
    "Gives back what it gets.",
    version="2.1.0",
    translations=(Translation("fr-CA", "Écho", "Rend ce qu'il reçoit."),),
    inputs=(
        Input("text", data=LiteralData(), min_occurs=0, max_occurs=3),
        Input("number", data=LiteralData("integer", allowed=(AllowedRange("0", "10"),)), min_occurs=0),
        Input("width", data=LiteralData("double", uoms=("metre", "urn:ogc:def:uom:OGC::foot")), min_occurs=0),
        Input("complex", data=ComplexData(FORMATS, maximum_megabytes=1.5), min_occurs=0),
        Input("box", data=BoundingBoxData((CRS84, EPSG4326)), min_occurs=0),
    ),
    outputs=(
        Output("text", "Text"),
        Output("number", data=LiteralData("integer"), optional=True),
        Output("width", data=LiteralData("double"), optional=True),
        Output("complex", "Complex", "A document.", data=ComplexData(FORMATS), optional=True),
        Output("box", data=BoundingBoxData(), optional=True),
    ),
)

EVERYTHING = ProcessDescription(
    "everything",
    "Every kind of description & <more>",
    "All that a description can say.",
    metadata=(Metadata("Manual", "https://example.org/manual?a=1&b=2", "documentation"), Metadata("No link")),
    profiles=("urn:ogc:wps:1.0.0:buffer",),
    inputs=(
        Input("mode", data=LiteralData("string", allowed=("fast", "slow"), default="fast"), min_occurs=0),
        Input(
            "ratio",
            metadata=(Metadata("Ratios"),),
            data=LiteralData("double", allowed=(AllowedRange("0", "1", "closed-open", "0.25"), "5")),
        ),
        Input("open", data=LiteralData("date", allowed=(AllowedRange(minimum="2000-01-01", closure="open"),))),
        Input("listed", data=LiteralData("string", values_reference="https://example.org/values.xml")),
        Input("slope", data=LiteralData("angle", uoms=("degree", "radian")), max_occurs=None),
        Input("layer", data=ComplexData((GML, JSON))),
        Input("area", data=BoundingBoxData((CRS84, EPSG4326))),
        Input("extra", data=NestedInputs((Input("inner"),)), min_occurs=0),
    ),
    outputs=(
        Output("length", data=LiteralData("double", uoms=("metre", "foot"))),
        Output("map", data=ComplexData((TIFF, GML))),
        Output("extent", data=BoundingBoxData((EPSG4326,))),
    ),
)

NESTED = ProcessDescription(
    "nested", inputs=(Input("outer", data=NestedInputs((Input("inner"),))),), outputs=(Output("text"),)
)

NESTING = ProcessDescription(
    "nesting",
    keywords=("nested", "test"),
    inputs=(
        Input(
            "outer",
            data=NestedInputs(
                (
                    Input("count", data=LiteralData("integer")),
                    Input("note", data=ComplexData((TEXT, GML)), min_occurs=0),
                    Input("deeper", data=NestedInputs((Input("label"),)), min_occurs=0, max_occurs=None),
                )
            ),
            max_occurs=2,
        ),
    ),
    outputs=(
        Output(
            "outer",
            data=NestedOutputs(
                (
                    Output("count", data=LiteralData("integer")),
                    Output("note", data=ComplexData((TEXT, GML)), optional=True),
                    Output("deeper", data=NestedOutputs((Output("label"),)), optional=True),
                )
            ),
        ),
    ),
)

#: An address with what none may hold as it is.
FAR = 'https://data.example.org/é "1".csv?a=1&b=%20\r\nX-Mine: yes'
FAR_SENT = "https://data.example.org/%C3%A9%20%221%22.csv?a=1&b=%20%0D%0AX-Mine:%20yes"
METRE = "urn:ogc:def:uom:OGC:1.0:metre"
POINTING = ProcessDescription(
    "pointing",
    inputs=(
        Input("pace", data=LiteralData("integer", allowed=("1", AllowedRange("5", "7")), advisory=True), min_occurs=0),
        Input(
            "width",
            data=LiteralData("double", uoms=("metre", "foot"), uom_references=(("metre", METRE),)),
            min_occurs=0,
        ),
    ),
    outputs=(
        Output("far", data=ComplexData((CSV,))),
        Output("list", data=ComplexData((GML,))),
        Output("length", data=LiteralData("double", uoms=("metre",), uom_references=(("metre", METRE),))),
    ),
)

OFFERS = (
    Offer(ECHO, echo),
    Offer(EVERYTHING, nothing),
    Offer(NESTED, echo),
    Offer(NESTING, echo),
    Offer(POINTING, point),
    Offer(replace(ECHO, identifier="async.only", sync="refused"), echo),
    Offer(replace(ECHO, identifier="sync.only", store_supported=False, status_supported=False), echo),
    Offer(replace(ECHO, identifier="no.status", status_supported=False), echo),
    Offer(ProcessDescription("refuses", outputs=(Output("text"),)), refuse),
    Offer(ProcessDescription("silent", outputs=(Output("text"),)), nothing),
    Offer(ProcessDescription("slow", outputs=(Output("text"),)), nothing),
    Offer(ProcessDescription("busy", outputs=(Output("text"),)), nothing),
    Offer(ProcessDescription("broken", outputs=(Output("text"),)), nothing),
)


@dataclass
class Offers:
    """The catalogue."""

    offers: dict[str, Offer]
    revision: int = 7

    def get(self, identifier: str) -> Offer | None:
        """The process of that identifier."""
        return self.offers.get(identifier)

    def entries(self) -> list[Offer]:
        """All of them."""
        return list(self.offers.values())


@dataclass
class Site:
    """Jobs, their requests and what they made. It is intake, store and results at once."""

    folder: Path
    background: bool = False
    catalogue: Offers = field(default_factory=lambda: Offers({offer.description.identifier: offer for offer in OFFERS}))
    jobs: dict[str, Job] = field(default_factory=dict)
    requests: dict[str, ExecuteRequest] = field(default_factory=dict)
    made: dict[str, Outputs] = field(default_factory=dict)

    @property
    def backend(self) -> Backend:
        """This site as the protocols see it."""
        return Backend(self.catalogue, self, self, self)

    # Intake.

    def execute(self, request: ExecuteRequest) -> Job:
        """Check the request, and keep it."""
        if request.process == "busy":
            raise ServerBusy(PARALLEL_LIMIT_TEXT)
        if request.process == "broken":
            raise RuntimeError("the secret of the server room is 0000")
        offer = self.catalogue.offers[request.process]
        if request.protocol == "wps1":
            check_request(request, offer.description)
            check_wishes(offer.description, request.resources, Settings().limits)
        else:
            request = validated(offer.description, request, Settings())
        job = Job(
            id=str(uuid.uuid4()),
            process=request.process,
            process_version=offer.description.version,
            protocol=request.protocol,
            mode=request.mode.value,
            state=JobState.ACCEPTED,
            message="",
            percent=0,
            created=time.time(),
            request="",
            owner=request.owner,
        )
        self.jobs[job.id], self.requests[job.id] = job, request
        if self.background and request.process != "slow":
            threading.Thread(target=self.run, args=(job.id,), daemon=True).start()
        return job

    def wait(self, job_id: str, seconds: float) -> Job:
        """Run the job now, unless it is the slow one."""
        deadline = time.monotonic() + min(seconds, 10)
        while self.background and not self.jobs[job_id].final and time.monotonic() < deadline:
            threading.Event().wait(0.005)
        if not self.background and not self.jobs[job_id].final and self.jobs[job_id].process != "slow":
            self.run(job_id)
        return self.jobs[job_id]

    def dismiss(self, job_id: str, by: str) -> Job:
        """End the job."""
        return self.change(job_id, state=JobState.DISMISSED, cancelled_by=by, finished=time.time())

    def release_id(self, job_id: str) -> None:
        """WPS 2.0 knows the job no more."""
        self.change(job_id, released=True)

    def pause(self, job_id: str) -> Job:
        """Suspend the job if it runs, else hold it."""
        running = self.jobs[job_id].state is JobState.RUNNING
        return self.change(job_id, state=JobState.SUSPENDED if running else JobState.HELD)

    def resume(self, job_id: str) -> Job:
        """Let the job go on."""
        suspended = self.jobs[job_id].state is JobState.SUSPENDED
        return self.change(job_id, state=JobState.RUNNING if suspended else JobState.ACCEPTED)

    def forget(self, job_id: str) -> None:
        """The job's time is over."""
        self.change(job_id, expires=time.time())

    # Store.

    def get(self, job_id: str) -> Job | None:
        """The job, while it is kept."""
        job = self.jobs.get(job_id)
        return None if job is None or job.is_over(time.time()) else job

    def find(self, wanted: JobFilter, limit: int, before: tuple[float, str] | None = None) -> list[Job]:
        """The newest jobs first, by state, process and owner."""
        newest = sorted(self.jobs.values(), key=lambda job: (job.created, job.id), reverse=True)
        fits = [
            job
            for job in newest
            if _fits(job, wanted)
            and not job.is_over(time.time())
            and (before is None or (job.created, job.id) < before)
        ]
        return fits[:limit]

    # Results.

    def request(self, job: Job) -> ExecuteRequest:
        """The request, as it was stored."""
        return self.requests[job.id]

    def outputs(self, job: Job) -> Outputs:
        """What the job made."""
        return self.made[job.id]

    def open(self, job: Job, value: FileValue) -> BinaryIO:
        """A file that the job made."""
        try:
            return (self.folder / job.id / value.path).open("rb")
        except FileNotFoundError as error:
            raise NotFound("The file has expired.") from error

    def lineage(self, job: Job) -> bytes | None:
        """The client's own account."""
        return self.requests[job.id].lineage

    # For tests.

    def change(self, job_id: str, **fields: object) -> Job:
        """Change fields of a job, as the worker would."""
        job = self.jobs[job_id]
        self.jobs[job_id] = replace(job, revision=job.revision + 1, **fields)  # type: ignore[arg-type]
        return self.jobs[job_id]

    def run(self, job_id: str) -> Job:
        """Run a job to its end."""
        job = self.change(job_id, state=JobState.RUNNING, started=time.time())
        folder = self.folder / job_id
        folder.mkdir()
        try:
            made = self.catalogue.offers[job.process].run(self.requests[job_id], folder)
        except ProcessError as error:
            failure = Failure("process error", error.text, error.code, error.locator)
            return self.change(job_id, state=JobState.FAILED, failure=failure, finished=time.time())
        self.made[job_id] = made
        return self.change(job_id, state=JobState.SUCCEEDED, percent=100, finished=time.time())

    @property
    def latest(self) -> Job:
        """The job that was accepted last."""
        return list(self.jobs.values())[-1]

    @property
    def received(self) -> ExecuteRequest:
        """The request of that job."""
        return self.requests[self.latest.id]


def _fits(job: Job, wanted: JobFilter) -> bool:
    known = ((wanted.states, job.state), (wanted.processes, job.process))
    mine = wanted.owner in (None, job.owner)
    return mine and all(options is None or value in options for options, value in known)


def check_request(request: ExecuteRequest, process: ProcessDescription) -> None:
    """What the real intake checks, as far as the tests of protocols need it."""
    for name in request.inputs:
        if process.input(name) is None:
            raise InvalidParameterValue(f"There is no input {name!r}.", name)
    for described in process.inputs:
        _check_input(described, request.inputs.get(described.identifier, ()))
    for wish in request.outputs:
        _check_format(wish.wanted.mime_type, process.output(wish.wanted.identifier), wish.wanted.identifier)


def _check_input(described: Input, values: tuple[Given, ...]) -> None:
    if len(values) < described.min_occurs:
        raise MissingParameterValue("An input is missing.", described.identifier)
    if described.max_occurs is not None and len(values) > described.max_occurs:
        raise InvalidParameterValue("An input is given too often.", described.identifier)
    for value in values:
        if isinstance(described.data, LiteralData):
            _check_literal(described, value)
        elif isinstance(value, LiteralValue) or isinstance(value, BoundingBoxValue) != isinstance(
            described.data, BoundingBoxData
        ):
            raise InvalidParameterValue("An input is of another kind.", described.identifier)
        elif isinstance(value, InlineContent):
            _check_format(value.mime_type, described, described.identifier)


def _check_literal(described: Input, value: Given) -> None:
    assert isinstance(described.data, LiteralData)
    try:
        fits = isinstance(value, LiteralValue) and literals.allowed(described.data, value.text)
    except literals.LiteralError:
        fits = False
    if not fits:
        raise InvalidParameterValue("A literal is not allowed.", described.identifier)


def _check_format(mime_type: str | None, described: Input | Output | None, identifier: str) -> None:
    if mime_type is None or described is None or not isinstance(described.data, ComplexData):
        return
    if mime_type not in {form.mime_type for form in described.data.formats}:
        raise InvalidParameterValue(f"{mime_type} is not offered.", identifier)


class Trickle(io.RawIOBase):
    """A body whose bytes stop coming: the read after the last one takes longer than the server allows."""

    def __init__(self, sent: bytes, late: TimeoutError | None = None) -> None:
        self._sent = io.BytesIO(sent)
        self._late = late or TimeoutError("the request's body did not arrive in time")

    def read(self, size: int = -1) -> bytes:
        """What was sent, then the server's own TimeoutError."""
        part = self._sent.read(size)
        if not part:
            raise self._late
        return part
