"""The line between integers and tensors: runs a batch through the model and samples.

Knows the model and each sequence's cache; knows neither queue nor socket.
"""

from __future__ import annotations

import torch

from openmodel_runtime.engine.sampler import sample_token
from openmodel_runtime.engine.sequence import Batch, ScheduledSequence
from openmodel_runtime.kv_cache import SequenceCache
from openmodel_runtime.models.blocks import CausalLM, SequenceSlice


class ModelRunner:
    """Holds the caches of the sequences that run."""

    def __init__(self, model: CausalLM, eos_token_ids: frozenset[int]) -> None:
        self._model = model
        self._eos = sorted(eos_token_ids)
        self._caches: dict[int, SequenceCache] = {}

    def run(self, batch: Batch) -> list[int]:
        """Computes the batch; returns the next token of each scheduled sequence that samples, in order."""
        tokens: list[int] = []
        positions: list[int] = []
        slices = []
        sampled_rows = []
        for item in batch.scheduled:
            start = item.sequence.num_computed
            stop = start + item.num_tokens
            slices.append(self._slice(item, len(tokens)))
            tokens.extend(item.sequence.tokens[start:stop])
            positions.extend(range(start, stop))
            if item.samples:
                sampled_rows.append(len(tokens) - 1)
        with torch.inference_mode():
            logits_SV = self._model(
                torch.tensor(tokens), torch.tensor(positions), slices, torch.tensor(sampled_rows, dtype=torch.long)
            )
            sampling = [item for item in batch.scheduled if item.samples]
            return [self._sample(item, logits_SV[row]) for row, item in enumerate(sampling)]

    def release(self, request_id: int) -> None:
        """Frees the cache of a request that ended; unknown ids are those that never ran."""
        self._caches.pop(request_id, None)

    def _slice(self, item: ScheduledSequence, row: int) -> SequenceSlice:
        sequence = item.sequence
        cache = self._caches.get(sequence.request.request_id)
        if cache is None:
            embedding = self._model.embedding
            cache = SequenceCache(self._model.config, sequence.max_length, embedding.dtype, embedding.device)
            self._caches[sequence.request.request_id] = cache
        return SequenceSlice(row, row + item.num_tokens, sequence.num_computed, cache)

    def _sample(self, item: ScheduledSequence, logits_V: torch.Tensor) -> int:
        sequence = item.sequence
        params = sequence.request.sampling
        forbidden = None
        if sequence.num_generated < params.min_tokens:
            ends = ([] if params.ignore_eos else self._eos) + list(params.stop_token_ids)
            forbidden = torch.tensor(ends, dtype=torch.long) if ends else None
        return sample_token(logits_V, params, len(sequence.tokens), forbidden)
