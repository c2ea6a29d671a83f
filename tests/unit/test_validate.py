"""What can be said of a request without running it: completed when it fits, refused with code and locator when not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from joblauncher.formats.records import WantedOutput
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue
from wps_hpc.config import Limits, Settings
from wps_hpc.errors import (
    FileSizeExceeded,
    InvalidParameterValue,
    MissingParameterValue,
    ModeNotSupported,
    NoSuchFormat,
    NoSuchInput,
    ServiceError,
    StorageNotSupported,
    TooManyOutputs,
    WrongInputData,
)
from wps_hpc.jobs.request import (
    ExecuteRequest,
    Given,
    InlineContent,
    Mode,
    NestedGiven,
    OutputWish,
    Reference,
    Transmission,
)
from wps_hpc.jobs.validate import crs_key, validated
from wps_hpc.processes import formats
from wps_hpc.processes.description import (
    AllowedRange,
    BoundingBoxData,
    ComplexData,
    Input,
    LiteralData,
    NestedInputs,
    Output,
    ProcessDescription,
    Resources,
)

CRS84 = "urn:ogc:def:crs:OGC:1.3:CRS84"
EPSG4326 = "urn:ogc:def:crs:EPSG::4326"
SETTINGS = Settings(limits=Limits(input_bytes=1000, max_walltime_seconds=600))

DISTANCE = Input(
    "distance",
    data=LiteralData("double", (AllowedRange("0", "100", "open-closed", "0.5"),), uoms=("metre", "feet")),
)
STYLE = Input("style", data=LiteralData("string", ("round", "flat"), default="round"), min_occurs=0)
TAG = Input("tag", data=LiteralData(), min_occurs=0, max_occurs=2)
ZONES = Input("zones", data=ComplexData((formats.GEOJSON, formats.GML), 0.0005), min_occurs=0, max_occurs=None)
AREA = Input("area", data=BoundingBoxData((CRS84, EPSG4326)), min_occurs=0)
GROUP = Input("group", data=NestedInputs((DISTANCE, ZONES)), min_occurs=0)
PROCESS = ProcessDescription(
    "buffer",
    inputs=(DISTANCE, STYLE, TAG, ZONES, AREA, GROUP),
    outputs=(
        Output("result", data=ComplexData((formats.GEOJSON, formats.GML))),
        Output("length", data=LiteralData("double", uoms=("metre", "feet"))),
        Output("extent", data=BoundingBoxData()),
    ),
    resources=Resources(cores=4),
)
ONE_OUTPUT = replace(PROCESS, outputs=PROCESS.outputs[:1])


def literal(text: str, **fields: Any) -> LiteralValue:
    return LiteralValue(text, **fields)


def request(inputs: Mapping[str, Any] | None = None, /, **fields: Any) -> ExecuteRequest:
    basis: dict[str, Any] = {"distance": literal("5")}
    given_inputs = {**basis, **(inputs or {})}
    listed = {name: value if isinstance(value, tuple) else (value,) for name, value in given_inputs.items()}
    return ExecuteRequest("buffer", fields.pop("protocol", "wps1"), listed, **fields)


def run(
    inputs: Mapping[str, Any] | None = None, /, process: ProcessDescription = PROCESS, **fields: Any
) -> ExecuteRequest:
    return validated(process, request(inputs, **fields), SETTINGS)


def refused(
    kind: type[ServiceError],
    locator: str | None,
    inputs: Mapping[str, Any] | None = None,
    /,
    **fields: Any,
) -> str:
    with pytest.raises(ServiceError) as refusal:
        run(inputs, **fields)
    assert isinstance(refusal.value, kind)
    assert refusal.value.code == kind.code
    assert refusal.value.locator == locator
    assert refusal.value.text.endswith(".")
    return refusal.value.text


def test_advisory_values_are_only_advice() -> None:
    shade = Input("shade", data=LiteralData("integer", ("1", "2"), advisory=True))
    process = replace(PROCESS, inputs=(DISTANCE, shade))
    assert run({"shade": literal("9")}, process=process).inputs["shade"] == (LiteralValue("9", "integer"),)
    with pytest.raises(InvalidParameterValue, match="not an integer"):
        run({"shade": literal("nine")}, process=process)


def test_a_unit_may_be_named_by_its_reference() -> None:
    data = replace(DISTANCE.data, uom_references=(("feet", "urn:ogc:def:uom:OGC:1.0:feet"),))
    process = replace(PROCESS, inputs=(replace(DISTANCE, data=data),))
    given = literal("5", uom="urn:ogc:def:uom:OGC:1.0:feet")
    assert run({"distance": given}, process=process).inputs["distance"] == (LiteralValue("5.0", "double", "feet"),)


class TestOccurrences:
    def test_defaults_are_filled_in_and_absent_inputs_stay_absent(self) -> None:
        assert run().inputs == {
            "distance": (LiteralValue("5.0", "double", "metre"),),
            "style": (LiteralValue("round", "string"),),
        }

    def test_unknown_inputs(self) -> None:
        text = refused(NoSuchInput, "nonsense", {"nonsense": literal("1")})
        assert "distance" in text
        refused(NoSuchInput, "x" * 80 + "…", {"x" * 9000: literal("1")})

    def test_missing_inputs(self) -> None:
        refused(MissingParameterValue, "distance", {"distance": ()})
        three = replace(PROCESS, inputs=(replace(TAG, min_occurs=2, max_occurs=3),))
        with pytest.raises(MissingParameterValue) as refusal:
            validated(three, ExecuteRequest("p", "wps1", {"tag": (literal("a"),)}), SETTINGS)
        assert refusal.value.locator == "tag"

    def test_a_required_input_with_a_default_need_not_be_given(self) -> None:
        process = replace(PROCESS, inputs=(replace(STYLE, min_occurs=1),))
        done = validated(process, ExecuteRequest("p", "wps1"), SETTINGS)
        assert done.inputs == {"style": (LiteralValue("round", "string"),)}

    @given(st.integers(0, 5), st.integers(0, 3), st.none() | st.integers(1, 4))
    def test_counts(self, count: int, least: int, most: int | None) -> None:
        assume(most is None or least <= most)
        process = replace(PROCESS, inputs=(replace(TAG, min_occurs=least, max_occurs=most),))
        wanted = ExecuteRequest("p", "wps1", {"tag": tuple(literal(str(n)) for n in range(count))})
        if count < least:
            with pytest.raises(MissingParameterValue):
                validated(process, wanted, SETTINGS)
        elif most is not None and count > most:
            with pytest.raises(InvalidParameterValue):
                validated(process, wanted, SETTINGS)
        else:
            assert len(validated(process, wanted, SETTINGS).inputs.get("tag", ())) == count


class TestLiterals:
    @pytest.mark.parametrize("text", ["0", "100.5", "0.7", "abc", "", "NaN", "1e400"])
    def test_values_that_do_not_fit(self, text: str) -> None:
        refused(WrongInputData, "distance", {"distance": literal(text)})

    def test_the_words_say_what_is_allowed(self) -> None:
        assert "]0, 100] in steps of 0.5" in refused(WrongInputData, "distance", {"distance": literal("0")})
        assert "round, flat" in refused(WrongInputData, "style", {"style": literal("square")})

    def test_values_become_canonical(self) -> None:
        assert run({"distance": literal(" 1.5e1 ")}).inputs["distance"][0] == LiteralValue("15.0", "double", "metre")

    def test_units(self) -> None:
        assert run({"distance": literal("5", uom="feet")}).inputs["distance"][0] == LiteralValue(
            "5.0", "double", "feet"
        )
        assert "metre, feet" in refused(WrongInputData, "distance", {"distance": literal("5", uom="ell")})
        refused(WrongInputData, "tag", {"tag": literal("5", uom="metre")})

    @pytest.mark.parametrize("claimed", ["string", "double", "integer"])
    def test_a_claim_that_fits(self, claimed: str) -> None:
        assert run({"distance": literal("5", data_type=claimed)}).inputs["distance"][0] == LiteralValue(
            "5.0", "double", "metre"
        )

    @pytest.mark.parametrize("claimed", ["boolean", "dateTime", "nonsense"])
    def test_a_claim_that_contradicts(self, claimed: str) -> None:
        refused(WrongInputData, "distance", {"distance": literal("5", data_type=claimed)})

    @given(st.integers(-10, 210))
    def test_exactly_the_allowed_steps_pass(self, halves: int) -> None:
        text = str(halves / 2)
        if 0 < halves <= 200:
            assert run({"distance": literal(text)}).inputs["distance"] == (LiteralValue(text, "double", "metre"),)
        else:
            refused(WrongInputData, "distance", {"distance": literal(text)})


class TestComplex:
    def test_formats_are_resolved(self) -> None:
        zones = (
            InlineContent(b"{}"),
            InlineContent(b"{}", "application/vnd.geo+json"),
            InlineContent(b"<a/>", "application/gml+xml"),
        )
        done = run({"zones": zones}).inputs["zones"]
        assert [value.mime_type for value in done] == [  # type: ignore[union-attr]
            "application/geo+json",
            "application/geo+json",
            "application/gml+xml",
        ]

    def test_other_formats_are_refused_with_those_that_there_are(self) -> None:
        text = refused(NoSuchFormat, "zones", {"zones": InlineContent(b"", "image/png")})
        assert "application/geo+json; application/gml+xml" in text
        refused(NoSuchFormat, "zones", {"zones": InlineContent(b"", None, None, "http://other")})
        refused(NoSuchFormat, "zones", {"zones": InlineContent(b"", None, "rot13")})

    def test_a_reference_without_a_type_waits_for_what_it_is(self) -> None:
        bare = Reference("http://a/")
        assert run({"zones": bare}).inputs["zones"] == (bare,)
        typed = run({"zones": Reference("http://a/", "application/vnd.geo+json")}).inputs["zones"][0]
        assert typed == Reference("http://a/", "application/geo+json")
        refused(NoSuchFormat, "zones", {"zones": Reference("http://a/", "image/png")})

    def test_sizes(self) -> None:
        assert run({"zones": InlineContent(b"x" * 500)})
        refused(FileSizeExceeded, "zones", {"zones": InlineContent(b"x" * 501)})
        unlimited = replace(PROCESS, inputs=(DISTANCE, replace(ZONES, data=ComplexData((formats.GEOJSON,)))))
        assert run({"zones": InlineContent(b"x" * 1000)}, process=unlimited)
        refused(FileSizeExceeded, "zones", {"zones": InlineContent(b"x" * 1001)}, process=unlimited)


KINDS: list[tuple[str, Given]] = [
    ("distance", InlineContent(b"5")),
    ("distance", Reference("http://a/")),
    ("distance", BoundingBoxValue((0, 0), (1, 1))),
    ("zones", literal("5")),
    ("zones", BoundingBoxValue((0, 0), (1, 1))),
    ("zones", NestedGiven({})),
    ("area", literal("0,0,1,1")),
    ("area", InlineContent(b"")),
    ("group", literal("5")),
    ("group", FileValue("inputs/x", "text/plain")),
]


@pytest.mark.parametrize(("identifier", "value"), KINDS)
def test_another_kind_of_value_is_refused(identifier: str, value: Given) -> None:
    refused(WrongInputData, identifier, {identifier: value})


def box(*numbers: float, crs: str | None = None) -> BoundingBoxValue:
    half = len(numbers) // 2
    return BoundingBoxValue(numbers[:half], numbers[half:], crs)


class TestBoundingBoxes:
    def test_the_default_crs(self) -> None:
        assert run({"area": box(1, 2, 3, 4)}).inputs["area"] == (box(1, 2, 3, 4, crs=CRS84),)

    @pytest.mark.parametrize(
        "crs",
        [
            EPSG4326,
            "EPSG:4326",
            "urn:ogc:def:crs:EPSG:6.9:4326",
            "http://www.opengis.net/def/crs/EPSG/0/4326",
            "http://www.opengis.net/gml/srs/epsg.xml#4326",
            "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
            "CRS:84",
        ],
    )
    def test_a_supported_crs_stays_as_it_was_written(self, crs: str) -> None:
        assert run({"area": box(1, 2, 3, 4, crs=crs)}).inputs["area"] == (box(1, 2, 3, 4, crs=crs),)

    @pytest.mark.parametrize("crs", ["EPSG:3857", "nonsense", "EPSG:43260"])
    def test_another_crs_is_refused(self, crs: str) -> None:
        assert CRS84 in refused(WrongInputData, "area", {"area": box(1, 2, 3, 4, crs=crs)})

    @pytest.mark.parametrize(
        "wrong",
        [
            BoundingBoxValue((), ()),
            BoundingBoxValue((1, 2), (3,)),
            box(1, 2, 3, 4, 5, 6),
            box(1, float("nan"), 3, 4),
            box(1, 2, float("inf"), 4),
            box(1, 5, 3, 4),
            box(170, 5, -170, 4),
            box(200, 1, 190, 2),
            box(170, 1, -190, 2),
        ],
    )
    def test_what_is_no_box(self, wrong: BoundingBoxValue) -> None:
        refused(WrongInputData, "area", {"area": wrong})

    def test_a_box_may_cross_the_antimeridian(self) -> None:
        assert run({"area": box(170, 1, -170, 2)})
        assert run({"area": box(1, 170, 2, -170, crs=EPSG4326)})

    @given(
        st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2),
        st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2),
    )
    def test_in_metres_every_axis_is_in_order(self, lower: list[float], upper: list[float]) -> None:
        metres = replace(PROCESS, inputs=(DISTANCE, replace(AREA, data=BoundingBoxData(("EPSG:3857",)))))
        wanted = BoundingBoxValue(tuple(lower), tuple(upper))
        if all(low <= high for low, high in zip(lower, upper, strict=True)):
            assert run({"area": wanted}, process=metres)
        else:
            refused(WrongInputData, "area", {"area": wanted}, process=metres)


@given(st.from_regex(r"[A-Z]{2,6}", fullmatch=True), st.from_regex(r"[0-9]{1,6}", fullmatch=True))
def test_all_forms_of_a_crs_are_one(authority: str, code: str) -> None:
    urn = crs_key(f"urn:ogc:def:crs:{authority}::{code}")
    assert urn == crs_key(f"http://www.opengis.net/def/crs/{authority}/0/{code}") == (authority, code)
    assert crs_key(f"URN:OGC:DEF:CRS:{authority}:6.9:{code}".lower()) == urn


class TestNested:
    def test_what_is_within_is_completed_alike(self) -> None:
        done = run({"group": NestedGiven({"distance": (literal("7"),)})}).inputs["group"]
        assert done == (NestedGiven({"distance": (LiteralValue("7.0", "double", "metre"),)}),)

    def test_and_refused_alike(self) -> None:
        refused(MissingParameterValue, "distance", {"group": NestedGiven({})})
        refused(
            InvalidParameterValue,
            "other",
            {"group": NestedGiven({"distance": (literal("7"),), "other": (literal("1"),)})},
        )
        big = NestedGiven({"distance": (literal("7"),), "zones": (InlineContent(b"x" * 600),)})
        refused(FileSizeExceeded, "zones", {"group": big})


def wish(identifier: str, transmission: Transmission | None = None, **fields: Any) -> OutputWish:
    return OutputWish(WantedOutput(identifier, **fields), transmission)


class TestOutputs:
    def test_none_named_is_all(self) -> None:
        assert run().outputs == ()

    def test_formats_and_units(self) -> None:
        wanted = (wish("result", mime_type="APPLICATION/GML+XML"), wish("length", uom="feet"), wish("extent"))
        assert run(outputs=wanted).outputs == (
            wish("result", mime_type="application/gml+xml"),
            wish("length", uom="feet"),
            wish("extent"),
        )

    @pytest.mark.parametrize(
        ("identifier", "fields"),
        [
            ("other", {}),
            ("result", {"mime_type": "image/png"}),
            ("result", {"schema": "http://other"}),
            ("result", {"uom": "metre"}),
            ("length", {"uom": "ell"}),
            ("length", {"mime_type": "image/png"}),
            ("extent", {"uom": "metre"}),
            ("extent", {"schema": "http://other"}),
        ],
    )
    def test_what_an_output_is_not(self, identifier: str, fields: dict[str, str]) -> None:
        refused(InvalidParameterValue, identifier, outputs=(wish(identifier, **fields),))

    @pytest.mark.parametrize("mime_type", ["text/plain", "text/xml", "application/json"])
    def test_a_literal_is_written_as_its_document_likes(self, mime_type: str) -> None:
        wanted = (wish("length", mime_type=mime_type),)
        assert run(outputs=wanted).outputs == wanted

    def test_no_output_twice(self) -> None:
        refused(InvalidParameterValue, "result", outputs=(wish("result"), wish("result")))

    def test_raw_is_one_output(self) -> None:
        assert run(raw=True, outputs=(wish("length"),)).outputs == (wish("length"),)
        assert run(raw=True, process=ONE_OUTPUT).outputs == (wish("result"),)
        refused(TooManyOutputs, "result,length,extent", raw=True)
        refused(TooManyOutputs, "length,result", raw=True, outputs=(wish("length"), wish("result")))

    def test_by_reference_needs_a_store(self) -> None:
        by_reference = (wish("result", Transmission.REFERENCE),)
        assert run(outputs=by_reference).outputs == by_reference
        unstored = replace(PROCESS, store_supported=False)
        refused(StorageNotSupported, None, outputs=by_reference, process=unstored)


class TestMode:
    def test_asynchronous_needs_store_and_status(self) -> None:
        assert run(mode=Mode.ASYNC).mode is Mode.ASYNC
        for lacking in ({"store_supported": False}, {"status_supported": False}):
            process = replace(PROCESS, **lacking)  # type: ignore[arg-type]
            refused(StorageNotSupported, None, mode=Mode.ASYNC, process=process)
            assert run(mode=Mode.AUTO, process=process).mode is Mode.SYNC

    def test_the_options_of_wps_1(self) -> None:
        assert run(store=True, status=True, mode=Mode.ASYNC)
        refused(InvalidParameterValue, "status", status=True)
        unstored = replace(PROCESS, store_supported=False)
        refused(StorageNotSupported, None, store=True, process=unstored)
        silent = replace(PROCESS, status_supported=False)
        assert run(store=True, process=silent)
        assert run(store=True, mode=Mode.ASYNC, process=silent).mode is Mode.ASYNC
        refused(StorageNotSupported, None, store=True, status=True, process=silent)

    def test_a_process_may_refuse_to_be_waited_for(self) -> None:
        process = replace(PROCESS, sync="refused")
        refused(ModeNotSupported, "status", process=process)
        refused(ModeNotSupported, "mode", process=process, protocol="ogcapi")
        assert run(mode=Mode.AUTO, process=process).mode is Mode.ASYNC
        assert run(mode=Mode.AUTO).mode is Mode.AUTO


class TestResources:
    def test_wishes_within_the_caps(self) -> None:
        wishes = {"cores": 4, "walltime_s": 600, "gpus": 0, "nodes": 1}
        assert run(resources=wishes).resources == wishes

    @pytest.mark.parametrize(
        ("name", "wish"),
        [
            ("cores", 5),
            ("cores", 0),
            ("cores", True),
            ("cores", "4"),
            ("walltime_s", 601),
            ("gpus", 1),
            ("gpus", -1),
            ("memory_mb", 4096),
            ("queue", 1),
        ],
    )
    def test_wishes_beyond_them(self, name: str, wish: Any) -> None:
        refused(InvalidParameterValue, name, resources={name: wish})


anything = st.recursive(
    st.builds(LiteralValue, st.text(max_size=5), st.text(max_size=5), st.none() | st.text(max_size=5))
    | st.builds(InlineContent, st.binary(max_size=5), *[st.none() | st.text(max_size=5)] * 3)
    | st.builds(Reference, st.text(max_size=5), *[st.none() | st.text(max_size=5)] * 3)
    | st.builds(
        BoundingBoxValue,
        st.lists(st.floats(), max_size=3).map(tuple),
        st.lists(st.floats(), max_size=3).map(tuple),
        st.none() | st.text(max_size=5),
    ),
    lambda inner: st.builds(
        NestedGiven,
        st.dictionaries(st.sampled_from(["distance", "zones"]), st.lists(inner, max_size=2).map(tuple), max_size=2),
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from([entry.identifier for entry in PROCESS.inputs] + ["other"]),
        st.lists(anything, max_size=3).map(tuple),
        max_size=4,
    )
)
def test_whatever_comes_is_a_service_error_or_stable(inputs: dict[str, tuple[Given, ...]]) -> None:
    """No request is a traceback, and what was made complete once is complete."""
    try:
        done = run(inputs)
    except ServiceError as refusal:
        assert refusal.http_status < 500
        assert refusal.locator
    else:
        assert validated(PROCESS, done, SETTINGS) == done
