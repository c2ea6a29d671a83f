"""WHERE jobs run: a named cluster is a scheduler, a transport, a container runtime and queues."""
