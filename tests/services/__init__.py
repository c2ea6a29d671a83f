"""The real services that tests run against, and the rule for when one is missing."""

import os

import pytest


def require(name: str, available: object, how: str) -> None:
    """Go on only if a service is there: skip on a contributor's machine, fail where all must be present.

    `available` is judged by its truth; `how` says how to get the service, as a sentence or a command.
    With WPS_HPC_REQUIRE_CLUSTERS=1, as in continuous integration, a missing service fails the test.
    """
    if available:
        return
    reason = f"{name} is missing: {how}"
    if os.environ.get("WPS_HPC_REQUIRE_CLUSTERS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
