"""Processes to start from: each module is one that can be served as it stands."""
