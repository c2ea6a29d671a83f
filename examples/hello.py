"""The shortest process: a name in, a greeting out. Plain Python."""

from __future__ import annotations

from typing import Annotated

from wps_hpc import inputs, outputs, process


@process(version="1.0.0", keywords=["greeting"])
def hello(
    name: Annotated[str, inputs.literal(title="Name")] = "world",
) -> Annotated[str, outputs.literal(identifier="greeting", title="Greeting")]:
    """Say hello.

    Answers with a greeting, to see that everything works.

    Args:
        name: Whom to greet.

    Returns:
        The greeting.
    """
    return f"Hello, {name}!"
