"""The line between integers and tensors: runs a batch through the model and samples.

Knows the model and the paged cache; knows neither queue nor socket. Running a batch again computes the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openmodel_kernels.interface import LayerCache, SequenceRows
from openmodel_runtime.engine.masks import MaskWorker, in_rows
from openmodel_runtime.engine.sampler import sample
from openmodel_runtime.engine.sequence import Batch, SampledToken
from openmodel_runtime.engine.step_plan import StepPlan
from openmodel_runtime.errors import OutOfMemory
from openmodel_runtime.models.causal_lm import CausalLM, StepInput
from openmodel_runtime.parallel.step_group import StepExchange


class ModelRunner:
    """Holds the model and its cache."""

    def __init__(self, model: CausalLM, caches: Sequence[LayerCache], eos_token_ids: frozenset[int]) -> None:
        self._model = model
        self._caches = caches
        self._eos_token_ids = eos_token_ids
        self._masks = MaskWorker(beside=model.numerics.kernels.device.type != "cpu")

    def run(self, batch: Batch, exchange: StepExchange | None = None) -> list[SampledToken]:
        """Computes the batch; the next token of each scheduled sequence that samples, in order.

        Raises OutOfMemory when there is not enough, SequenceFailed when one of them can not go on; nothing is lost then
        but the step.
        """
        try:
            return self._run(batch, exchange)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise OutOfMemory(f"a step of {batch.num_tokens} tokens did not fit into memory") from error
            raise

    def touch(self, block: int) -> None:
        """Writes to a block that holds nothing, so that its memory is there when a step needs it."""
        for cache in self._caches:
            cache.keys_BGX[block].zero_()
            cache.values_BGX[block].zero_()

    def _run(self, batch: Batch, exchange: StepExchange | None) -> list[SampledToken]:
        with torch.inference_mode():
            sampling = [item.sequence for item in batch.scheduled if item.samples]
            begun = self._masks.begin(sampling)
            logits_SV = self._model(self._step_input(batch, exchange))
            allowed_SO = in_rows(begun.result(), logits_SV.shape[1])
            likeliest = self._model.numerics.kernels.likeliest(logits_SV, allowed_SO)
            return sample(logits_SV, likeliest, sampling, allowed_SO, self._eos_token_ids)

    def _step_input(self, batch: Batch, exchange: StepExchange | None) -> StepInput:
        plan = StepPlan.of(batch)
        shared = None if exchange is None else exchange.matrices
        if shared is not None:
            numbers = shared.agree(plan.numbers())
            plan = plan if shared.leads else StepPlan.from_numbers(numbers)
        tokens: list[int] = []
        positions: list[int] = []
        rows = []
        for row in plan.rows:
            rows.append(SequenceRows(len(tokens), len(row.tokens), row.start, row.blocks))
            tokens.extend(row.tokens)
            positions.extend(range(row.start, row.start + len(row.tokens)))
        kernels = self._model.numerics.kernels
        return StepInput(
            tokens_T=_integers(tokens, kernels.device),
            positions_T=_integers(positions, kernels.device),
            attention=kernels.attention_step(rows),
            caches=self._caches,
            exchange=None if exchange is None else exchange.experts,
            shared=shared,
            sampled_S=None if len(plan.sampled) == len(tokens) else _integers(plan.sampled, kernels.device),
        )


def _integers(numbers: list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.long, device=device)
