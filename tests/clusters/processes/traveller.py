"""A process whose result travels: it tells who ran it, and where."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path
from typing import Annotated

from wps_hpc import Job, formats, inputs, outputs, process


@process(title="Tell who runs it", version="1.0.0")
def who(
    kilobytes: int = 0, until: str = "", job: Job | None = None
) -> Annotated[Path, outputs.complex(formats.TEXT, identifier="account")]:
    """Write the name of the account and the path of the working directory, then so many kilobytes of dots.

    Waits until the file ``until`` exists.
    """
    assert job is not None
    print("the dots begin")
    job.progress(50, "waiting")
    while until and not Path(until).exists():
        time.sleep(0.02)
    path = job.workdir / "account.txt"
    with path.open("w", encoding="ascii") as stream:
        stream.write(f"{pwd.getpwuid(os.getuid()).pw_name} {job.workdir}\n")
        for _ in range(kilobytes):
            stream.write("." * 1000)
    return path


@process(title="Turn a text around", version="1.0.0")
def turned(
    text: Annotated[str, inputs.complex(formats.TEXT)], job: Job | None = None
) -> Annotated[Path, outputs.complex(formats.TEXT, identifier="turned")]:
    """Write a text from its end to its beginning into a file."""
    assert job is not None
    print(f"{len(text)} letters have come")
    path = job.workdir / "turned.txt"
    path.write_text(text[::-1], encoding="utf-8")
    return path
