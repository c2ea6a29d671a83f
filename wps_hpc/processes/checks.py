"""What a description must keep to, so that every protocol can express it, whatever made it.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Union

from wps_hpc.processes import literals
from wps_hpc.processes.description import (
    LITERAL_TYPES,
    RANGE_CLOSURES,
    SYNC_PLACES,
    AllowedRange,
    ComplexData,
    DescriptionError,
    Input,
    LiteralData,
    NestedInputs,
    NestedOutputs,
    Output,
    ProcessDescription,
)

#: Identifiers stand in URLs, KVP lists and file names: no blanks, commas, semicolons, slashes.
IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


def check(description: ProcessDescription) -> None:
    """Raise DescriptionError, naming process and part, when the description cannot be expressed."""
    name = description.identifier
    _check_identifier("process", name)
    if description.sync not in SYNC_PLACES:
        raise DescriptionError(f"{name}: sync is one of {', '.join(SYNC_PLACES)}, not '{description.sync}'")
    if not description.outputs:
        raise DescriptionError(f"{name}: a process has at least one output")
    _check_items(f"{name}: input", description.inputs)
    _check_items(f"{name}: output", description.outputs)


def _check_identifier(where: str, identifier: str) -> None:
    if not IDENTIFIER.fullmatch(identifier):
        raise DescriptionError(f"{where}: '{identifier}' is not an identifier: letters, digits and _ . : - only")


def _check_items(where: str, items: Sequence[Union[Input, Output]]) -> None:
    seen: set[str] = set()
    for item in items:
        _check_identifier(where, item.identifier)
        if item.identifier in seen:
            raise DescriptionError(f"{where} '{item.identifier}' is described twice")
        seen.add(item.identifier)
        _check_item(f"{where} '{item.identifier}'", item)


def _check_item(where: str, item: Union[Input, Output]) -> None:
    if isinstance(item, Input):
        _check_occurs(where, item)
    if isinstance(item.data, LiteralData):
        _check_literal(where, item.data)
    elif isinstance(item.data, ComplexData) and not item.data.formats:
        raise DescriptionError(f"{where}: a complex value has at least one format")
    elif isinstance(item.data, NestedInputs):
        _check_items(where, item.data.inputs)
    elif isinstance(item.data, NestedOutputs):
        _check_items(where, item.data.outputs)


def _check_occurs(where: str, item: Input) -> None:
    if item.min_occurs < 0 or (item.max_occurs is not None and item.max_occurs < max(1, item.min_occurs)):
        raise DescriptionError(f"{where}: occurs from {item.min_occurs} to {item.max_occurs} times, which cannot be")


def _check_literal(where: str, data: LiteralData) -> None:
    if data.data_type not in LITERAL_TYPES:
        raise DescriptionError(f"{where}: '{data.data_type}' is not a WPS literal type")
    try:
        for item in data.allowed:
            _check_allowed(data.data_type, item)
        if data.default is not None and not data.advisory and not literals.allowed(data, data.default):
            raise DescriptionError(f"{where}: the default '{data.default}' is not an allowed value")
    except literals.LiteralError as error:
        raise DescriptionError(f"{where}: {error}") from error


def _check_allowed(data_type: str, item: Union[str, AllowedRange]) -> None:
    if isinstance(item, str):
        literals.parse(data_type, item)
        return
    if item.closure not in RANGE_CLOSURES:
        raise literals.LiteralError(f"closure is one of {', '.join(RANGE_CLOSURES)}, not '{item.closure}'")
    bounds = [literals.parse(data_type, text) for text in (item.minimum, item.maximum) if text is not None]
    order = literals.TYPES[data_type].order
    if any(bound != bound for bound in bounds):
        raise literals.LiteralError("NaN bounds no range")
    if len(bounds) == 2 and order(bounds[1]) < order(bounds[0]):
        raise literals.LiteralError(f"the range from {item.minimum} to {item.maximum} is empty")
    if item.spacing is not None:
        _check_spacing(data_type, item.spacing, bounds)


def _check_spacing(data_type: str, spacing: str, bounds: Sequence[Any]) -> None:
    if data_type in literals.NUMBERS:
        step = literals.parse(data_type, spacing)
        if not (math.isfinite(step) and step > 0 and all(math.isfinite(bound) for bound in bounds)):
            raise literals.LiteralError(f"the spacing {spacing} is not a positive number between finite bounds")
    elif data_type in literals.MOMENTS:
        _check_moment_spacing(data_type, literals.parse("duration", spacing))
    else:
        raise literals.LiteralError(f"values of type {data_type} have no spacing")


def _check_moment_spacing(data_type: str, step: literals.Duration) -> None:
    months, seconds = step.total_months, step.total_seconds
    by_months = months > 0 and seconds == 0 and data_type != "time"
    if not by_months and not (months == 0 and seconds > 0):
        raise literals.LiteralError(f"the spacing {step} is neither whole months nor a positive time without any")
    if months == 0:
        # Raises for what is finer than the microseconds that moments are kept to.
        step.timedelta()
