"""Merging of `spec.podTemplate` over the generated pod template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def merge(base: Any, over: Any) -> Any:
    """`over` wins; maps merge by key, lists of named objects (containers, volumes) by name, all else is replaced."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        merged = dict(base)
        for key, value in over.items():
            merged[key] = merge(base[key], value) if key in base else value
        return merged
    if _named(base) and _named(over):
        by_name = {item["name"]: item for item in base}
        for item in over:
            by_name[item["name"]] = merge(by_name.get(item["name"], {}), item)
        return list(by_name.values())
    return over


def _named(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(item, Mapping) and "name" in item for item in value)
    )
