"""Whether a child is as it was applied, so that nothing is written when nothing would change.

Pure. A hash in an annotation tells what was applied last, so that what is taken out of a manifest is noticed; the
comparison tells what somebody changed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from openmodel_operator import names
from openmodel_operator.desired.identity import content_hash
from openmodel_operator.spec import Manifest, SpecError, parse_quantity

# What is more than was applied counts as another value here: a selector with a key more selects nothing.
_WHOLE = ("selector", "matchLabels", "nodeSelector")


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with its hash in it."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.APPLIED_ANNOTATION: content_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def is_applied(manifest: Manifest, live: Manifest) -> bool:
    """Whether applying a stamped manifest would change nothing: what the API server adds aside, it is there."""
    return "deletionTimestamp" not in live["metadata"] and _is_in(manifest, live)


def _is_in(wanted: object, found: object) -> bool:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(_has(found, key, value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return _list_is_in(wanted, found)
    return wanted == found or _quantity(wanted) == _quantity(found) is not None


def _has(found: Mapping[str, object], key: str, value: object) -> bool:
    if value is None:
        # Whatever the API server puts in its place.
        return True
    if key not in found:
        # It leaves out what is empty.
        return value in ({}, [], "", False, 0)
    return value == found[key] if key in _WHOLE and _is_flat(value) else _is_in(value, found[key])


def _list_is_in(wanted: Sequence[object], found: Sequence[object]) -> bool:
    by_name, there = _by_name(wanted), _by_name(found)
    if by_name is not None and there is not None:
        # A map in all but form: somebody else may have put in an item of their own.
        return all(name in there and _is_in(item, there[name]) for name, item in by_name.items())
    return len(wanted) == len(found) and all(map(_is_in, wanted, found))


def _by_name(items: Sequence[object]) -> dict[object, object] | None:
    """By what tells the items apart: owners by uid, most else by name; None for what has neither."""
    for word in ("uid", "name"):
        named: dict[object, object] = {item[word]: item for item in items if isinstance(item, Mapping) and word in item}
        if len(named) == len(items):
            return named
    return None


def _is_flat(value: object) -> bool:
    return isinstance(value, Mapping) and not any(isinstance(item, Mapping) for item in value.values())


def _quantity(value: object) -> Decimal | None:
    """1Gi for 1024Mi: the API server writes quantities in a form of its own."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return parse_quantity("", value)
    except SpecError:
        return None
