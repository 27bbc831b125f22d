"""Entry point: `openmodel-fetch inspect --model FOLDER`.

The summary goes to standard output and to the termination message, where the operator finds it; so does what is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from openmodel_fetch.inspection import inspect_checkpoint
from openmodel_runtime.errors import EXIT_START_FAILED, StartError

# The kubelet keeps so much of a termination message.
_MOST_BYTES = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or EXIT_START_FAILED when trying again would not help."""
    parser = argparse.ArgumentParser(prog="openmodel-fetch", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="say what a checkpoint is, without reading its data")
    inspect.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    inspect.add_argument("--termination-message-path", type=Path, default=None)
    options = parser.parse_args(arguments)
    try:
        told = json.dumps(asdict(inspect_checkpoint(options.model)), separators=(",", ":"))
        code = 0
    except StartError as error:
        told = json.dumps({"reason": error.reason, "message": str(error)})
        code = EXIT_START_FAILED
    print(told, file=sys.stderr if code else sys.stdout, flush=True)
    if options.termination_message_path is not None:
        options.termination_message_path.write_bytes(_cut(told))
    return code


def _cut(told: str) -> bytes:
    """The message, short enough; only what is wrong can be too long, and its end is then left out."""
    if len(told.encode()) <= _MOST_BYTES:
        return told.encode()
    said = json.loads(told)
    said["message"] = said["message"][: _MOST_BYTES // 8] + " …"
    return json.dumps(said).encode()
