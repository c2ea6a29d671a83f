"""WHAT can run: one neutral description, and a module for each place a process can come from."""
