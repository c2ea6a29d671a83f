"""Docstrings of the three common styles say the same."""

import pytest

from wps_hpc.processes import docstrings

GOOGLE = """Buffer features.

    The first paragraph
    of two.

    The second.

    Args:
        distance (float): How far,
            in metres.
        features: What to buffer: points, lines.
        **more: Left over.

    Returns:
        GeoJSON: The buffered features.

    Raises:
        ValueError: never.
    """

NUMPY = """Buffer features.

    The first paragraph
    of two.

    The second.

    Parameters
    ----------
    distance : float, optional
        How far,
        in metres.
    features
        What to buffer: points, lines.
    more
        Left over.

    Returns
    -------
    GeoJSON
        The buffered features.

    Raises
    ------
    ValueError
        never.
    """

REST = """
    Buffer features.

    The first paragraph
    of two.

    The second.

    :param float distance: How far,
        in metres.
    :param features: What to buffer: points, lines.
    :type features: Path
    :param more: Left over.
    :returns: The buffered features.
    :raises ValueError: never.
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_styles(text: str) -> None:
    found = docstrings.parse(text)
    assert found.title == "Buffer features"
    assert found.abstract == "The first paragraph of two.\n\nThe second."
    assert dict(found.parameters) == {
        "distance": "How far, in metres.",
        "features": "What to buffer: points, lines.",
        "more": "Left over.",
    }
    assert found.returns == "The buffered features."


@pytest.mark.parametrize(
    "text",
    [
        "Two.\n\nReturns:\n    mean: The mean.\n    count (int): How\n        many.\n",
        "Two.\n\nReturns\n-------\nmean : float\n    The mean.\ncount : int\n    How\n    many.\n",
    ],
    ids=["google", "numpy"],
)
def test_named_results(text: str) -> None:
    assert dict(docstrings.parse(text).parts) == {"mean": "The mean.", "count": "How many."}


def test_several_names_share_a_numpy_text() -> None:
    found = docstrings.parse("Add.\n\nParameters\n----------\na, b : int\n    The terms.\n")
    assert dict(found.parameters) == {"a": "The terms.", "b": "The terms."}


@pytest.mark.parametrize("text", [None, "", "\n   \n"])
def test_no_docstring(text: str | None) -> None:
    assert docstrings.parse(text) == docstrings.Docstring()


def test_a_line_with_a_colon_is_no_heading() -> None:
    found = docstrings.parse("Title.\n\nFor example this:\n    stays: here\n\nCaution: also this.")
    assert found.abstract == "For example this: stays: here\n\nCaution: also this."
    assert found.parameters == {}


def test_text_after_the_fields_is_abstract_again() -> None:
    found = docstrings.parse("Title.\n\n:param a: First.\n\nMore words.")
    assert (found.abstract, dict(found.parameters)) == ("More words.", {"a": "First."})
