"""Reads a tensor's bytes from its file to where they are wanted, in one go.

Mapping a file reads it in small pieces, one after another, whenever a page is missing, and copies what has come; a
large read is several times as fast from a disk and copies once from the page cache.
"""

from __future__ import annotations

import os
from contextlib import suppress

import torch
from torch import Tensor

from openmodel_runtime.checkpoint.tensor_files import TensorEntry
from openmodel_runtime.errors import CheckpointError

# Of a longer one Linux begins with what a device reads ahead and forgets the rest.
_PIECE_BYTES = 128 << 10
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_into(target: Tensor, entry: TensorEntry, source: tuple[int | slice, ...] = ()) -> bool:
    """Fills the target with the tensor, or with one of its first dimension; False when the bytes are not the numbers.

    Args:
        target: any place of the shape that is wanted.
        entry: where the tensor lies.
        source: () for all of it, (i,) for the i-th of its first dimension; anything else is read in another way.
    """
    if (found := _part(entry, source)) is None:
        return False
    shape, begin, end = found
    if _DTYPES.get(entry.dtype) is not target.dtype or tuple(target.shape) != shape or not target.is_contiguous():
        return False
    into = memoryview(target.reshape(-1).view(torch.uint8).numpy().data)
    with entry.file.open("rb", buffering=0) as file:
        while begin < end:
            got = os.preadv(file.fileno(), [into], begin)
            if not got:
                raise CheckpointError(f"{entry.file.name} has become shorter while it was read")
            begin, into = begin + got, into[got:]
    return True


def read_ahead(entry: TensorEntry, source: tuple[int | slice, ...] = ()) -> None:
    """Has the system begin to read what `read_into` would: a disk that is asked for many pieces at once gives more.

    A wish: where the system does not take it, nothing is lost but time.
    """
    if (found := _part(entry, source)) is None:
        return
    _, begin, end = found
    with entry.file.open("rb", buffering=0) as file, suppress(OSError):
        for piece in range(begin, end, _PIECE_BYTES):
            os.posix_fadvise(file.fileno(), piece, min(_PIECE_BYTES, end - piece), os.POSIX_FADV_WILLNEED)


def _part(entry: TensorEntry, source: tuple[int | slice, ...]) -> tuple[tuple[int, ...], int, int] | None:
    """Shape, first byte and end of what is wanted; None when it does not lie in one piece."""
    shape, begin, end = entry.shape, entry.begin, entry.end
    match source:
        case ():
            return shape, begin, end
        case (int() as index,) if shape and 0 <= index < shape[0]:
            size = (end - begin) // shape[0]
            return shape[1:], begin + index * size, begin + (index + 1) * size
    return None
