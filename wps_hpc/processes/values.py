"""The Python values that a process function takes and gives, where Python has none of its own.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from joblauncher.formats.values import BoundingBoxValue

#: A bounding box: ``lower`` and ``upper`` corners in the axis order of ``crs``, exactly as the client wrote them.
BoundingBox = BoundingBoxValue


@dataclass(frozen=True)
class Quantity:
    """A literal with its unit: annotate a parameter with it to be told which of the described units the client used.

    ``uom`` of None, in a result, is the output's default unit.
    """

    value: Any
    uom: Optional[str] = None


@dataclass(frozen=True)
class ComplexInput:
    """A complex input with what is known of its format. ``path`` is absolute; the file holds plain, decoded bytes."""

    path: Path
    mime_type: str
    encoding: Optional[str] = None
    schema: Optional[str] = None

    def read_bytes(self) -> bytes:
        """The whole content."""
        return self.path.read_bytes()

    def read_text(self) -> str:
        """The whole content as text: in its character set, else by its byte order mark, else UTF-8.

        Raises UnicodeDecodeError, or LookupError for an unknown character set.
        """
        named = None if (self.encoding or "").lower() in ("", "base64", "binary", "raw") else self.encoding
        return self.path.read_text(encoding=named or "utf-8-sig")

    def json(self) -> Any:
        """The content as JSON; raises ValueError when it is none."""
        return json.loads(self.read_bytes())


@dataclass(frozen=True)
class ComplexOutput:
    """A complex result whose format the author picks: Path, bytes, str, or what JSON can say.

    What is None comes from the wanted format. ``mime_type`` must be one of those described.
    """

    content: Union[Path, bytes, str, Any]
    mime_type: Optional[str] = None
    encoding: Optional[str] = None
    schema: Optional[str] = None
