"""Says now and then how much of a checkpoint has come: a line of the log that the operator reads.

Knows a folder that fills; knows no hub.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 5.0


@contextmanager
def telling(folder: Path, total: int, seconds: float = _SECONDS) -> Iterator[None]:
    """While inside, writes `{"fetched": BYTES, "total": BYTES}` to standard error every few seconds."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(seconds):
            print(json.dumps({"fetched": min(bytes_in(folder), total), "total": total}), file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def bytes_in(folder: Path) -> int:
    """What files of the folder take, those that have come in part too."""
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            # Moved to its place meanwhile.
            continue
    return found
