"""A rank's experts from one group to the next: it reads those that it lacks, and lets go of those that others have."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from openmodel_kernels.interface import PackedWeight
from openmodel_runtime.checkpoint.model_config import ExpertsConfig
from openmodel_runtime.config import GroupMember
from openmodel_runtime.engine.loader import CheckpointSource, load_experts
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.layers import Experts, Numerics
from openmodel_runtime.parallel.exchange import GroupExchange
from openmodel_runtime.parallel.expert_load import ExpertLoad
from openmodel_runtime.parallel.mailbox import Mailbox
from openmodel_runtime.parallel.placement import Placement, Slots

# Some read, some pack.
_URGENT_THREADS = 4
Packed = tuple[PackedWeight, PackedWeight]
"""Of a layer's experts: gate and up, down."""


class ExpertSharing:
    """What a rank needs to change its experts; see `Sharing`."""

    def __init__(
        self, source: CheckpointSource, experts: ExpertsConfig, model: CausalLM, slots: Mapping[int, Slots]
    ) -> None:
        self._source = source
        self._experts = experts
        self._hidden = model.config.hidden_size
        self._numerics: Numerics = model.numerics
        self._layers = model.expert_layers()
        self._slots = dict(slots)
        self.load = ExpertLoad(slots, experts.count)
        """Of all experts, as far as this rank has taken part."""

    def prepare(
        self, member: GroupMember, layers: Mapping[int, tuple[Slots, ...]], mailbox: Mailbox, *, urgent: bool
    ) -> tuple[GroupExchange, Callable[[], None]]:
        """See `Sharing`."""
        placement = Placement(member.size, layers)
        slots = placement.of_rank(member.rank)
        packed = self._packed(slots, _URGENT_THREADS if urgent else 1)
        mailbox.meet()
        exchange = GroupExchange(mailbox, placement, self._experts.count, self.load)
        return exchange, lambda: self._enter(slots, packed)

    def _packed(self, slots: Mapping[int, Slots], threads: int) -> dict[int, Packed]:
        """The layers' experts in their new slots; those that are here are shared, the others read."""
        lacking = {
            layer: tuple(expert for expert in experts if expert not in self._slots[layer])
            for layer, experts in slots.items()
        }
        read = load_experts(self._source, self._hidden, self._experts, self._numerics, lacking, threads)
        return {
            layer: self._pick(layer, experts, lacking[layer], read.get(layer))
            for layer, experts in slots.items()
            if experts
        }

    def _pick(self, layer: int, experts: Slots, lacking: Slots, read: Experts | None) -> Packed:
        here, places = self._layers[layer], []
        for expert in experts:
            if expert in lacking:
                assert read is not None
                places.append((read, lacking.index(expert)))
            else:
                places.append((here, self._slots[layer].index(expert)))
        pick = self._numerics.kernels.pick
        return (
            pick([(layers.gate_up.weight.packed, place) for layers, place in places]),
            pick([(layers.down.weight.packed, place) for layers, place in places]),
        )

    def _enter(self, slots: Mapping[int, Slots], packed: Mapping[int, Packed]) -> None:
        # One that holds none of a layer's experts is asked for none of them.
        for layer, (gate_up, down) in packed.items():
            self._layers[layer].gate_up.weight.packed = gate_up
            self._layers[layer].down.weight.packed = down
        self._slots = dict(slots)
