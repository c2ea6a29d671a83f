"""The LIFE of one Execute, from admission to purge."""
