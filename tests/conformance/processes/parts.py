"""What the examples lack: an input given several times, several outputs, a process that nobody waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from wps_hpc import outputs, process


@dataclass(frozen=True)
class Joined:
    """Texts put together, and how many there were."""

    text: Annotated[str, outputs.literal(title="Text")]
    count: Annotated[int, outputs.literal(title="Count")]


@process(version="1.0.0")
def join(texts: list[str]) -> Joined:
    """Put texts together."""
    return Joined("+".join(texts), len(texts))


@process(version="1.0.0", sync="refused")
def later(text: str) -> str:
    """Give a text back to who comes for it."""
    return text
