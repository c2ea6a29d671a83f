"""The process that both servers run: it gives its text back."""

from __future__ import annotations

from wps_hpc import process


@process(version="1.0")
def echo(text: str) -> str:
    """Echo.

    Gives back the text that it gets.
    """
    return text
