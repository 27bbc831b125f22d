"""How the runtime's processes log: one line an event, to standard error. Never what callers send or get."""

from __future__ import annotations

import logging


def configure_logging() -> None:
    """Sets up logging for the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
