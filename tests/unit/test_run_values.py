"""What `wps-hpc run` makes of its arguments, and of what comes back."""

from collections.abc import Callable
from pathlib import Path

import click
import httpx
import pytest

from wps_hpc.cli import run
from wps_hpc.cli.main import _sentence
from wps_hpc.cli.run import describe_status, execute, file_name, read_values, show_outputs
from wps_hpc.cli.text import columns, moment, printable
from wps_hpc.client import (
    ClientError,
    ExecuteStatus,
    GivenInput,
    OutputValue,
    Parameter,
    ProcessInterface,
    WpsClient,
)
from wps_hpc.config import ConfigError

CLIP = ProcessInterface(
    "clip",
    "Clip",
    {
        "layer": Parameter("layer", "Layer", "complex", ("application/json", "image/tiff; subtype=geotiff")),
        "name": Parameter("name", "Name", "literal", min_occurs=0, max_occurs=2),
        "box": Parameter("box", "Box", "bbox", min_occurs=0),
    },
    {},
    True,
    True,
)
NOBODY = WpsClient("http://x", httpx.Client())


def read(*values: str) -> list[GivenInput]:
    """The inputs that the arguments mean."""
    return read_values(CLIP, values)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("layer=abc", GivenInput("layer", text="abc")),
        ("layer=a=b", GivenInput("layer", text="a=b")),
        ("layer=@@abc", GivenInput("layer", text="@abc")),
        ("layer=http://x.org/a", GivenInput("layer", href="http://x.org/a")),
        ("layer=HTTPS://x.org/a.tif?b", GivenInput("layer", href="HTTPS://x.org/a.tif?b")),
        ("layer=file:///data/a.json", GivenInput("layer", href="file:///data/a.json", mime_type="application/json")),
    ],
)
def test_a_value_is_text_or_an_address(argument: str, expected: GivenInput) -> None:
    (given,) = read(argument)
    if expected.mime_type is None:
        given = GivenInput(given.identifier, given.text, given.content, given.href)
    assert given == expected


def test_an_address_for_a_literal_is_text() -> None:
    assert read("layer=x", "name=http://x.org/")[1] == GivenInput("name", text="http://x.org/")


def test_a_files_format_is_told_by_its_name_or_by_the_argument(tmp_path: Path) -> None:
    for name, expected in (("a.tif", "image/tiff; subtype=geotiff"), ("a.json", "application/json"), ("a.xyz", None)):
        (tmp_path / name).write_bytes(b"\x00")
        assert read(f"layer=@{tmp_path / name}") == [GivenInput("layer", content=b"\x00", mime_type=expected)]
    said = read(f"layer=@{tmp_path / 'a.xyz'};type=text/x")
    assert said == [GivenInput("layer", content=b"\x00", mime_type="text/x")]


def test_a_literal_from_a_file_is_its_text(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("Ada\n")
    assert read("layer=x", f"name=@{tmp_path / 'name'}")[1] == GivenInput("name", text="Ada")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "input layer is missing"),
        (("layer=x", "layer=y"), "input layer is given 2 times, not 1 at most"),
        (("layer=x", "nme=y"), "clip has no input nme; it has: layer, name, box"),
        (("layer=x", "box=1,2"), "not a bounding box"),
        (("layer=@/nowhere",), "cannot read /nowhere"),
    ],
)
def test_what_the_process_does_not_take_is_refused(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        read(*arguments)


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (OutputValue("map", mime_type="image/png"), "map.png"),
        (OutputValue("map", mime_type="application/geo+json; charset=utf-8"), "map.geojson"),
        (OutputValue("map", href="http://x.org/out/a.laz"), "map.laz"),
        (OutputValue("../../etc/passwd"), "_.._etc_passwd"),
        (OutputValue("..", href="http://x.org/a.b%2f"), "output.b2f"),
        (OutputValue(""), "output"),
    ],
)
def test_an_outputs_file_stays_in_its_folder(output: OutputValue, name: str) -> None:
    assert file_name(output) == name


def test_outputs_are_printed_without_characters_that_steer_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [
        OutputValue("a", text="5", uom="m"),
        OutputValue("b", content=b"\x1b[31mred"),
        OutputValue("c", content=b"\xff\x00"),
        OutputValue("d", href="http://x.org/d"),
    ]
    show_outputs(NOBODY, outputs, None)
    assert capsys.readouterr().out == (
        "a = 5 m\nb = \ufffd[31mred\nc = (2 bytes; --output FOLDER saves them)\nd = http://x.org/d\n"
    )


def test_outputs_are_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_outputs(NOBODY, [OutputValue("c", content=b"\xff", mime_type="image/png")], tmp_path / "out")
    assert (tmp_path / "out" / "c.png").read_bytes() == b"\xff"
    assert capsys.readouterr().out == f"c = {tmp_path}/out/c.png\n"


class Answers(WpsClient):
    """A client whose server gives these answers, one after the other."""

    def __init__(self, *answers: ExecuteStatus | ClientError) -> None:
        self.answers = list(answers)

    def execute(self, document: bytes) -> ExecuteStatus:
        return self.status("")

    def status(self, location: str) -> ExecuteStatus:
        answer = self.answers.pop(0)
        if isinstance(answer, ClientError):
            raise answer
        return answer


ACCEPTED = ExecuteStatus("ProcessAccepted", "waits", 0, "http://x/1")
STARTED = ExecuteStatus("ProcessStarted", "", 5, "http://x/1")
DONE = ExecuteStatus("ProcessSucceeded", "done", 0, None)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Polls without pauses; sets for how long a silent server is asked."""
    monkeypatch.setattr(run, "POLL_FIRST", 0.0)

    def patience(seconds: float) -> None:
        monkeypatch.setattr(run, "PATIENCE", seconds)

    return patience


def test_a_job_is_followed_over_polls_that_fail(patient: Callable[[float], None]) -> None:
    patient(60)
    seen: list[ExecuteStatus] = []
    answers = Answers(ACCEPTED, ClientError("hiccup"), STARTED, DONE)
    assert execute(answers, b"", seen.append) == DONE
    assert seen == [ACCEPTED, ACCEPTED, STARTED, DONE]


def test_a_server_that_stays_silent_is_given_up(patient: Callable[[float], None]) -> None:
    patient(-1)
    with pytest.raises(ClientError, match="gone"):
        execute(Answers(ACCEPTED, ClientError("gone")), b"", lambda status: None)


def test_a_job_without_an_address_cannot_be_followed(patient: Callable[[float], None]) -> None:
    patient(60)
    with pytest.raises(ClientError, match="did not say where"):
        execute(Answers(ExecuteStatus("ProcessAccepted", "", 0, None)), b"", lambda status: None)


def test_a_status_is_one_line() -> None:
    assert describe_status(ExecuteStatus("ProcessStarted", "a\n b\x07", 5, None)) == "started: a b\ufffd"
    assert describe_status(STARTED) == "started"


def test_columns_are_aligned() -> None:
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]
    assert columns([]) == []


def test_times_and_text_for_people() -> None:
    assert (moment(None), moment(0.0)) == ("-", "1970-01-01T00:00:00Z")
    assert printable("ä\t\x1b\n") == "ä\t\ufffd\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("wrong"), "wrong"),
        (FileNotFoundError(2, "No such file or directory", "x"), "x: No such file or directory"),
        (KeyError("x"), "unexpected KeyError: 'x' (--debug shows where)"),
    ],
)
def test_an_error_is_a_sentence(error: Exception, said: str) -> None:
    assert _sentence(error) == said
