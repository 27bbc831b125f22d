"""What dashboards and alerts ask Prometheus, made from the table of metrics: a name that changes there changes here."""

from __future__ import annotations

from openmodel_telemetry.instrument import Instrument

WINDOW = "5m"


def rate(instrument: Instrument, *by: str, where: str = "", window: str = WINDOW) -> str:
    """What is added a second, by labels."""
    return _sum(f"rate({instrument.prometheus}{_where(where)}[{window}])", by)


def observed(instrument: Instrument, *by: str, where: str = "", window: str = WINDOW) -> str:
    """How many values a histogram gets a second, by labels."""
    return _sum(f"rate({instrument.prometheus}_count{_where(where)}[{window}])", by)


def quantile(share: float, instrument: Instrument, *by: str, where: str = "", window: str = WINDOW) -> str:
    """What a share of a histogram's values stays within, by labels."""
    buckets = f"rate({instrument.prometheus}_bucket{_where(where)}[{window}])"
    return f"histogram_quantile({share}, {_sum(buckets, ('le', *by))})"


def total(instrument: Instrument, *by: str, where: str = "") -> str:
    """The sum of a gauge, by labels."""
    return _sum(f"{instrument.prometheus}{_where(where)}", by)


def most(instrument: Instrument, *by: str, where: str = "") -> str:
    """The greatest of a gauge, by labels."""
    return f"max by ({', '.join(by)}) ({instrument.prometheus}{_where(where)})"


def _sum(expression: str, by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def _where(where: str) -> str:
    return f"{{{where}}}" if where else ""
