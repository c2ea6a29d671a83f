"""The ways in which a command line reaches a cluster."""
