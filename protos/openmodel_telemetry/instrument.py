"""What a metric is: its name and kind, and what it says, for whoever records it and for the page that documents it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a metric counts."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"
    """A value that is set."""
    UP_DOWN_COUNTER = "up-down counter"
    OBSERVED_GAUGE = "observed gauge"
    """A value that is looked up whenever somebody asks."""


_TOTAL, _SECONDS = "_total", "_seconds"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric."""

    name: str
    """OpenTelemetry's."""
    kind: Kind
    unit: str
    """UCUM: s, 1, {request}."""
    description: str
    buckets: Sequence[float] | None = None
    """Upper bounds, of a histogram."""
    attributes: Sequence[str] = ()

    @property
    def prometheus(self) -> str:
        """The name at Prometheus, as the exporter makes it; of a histogram without _bucket, _sum and _count."""
        name = self.name.replace(".", "_")
        if self.unit == "s":
            name += _SECONDS
        return name + _TOTAL if self.kind is Kind.COUNTER else name


@dataclass(frozen=True, slots=True)
class Attribute:
    """What tells the series of a metric, or spans, apart."""

    name: str
    description: str

    @property
    def prometheus(self) -> str:
        """The label at Prometheus."""
        return self.name.replace(".", "_")
