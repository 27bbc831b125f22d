"""A remote checkpoint without its data: small files as they are, of tensor files the header, and a hole for the rest.

What is inspected so is inspected by the same code as a whole one; nothing of 600 GB crosses the network for it.
"""

from __future__ import annotations

from pathlib import Path

from openmodel_fetch.hub import Hub, HubModel, is_small, tensor_files
from openmodel_runtime.errors import CheckpointError


def sketch(hub: Hub, model: HubModel, folder: Path) -> None:
    """Writes the sketch into the folder."""
    for file in model.files:
        if is_small(file.path):
            hub.fetch(model, file.path, folder)
    sizes = {file.path: file.size for file in model.files}
    for path in tensor_files(model, folder):
        header, data = hub.header(model, path)
        if not 0 <= data < sizes[path]:
            raise CheckpointError(f"{path} is truncated: its header promises {data} bytes, the file has {sizes[path]}")
        with (folder / path).open("wb") as out:
            out.write(header)
            out.truncate(len(header) + data)
