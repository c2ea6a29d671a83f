"""`python -m tests.conformance` writes the list of what is shown."""

from tests.conformance import write

write()
