"""Processes that the conformance tests run, beside the examples."""
