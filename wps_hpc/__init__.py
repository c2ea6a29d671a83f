"""wps-hpc: OGC web processing on the cluster that a centre already has.

Process authors import from here: ``process`` and the types that annotate inputs and outputs.
"""
