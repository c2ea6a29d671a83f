"""The neutral description, and the checks that keep it expressible."""

from dataclasses import replace

import pytest

from wps_hpc.processes import formats
from wps_hpc.processes.checks import check
from wps_hpc.processes.description import (
    AllowedRange,
    ComplexData,
    Described,
    DescriptionError,
    Input,
    LiteralData,
    NestedInputs,
    NestedOutputs,
    Output,
    ProcessDescription,
    Translation,
)

TRANSLATED = Described(
    "dem",
    "Elevation",
    "Heights in metres.",
    translations=(Translation("fr-CA", "Altitude", "Hauteurs."), Translation("de", "Höhe")),
)
GOOD = ProcessDescription(
    "org.example.slope",
    inputs=(
        Input("dem", data=ComplexData((formats.GEOTIFF,))),
        Input("angle", data=LiteralData("angle", (AllowedRange("0.0", "90.0"),), default="45.0"), min_occurs=0),
        Input("area", data=NestedInputs((Input("name"), Input("size", max_occurs=None)))),
    ),
    outputs=(
        Output("result", data=ComplexData((formats.GEOTIFF,))),
        Output("more", data=NestedOutputs((Output("a"),))),
    ),
)


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("fr-CA", ("Altitude", "Hauteurs.")),
        ("FR-ca", ("Altitude", "Hauteurs.")),
        ("fr", ("Altitude", "Hauteurs.")),
        ("fr-FR", ("Altitude", "Hauteurs.")),
        ("de-AT", ("Höhe", "Heights in metres.")),
        ("en-US", ("Elevation", "Heights in metres.")),
    ],
)
def test_words_in_a_language(language: str, words: tuple[str, str]) -> None:
    assert TRANSLATED.words(language) == words


def test_an_exact_language_comes_before_a_related_one() -> None:
    both = replace(TRANSLATED, translations=(Translation("fr-CA", "d'ici"), Translation("fr-FR", "de là-bas")))
    assert both.words("fr-FR")[0] == "de là-bas"


def test_a_thing_without_a_title_is_called_by_its_identifier() -> None:
    assert Described("dem").words("en") == ("dem", "")


def test_items_by_identifier() -> None:
    assert GOOD.input("angle") is GOOD.inputs[1]
    assert GOOD.output("result") is GOOD.outputs[0]
    assert GOOD.input("result") is None
    assert GOOD.output("dem") is None


def test_a_good_description_passes() -> None:
    check(GOOD)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (replace(GOOD, identifier="two words"), "'two words'"),
        (replace(GOOD, identifier=""), "identifier"),
        (replace(GOOD, identifier="../up"), "'../up'"),
        (replace(GOOD, sync="never"), "never"),
        (replace(GOOD, outputs=()), "at least one output"),
        (replace(GOOD, inputs=(Input("a"), Input("a"))), "'a' is described twice"),
        (replace(GOOD, inputs=(Input("a;b"),)), "'a;b'"),
        (replace(GOOD, inputs=(Input("a", min_occurs=-1),)), "-1"),
        (replace(GOOD, inputs=(Input("a", max_occurs=0),)), "from 1 to 0"),
        (replace(GOOD, inputs=(Input("a", min_occurs=0, max_occurs=0),)), "from 0 to 0"),
        (replace(GOOD, inputs=(Input("a", data=ComplexData(())),)), "format"),
        (replace(GOOD, outputs=(Output("a", data=ComplexData(())),)), "format"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("real")),)), "'real'"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("integer", ("x",))),)), "'x'"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("integer", ("1",), default="2")),)), "default '2'"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("integer", default="two")),)), "'two'"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("date", (AllowedRange("2024", None),))),)), "'2024'"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("integer", (AllowedRange("2", "1"),))),)), "empty"),
        (
            replace(GOOD, inputs=(Input("a", data=LiteralData("integer", (AllowedRange("1", closure="x"),))),)),
            "closure",
        ),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("double", (AllowedRange(spacing="0"),))),)), "spacing"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("double", (AllowedRange(spacing="INF"),))),)), "spacing"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("date", (AllowedRange(spacing="-P1D"),))),)), "spacing"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("date", (AllowedRange(spacing="P1M1D"),))),)), "spacing"),
        (replace(GOOD, inputs=(Input("a", data=LiteralData("string", (AllowedRange(spacing="a"),))),)), "spacing"),
        (replace(GOOD, inputs=(Input("a", data=NestedInputs((Input("b c"),))),)), "'b c'"),
        (replace(GOOD, outputs=(Output("a", data=NestedOutputs((Output("b"), Output("b")))),)), "twice"),
    ],
)
def test_what_no_protocol_can_express_is_refused(broken: ProcessDescription, words: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        check(broken)
    assert words in str(caught.value)
