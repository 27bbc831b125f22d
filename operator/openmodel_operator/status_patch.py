"""The merge patch that turns one status into another; nothing when they are equal.

Pure. Lists and scalars are replaced whole, as RFC 7396 has it.
"""

from __future__ import annotations

from collections.abc import Mapping

from openmodel_operator.spec import Manifest


def status_patch(before: Mapping[str, object], after: Mapping[str, object]) -> Manifest:
    """Keys that are new or differ, and None for those that are gone; {} when there is nothing to write."""
    patch: Manifest = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if nested := status_patch(old, value):
                patch[key] = nested
        elif key not in before or old != value:
            patch[key] = value
    return patch
