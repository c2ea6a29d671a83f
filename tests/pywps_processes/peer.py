"""PyWPS itself, serving the same processes: ``python -m tests.pywps_processes.peer PORT OUTPUTS``.

Its configuration is that of ``$PYWPS_CFG``; what it stores is served below ``/outputs``.
"""

import sys

from pywps import Service
from werkzeug.middleware.shared_data import SharedDataMiddleware
from werkzeug.serving import run_simple

from tests.pywps_processes import processes


def main(port: str, outputs: str) -> None:
    """Serve until killed."""
    run_simple("127.0.0.1", int(port), SharedDataMiddleware(Service(processes), {"/outputs": outputs}), threaded=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
