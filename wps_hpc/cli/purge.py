"""``wps-hpc purge``: remove expired jobs now instead of at the worker's next round."""

from __future__ import annotations
