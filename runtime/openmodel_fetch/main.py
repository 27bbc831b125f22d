"""Entry point: `openmodel-fetch inspect`, `verify`, `download` and `convert-grok-1`.

What is found goes to standard output and to the termination message, where the operator reads it; so do errors.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openmodel_fetch.download import download
from openmodel_fetch.errors import EXIT_INTERRUPTED, DigestMismatch, FetchInterrupted
from openmodel_fetch.grok1 import convert_grok1
from openmodel_fetch.hub import Hub, fetched_bytes
from openmodel_fetch.inspection import inspect_checkpoint
from openmodel_fetch.manifest import NAME, digest_of_folder
from openmodel_fetch.sketch import sketch
from openmodel_fetch.source import parse_source
from openmodel_runtime.checkpoint.config_fields import read_json
from openmodel_runtime.errors import EXIT_START_FAILED, CheckpointError, StartError

# The kubelet keeps so much of a termination message.
_MOST_BYTES = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, EXIT_START_FAILED when trying again would not help, EXIT_INTERRUPTED when it may."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    options = _parser().parse_args(arguments)
    code, told = 0, ""
    try:
        told = json.dumps(_COMMANDS[options.command](options), separators=(",", ":"))
    except (StartError, FetchInterrupted) as error:
        code = EXIT_START_FAILED if isinstance(error, StartError) else EXIT_INTERRUPTED
        told = json.dumps({"reason": error.reason, "message": str(error)})
    print(told, file=sys.stderr if code else sys.stdout, flush=True)
    if options.termination_message_path is not None:
        options.termination_message_path.write_bytes(_cut(told))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="openmodel-fetch", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="say what a checkpoint is, without reading its data")
    where = inspect.add_mutually_exclusive_group(required=True)
    where.add_argument("--model", type=Path, help="folder of the checkpoint")
    where.add_argument("--source", help="hf://ORGANIZATION/NAME: headers alone are fetched")
    verify = commands.add_parser("verify", help="read the whole checkpoint, and say whether it has this digest")
    verify.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    verify.add_argument("--digest", required=True, help="sha256:… over the sorted lines PATH SIZE SHA256 of all files")
    verify.add_argument("--termination-message-path", type=Path)
    convert = commands.add_parser("convert-grok-1", help="make a checkpoint of the pickles that xAI published")
    convert.add_argument("--checkpoint", type=Path, required=True, help="the folder ckpt-0")
    convert.add_argument("--to", type=Path, required=True, help="folder of the checkpoint that is made")
    convert.add_argument("--termination-message-path", type=Path)
    fetch = commands.add_parser("download", help="fetch a checkpoint into a cache, and say what it is")
    fetch.add_argument("--source", required=True, help="hf://ORGANIZATION/NAME")
    fetch.add_argument("--cache", type=Path, required=True, help="folder of the cache")
    for command in (inspect, fetch):
        command.add_argument("--revision", help="branch, tag or commit (main)")
        command.add_argument("--endpoint", help="a mirror's URL")
        command.add_argument("--token-file", type=Path, help="file with a token of the hub")
        command.add_argument("--termination-message-path", type=Path)
    return parser


def _inspect(options: argparse.Namespace) -> Mapping[str, Any]:
    if options.model is not None:
        with _readable():
            return asdict(inspect_checkpoint(options.model))
    hub, _ = _hub(options)
    model = hub.resolve()
    with tempfile.TemporaryDirectory() as folder:
        sketch(hub, model, Path(folder))
        inspection = inspect_checkpoint(Path(folder))
        told = {**asdict(inspection), "commit": model.commit, "download_bytes": fetched_bytes(model, Path(folder))}
    return told


def _verify(options: argparse.Namespace) -> Mapping[str, Any]:
    with _readable():
        found = digest_of_folder(options.model)
    if found != options.digest:
        raise DigestMismatch(f"spec.model.digest: the checkpoint has {found}: nothing of it is served")
    return {"digest": found}


def _convert(options: argparse.Namespace) -> Mapping[str, Any]:
    with _readable():
        return {"parameters": convert_grok1(options.checkpoint, options.to)}


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise CheckpointError(f"{error.filename} can not be read by user {os.getuid()}") from None
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CheckpointError(f"{error.filename} is no file: {error.strerror}") from None


def _download(options: argparse.Namespace) -> Mapping[str, Any]:
    hub, repository = _hub(options)
    model = hub.resolve()
    place = download(hub, repository, model, options.cache)
    return {
        **asdict(inspect_checkpoint(place)),
        "commit": model.commit,
        "path": str(place.relative_to(options.cache)),
        "digest": read_json(place / NAME)["digest"],
    }


_COMMANDS = {"inspect": _inspect, "verify": _verify, "download": _download, "convert-grok-1": _convert}


def _hub(options: argparse.Namespace) -> tuple[Hub, str]:
    source = parse_source(options.source, options.revision, options.endpoint, options.token_file)
    return Hub(source), source.repository


def _cut(told: str) -> bytes:
    """The message, short enough; only what is wrong can be too long, and its end is then left out."""
    if len(told.encode()) <= _MOST_BYTES:
        return told.encode()
    said = json.loads(told)
    said["message"] = said["message"][: _MOST_BYTES // 8] + " …"
    return json.dumps(said).encode()
