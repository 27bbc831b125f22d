"""`python -m openmodel_runtime.rank FD`: one rank, started by the front with its end of a socket pair."""

from __future__ import annotations

import socket
import sys
import warnings

if __name__ == "__main__":
    # torch looks for numpy when it is imported; nothing here uses it, and the image does without.
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    from openmodel_runtime.rank.process import run_rank
    from openmodel_telemetry.logs import configure_logging

    configure_logging()
    sys.exit(run_rank(socket.socket(fileno=int(sys.argv[1]))))
