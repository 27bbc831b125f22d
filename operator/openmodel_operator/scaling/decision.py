"""How many groups a model should have now.

Pure: what was wanted and done before, and the clock, are arguments; it remembers nothing. Up is fast, down is slow:
too few groups keep callers waiting, too many cost for a while. Whoever begins anew, as a new leader does, has to see
the whole of the slow window before it takes anything away.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from openmodel_operator.scaling.load import ModelLoad
from openmodel_operator.scaling.pressure import pressure
from openmodel_operator.scaling.window import Window
from openmodel_operator.spec import AutoscalingSpec

# Experts that are loaded less evenly than this are moved before a group is added.
_UNEVEN = 1.3
# As an HPA's default has it.
_STEP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """How fast the count may change; seconds."""

    up: float = 4.0
    """So long more groups must have been called for."""
    up_pause: float = 15.0
    """Between two steps up, each to at most twice the count, or four groups more."""
    down: float = 300.0
    """So long fewer must have been enough."""
    down_pause: float = 15.0
    """Between two steps down, each of which at most halves the count."""
    rebalance: float = 60.0
    """So long moving experts is waited for."""
    patience: float = 1800.0
    """So long groups that start, end or are replaced keep others from being taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a model has to do, and what there is to do it."""

    replicas: int
    """Groups that are asked for."""
    ready: int
    """Groups that serve."""
    settled: bool
    """Nothing starts, ends or is replaced."""
    load: ModelLoad | None
    """None: no group says."""
    held: int
    """Calls that routers hold."""
    max_num_seqs: int
    """Sequences that a rank takes at once."""
    imbalance: float = 0.0
    """Of the experts of the least even group: 1 is even, 0 is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What came before."""

    wanted: Window = field(default_factory=Window)
    """What was called for."""
    unsettled: float | None = None
    """Since when groups have been starting, ending or being replaced."""
    up: float = float("-inf")
    """The last step up."""
    down: float = float("-inf")
    """The last step down."""
    uneven: float | None = None
    """Since when more groups are called for while experts are loaded unevenly."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The count from now on, and why."""

    replicas: int
    reason: str


def decide(spec: AutoscalingSpec, demand: Demand, memory: Memory, now: float, tempo: Tempo) -> tuple[Decision, Memory]:
    """The next count, and what to remember of it."""
    unsettled = None if demand.settled else now if memory.unsettled is None else memory.unsettled
    if unsettled is not None and now - unsettled >= tempo.patience:
        # What has not come for so long may never come: it must not keep what is there for ever.
        demand = replace(demand, settled=True)
    called = called_for(spec, demand)
    wanted = memory.wanted.add(now, called.replicas, max(tempo.up, tempo.down))
    memory = replace(memory, wanted=wanted, unsettled=unsettled)
    within = min(max(demand.replicas, spec.min_replicas), spec.max_replicas)
    if within != demand.replicas:
        bounds = f"autoscaling allows {spec.min_replicas} to {spec.max_replicas} groups"
        return Decision(within, f"{bounds}, not {demand.replicas}"), memory
    if called.replicas > demand.replicas:
        return _up(demand, called, memory, now, tempo)
    memory = replace(memory, uneven=None)
    if called.replicas < demand.replicas:
        return _down(demand, called, memory, now, tempo)
    return called, memory


def called_for(spec: AutoscalingSpec, demand: Demand) -> Decision:
    """What the moment calls for, within the bounds, whatever came before."""
    count, reason = _called_for(spec, demand)
    return Decision(min(max(count, spec.min_replicas), spec.max_replicas), reason)


def is_active(spec: AutoscalingSpec, demand: Demand) -> bool:
    """Whether a model should have a group at all: it is called, was of late, or is starting."""
    if demand.held or demand.load is None:
        return bool(demand.held or demand.replicas)
    return not _idle(spec, demand, demand.load)


def _called_for(spec: AutoscalingSpec, demand: Demand) -> tuple[int, str]:
    load = demand.load
    if demand.held and not demand.ready:
        return max(1, demand.replicas), _calls(demand.held)
    if not demand.replicas:
        # Groups that are there still are about to go, or only prove a revision.
        return 0, "nobody calls"
    if not demand.ready:
        # When it is settled all the same it was waited for in vain.
        return (0, "no group came, and nobody calls") if demand.settled else (demand.replicas, "no group serves yet")
    if load is None:
        return demand.replicas, "no group says what it has to do"
    if not spec.min_replicas and _idle(spec, demand, load):
        return 0, f"no request for {spec.idle_seconds} s"
    most = pressure(spec, load, demand.max_num_seqs)
    count = most.groups(demand.ready)
    if load.silent and count < demand.replicas:
        return demand.replicas, f"{load.silent} pods do not say what they have to do"
    return count, most.what


def _idle(spec: AutoscalingSpec, demand: Demand, load: ModelLoad) -> bool:
    busy = load.under_way or load.silent or demand.held
    return not busy and demand.settled and load.idle_seconds >= spec.idle_seconds


def _up(demand: Demand, called: Decision, memory: Memory, now: float, tempo: Tempo) -> tuple[Decision, Memory]:
    if not demand.replicas:
        # Somebody waits.
        return called, replace(memory, up=now)
    if demand.imbalance > _UNEVEN:
        memory = replace(memory, uneven=now if memory.uneven is None else memory.uneven)
        assert memory.uneven is not None
        if now - memory.uneven < tempo.rebalance:
            told = f"the busiest ranks have {demand.imbalance:.1f} times the mean to do: experts are moved first"
            return Decision(demand.replicas, told), memory
    lasting = memory.wanted.least(tempo.up)
    if not memory.wanted.covers(tempo.up) or lasting <= demand.replicas or now - memory.up < tempo.up_pause:
        return Decision(demand.replicas, called.reason), memory
    return Decision(min(lasting, max(2 * demand.replicas, demand.replicas + _STEP)), called.reason), replace(
        memory, up=now
    )


def _down(demand: Demand, called: Decision, memory: Memory, now: float, tempo: Tempo) -> tuple[Decision, Memory]:
    if not called.replicas:
        # Long enough without a request is a window of its own.
        return called, replace(memory, down=now)
    most = memory.wanted.most(tempo.down)
    early = not memory.wanted.covers(tempo.down) or now - memory.down < tempo.down_pause
    if early or not demand.settled or most >= demand.replicas:
        return Decision(demand.replicas, called.reason), memory
    return Decision(max(most, -(-demand.replicas // 2)), called.reason), replace(memory, down=now)


def _calls(held: int) -> str:
    return f"{held} calls wait for the model" if held > 1 else "a call waits for the model"
