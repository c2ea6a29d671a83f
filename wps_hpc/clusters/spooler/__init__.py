"""The embedded batch system: a small daemon that starts jobs on this host, keeps track of them and cleans up.

It belongs to no worker and no web server: jobs and daemon outlive both. It has one thread, imports no author's code,
and speaks like any other batch system, by commands with an exit code and two streams (see ``commands``).
"""
