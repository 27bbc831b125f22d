"""What a rank has of a dense model whose matrices are shared: some of the heads, and some of the feed-forward's width.

Queries, keys, values, gates and ups are cut by rows, what brings them back by columns: a rank computes its heads and
its part of the width from first to last, and what all give back is added up. Embedding, head, norms are on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.family import Index, WeightPart
from openmodel_runtime.models.registry import weight_parts


@dataclass(frozen=True, slots=True)
class MatrixShard:
    """One rank's part."""

    rank: int
    ranks: int

    def config(self, config: ModelConfig) -> ModelConfig:
        """The model as this rank has it; ValueError says why it can not be shared so."""
        if config.experts is not None:
            raise ValueError(
                f"a {config.architecture} has experts, whose matrices are not shared: use parallelism.expert"
            )
        heads = config.attention.kv_heads
        if self.ranks > heads:
            raise ValueError(f"{heads} key/value heads can be shared by 1 to {heads} ranks, not by {self.ranks}")
        kv = self._range(heads)
        queries = config.attention.heads // heads
        width = self._range(config.feed_forward.intermediate_size)
        return replace(
            config,
            attention=replace(config.attention, heads=queries * (kv.stop - kv.start), kv_heads=kv.stop - kv.start),
            feed_forward=replace(config.feed_forward, intermediate_size=width.stop - width.start),
        )

    def parts(self, config: ModelConfig) -> Iterator[WeightPart]:
        """What this rank reads of the whole model's tensors, and where it goes."""
        for part in weight_parts(self.config(config)):
            yield self._cut(part, config)

    def _cut(self, part: WeightPart, config: ModelConfig) -> WeightPart:
        if name := part.parameter.partition(".attention.")[2]:
            return self._cut_attention(part, name, config)
        name = part.parameter.partition(".feed_forward.")[2]
        if not name:
            return part
        width = self._range(config.feed_forward.intermediate_size)
        return self._cut_back(part, name, width) if name.startswith("down") else _taking(part, (width,))

    def _cut_attention(self, part: WeightPart, name: str, config: ModelConfig) -> WeightPart:
        attention = config.attention
        kv, queries = self._range(attention.kv_heads), attention.heads // attention.kv_heads
        dim = attention.head_dim
        rows = slice(kv.start * queries * dim, kv.stop * queries * dim)
        if name.startswith("out"):
            return self._cut_back(part, name, rows)
        if name == "sinks":
            return _taking(part, (slice(kv.start * queries, kv.stop * queries),))
        if not name.startswith("qkv"):
            return part
        # Queries come first.
        (place,) = part.index
        is_query = isinstance(place, slice) and not place.start
        return _taking(part, (rows if is_query else slice(kv.start * dim, kv.stop * dim),))

    def _cut_back(self, part: WeightPart, name: str, columns: slice) -> WeightPart:
        """Of a matrix whose products are added up; of its bias, which is added once."""
        if name.endswith("weight"):
            return _taking(part, (slice(None), columns))
        return part if self.rank == 0 else replace(part, make=_Then(part.make, Tensor.zero_))

    def _range(self, count: int) -> slice:
        return slice(count * self.rank // self.ranks, count * (self.rank + 1) // self.ranks)


def _taking(part: WeightPart, taken: Index) -> WeightPart:
    """The part with so much of its tensor."""
    if part.make is None and not part.source:
        return replace(part, source=taken)
    # What is made of several tensors is made whole.
    return replace(part, make=_Then(part.make, lambda whole: whole[taken]))


class _Then:
    """What a part makes, with something done to it."""

    def __init__(self, make: Callable[..., Tensor] | None, then: Callable[[Tensor], Tensor]) -> None:
        self._make = make
        self._then = then

    def __call__(self, *read: Tensor) -> Tensor:
        return self._then(read[0] if self._make is None else self._make(*read))
