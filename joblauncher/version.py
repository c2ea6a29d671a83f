"""The version of wps-hpc that this launcher is part of."""

from __future__ import annotations

import pkgutil


def _version() -> str:
    try:
        # Only the zipapp has this file: it carries no package metadata.
        content = pkgutil.get_data("joblauncher", "VERSION")
    except OSError:
        # Imported here: it takes longer than the rest of the launcher, and the zipapp never needs it.
        from importlib.metadata import version

        return version("wps-hpc")
    assert content is not None
    return content.decode().strip()


VERSION = _version()
