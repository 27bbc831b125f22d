"""`python -m openmodel_runtime.rank FD`: one rank, started by the front with its end of a socket pair."""

from __future__ import annotations

import socket
import sys

from openmodel_runtime.rank.process import run_rank

if __name__ == "__main__":
    sys.exit(run_rank(socket.socket(fileno=int(sys.argv[1]))))
