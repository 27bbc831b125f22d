"""Arrays out of pickles, without doing what a pickle asks for.

A pickle names functions and has them called. Here the few names that an array of numbers needs mean plain holders of
data, whatever they are called with, and every other name ends the reading. Knows no model.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openmodel_runtime.errors import CheckpointError

_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_DTYPES = {"f4": torch.float32, "i1": torch.int8, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Quantized:
    """Eight-bit numbers with their factors: (…, K, N) and (…, G, N), a factor for K / G rows of a column."""

    weight: Tensor
    scales: Tensor


def read_arrays(path: Path) -> Tensor | Quantized:
    """The array of a pickle, or the two of a `QuantizedWeight8bit`; CheckpointError for all else."""
    try:
        with path.open("rb") as file:
            held = _Unpickler(file).load()
        if isinstance(held, _QuantizedWeight):
            return Quantized(_tensor(held.weight), _tensor(held.scales))
        return _tensor(held)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError:
        raise
    except Exception as error:
        # Whatever a damaged or a hostile file makes of the opcodes.
        raise CheckpointError(f"{path} is no pickle of an array of numbers: {error!r}") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name in _NUMPY and global_name in _HOLDERS:
            return _HOLDERS[global_name]
        if global_name == "bfloat16":
            return "bfloat16"
        if global_name == "QuantizedWeight8bit":
            return _QuantizedWeight
        raise CheckpointError(f"it asks for {module_name}.{global_name}, which no array of numbers needs")


class _Array:
    """What numpy would make an array of."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _Dtype:
    def __init__(self, name: object, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Byte order and the like."""
        if state[1] not in ("<", "|"):
            raise CheckpointError(f"its numbers are stored {state[1]}, not <")


class _QuantizedWeight:
    weight: object = None
    scales: object = None

    def __setstate__(self, state: dict[str, object]) -> None:
        self.weight, self.scales = state["weight"], state["scales"]


_HOLDERS: dict[str, Any] = {"_reconstruct": _Array, "ndarray": _Array, "dtype": _Dtype}


def _tensor(held: object) -> Tensor:
    if not isinstance(held, _Array):
        raise CheckpointError(f"it holds a {type(held).__name__}, not an array")
    _, shape, dtype, fortran, octets = held.state
    known = _DTYPES.get(str(dtype.name))
    if known is None or fortran or len(octets) != math.prod(shape) * known.itemsize:
        raise CheckpointError(f"its array of {dtype.name} {shape} is in another form, or cut off")
    return torch.frombuffer(bytearray(octets), dtype=known).view(shape)
