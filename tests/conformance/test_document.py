"""The list of what is shown, and the decorator that it is made from."""

from types import ModuleType

import pytest

from tests.conformance import DOCUMENT, Row, document, requirement, rows


def test_the_committed_list_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "run `make conformance`"


def test_a_module_is_listed_with_reasons_and_with_what_no_test_shows() -> None:
    module = ModuleType("test_some_standard")

    @requirement("req/1", "The first.")
    @requirement("req/2", "The second.")
    def test_both() -> None:
        """Not collected."""

    @pytest.mark.skip(reason="no such server")
    @requirement("req/3", "The third.")
    def test_skipped() -> None:
        """Not collected."""

    vars(module).update(test_both=test_both, test_skipped=test_skipped, helper=test_both, NOT_SHOWN={"req/4": "why"})
    shown = [(row.requirement.identifier, row.test, row.reason) for row in rows(module)]
    assert shown == [
        ("req/1", "test_both", None),
        ("req/2", "test_both", None),
        ("req/3", "test_skipped", "no such server"),
        ("req/4", None, "why"),
    ]


def test_a_skip_without_a_reason_is_an_error() -> None:
    module = ModuleType("test_some_standard")

    @pytest.mark.skip
    @requirement("req/1", "The first.")
    def test_skipped() -> None:
        """Not collected."""

    module.__dict__["test_skipped"] = test_skipped
    with pytest.raises(ValueError, match="without a reason"):
        list[Row](rows(module))


@pytest.mark.parametrize(("identifier", "text"), [("", "what"), ("req/1", ""), ("req/1", "two\nlines")])
def test_a_requirement_has_an_identifier_and_one_line(identifier: str, text: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        requirement(identifier, text)
