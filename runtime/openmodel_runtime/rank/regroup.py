"""Prepares the next group of a rank while it serves with this one: reads the experts it lacks, meets the others."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping

from openmodel_kernels.interface import PackedWeight
from openmodel_runtime.checkpoint.model_config import ExpertsConfig
from openmodel_runtime.config import GroupMember
from openmodel_runtime.engine.loader import CheckpointSource, load_experts
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.layers import Experts, Numerics
from openmodel_runtime.parallel.exchange import GroupExchange
from openmodel_runtime.parallel.expert_load import ExpertLoad
from openmodel_runtime.parallel.mailbox import GroupBroken, Mailbox
from openmodel_runtime.parallel.meeting import open_mailbox
from openmodel_runtime.parallel.membership import NextGroup
from openmodel_runtime.parallel.placement import Placement, Slots
from openmodel_runtime.rank.messages import Regroup

_log = logging.getLogger(__name__)
_NICE = 15
Packed = tuple[PackedWeight, PackedWeight]
"""Of a layer's experts: gate and up, down."""


class Regrouper:
    """What a rank needs to change its experts."""

    def __init__(
        self, source: CheckpointSource, experts: ExpertsConfig, model: CausalLM, slots: Mapping[int, Slots]
    ) -> None:
        self._source = source
        self._experts = experts
        self._hidden = model.config.hidden_size
        self._numerics: Numerics = model.numerics
        self._layers = model.expert_layers()
        self._slots = dict(slots)
        self._meeting: Mailbox | None = None
        self.load = ExpertLoad(slots, experts.count)
        """Of all experts, as far as this rank has taken part."""

    def begin(self, message: Regroup, done: Callable[[NextGroup], None]) -> None:
        """Prepares in a thread, and hands the group to `done`. A rank that can not read its experts ends."""
        if self._meeting is not None:
            self._meeting.stop()
            self._meeting = None
        member = message.member
        if member is None:
            done(NextGroup(message.epoch, None, lambda: None))
            return
        self._meeting = open_mailbox(member)
        arguments = (member, Placement(member.size, message.layers), self._meeting, done, message.broken)
        threading.Thread(target=self._prepare, args=arguments, name="regroup", daemon=True).start()

    def _prepare(
        self,
        member: GroupMember,
        placement: Placement,
        mailbox: Mailbox,
        done: Callable[[NextGroup], None],
        broken: bool,
    ) -> None:
        if not broken:
            # Others are served meanwhile: this thread, and those that it starts, take what the engine leaves them.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            slots = placement.of_rank(member.rank)
            packed = self._packed(slots)
            mailbox.meet()
            exchange = GroupExchange(mailbox, placement, self._experts.count, self.load)
        except GroupBroken as error:
            # It was overtaken by another.
            _log.warning("the group of epoch %d did not come about: %s", member.epoch, error)
        except Exception:
            _log.exception("the experts of epoch %d can not be read", member.epoch)
            os._exit(1)
        else:
            if self._meeting is mailbox:
                # It came about: whatever is prepared next, this one goes on until that is entered.
                self._meeting = None
            done(NextGroup(member.epoch, exchange, lambda: self._enter(slots, packed)))

    def _packed(self, slots: Mapping[int, Slots]) -> dict[int, Packed]:
        """The layers' experts in their new slots; those that are here are shared, the others read."""
        lacking = {
            layer: tuple(expert for expert in experts if expert not in self._slots[layer])
            for layer, experts in slots.items()
        }
        read = load_experts(self._source, self._hidden, self._experts, self._numerics, lacking)
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
