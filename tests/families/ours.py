"""Our model over a checkpoint, run in any chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from openmodel_kernels.interface import Kernels, SequenceRows
from openmodel_runtime.checkpoint.config_fields import ConfigFields, read_json
from openmodel_runtime.engine.loader import load_model
from openmodel_runtime.models.block_input import ExpertExchange, SharedMatrices
from openmodel_runtime.models.causal_lm import CausalLM, StepInput
from openmodel_runtime.models.layers import Numerics
from openmodel_runtime.models.registry import read_model_config
from openmodel_runtime.parallel.matrix_shard import MatrixShard
from openmodel_runtime.parallel.placement import Slots

_BLOCKS = 16


def load(
    folder: Path,
    kernels: Kernels,
    dtype: torch.dtype,
    *,
    int8: bool = False,
    slots: Mapping[int, Slots] | None = None,
    shard: MatrixShard | None = None,
) -> CausalLM:
    """The model; with `slots` or `shard`, the part of it that a rank holds."""
    config = read_model_config(ConfigFields(read_json(folder / "config.json")))
    return load_model(folder, config, Numerics(kernels, dtype, int8), slots, shard).model


class Sequences:
    """Sequences side by side over one cache, whose blocks lie anywhere."""

    def __init__(self, model: CausalLM, count: int) -> None:
        attention, kernels = model.config.attention, model.numerics.kernels
        self._model = model
        self._caches = kernels.new_cache(
            model.config.num_layers, count * _BLOCKS, attention.kv_heads, attention.head_dim, model.numerics.dtype
        )
        self._tables = [list(range(index, count * _BLOCKS, count))[::-1] for index in range(count)]
        self._done = [0] * count

    @torch.inference_mode()
    def run(
        self,
        chunks: Sequence[Sequence[int]],
        exchange: ExpertExchange | None = None,
        matrices: SharedMatrices | None = None,
    ) -> list[Tensor]:
        """Adds a chunk of tokens to each sequence; each one's logits, a row a token."""
        rows: list[SequenceRows] = []
        tokens: list[int] = []
        positions: list[int] = []
        for index, chunk in enumerate(chunks):
            rows.append(SequenceRows(len(tokens), len(chunk), self._done[index], self._tables[index]))
            tokens += chunk
            positions += range(self._done[index], self._done[index] + len(chunk))
            self._done[index] += len(chunk)
        step = self._model.numerics.kernels.attention_step(rows)
        logits = self._model(
            StepInput(_integers(tokens), _integers(positions), step, self._caches, None, exchange, matrices)
        )
        return list(torch.split(logits, [len(chunk) for chunk in chunks]))


def _integers(numbers: list[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)
