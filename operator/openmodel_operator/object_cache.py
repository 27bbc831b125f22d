"""What the cluster was last seen to be: objects of the kinds that are watched, by name and by whom they belong to.

Knows no API server: whoever watches, lists or writes says what was seen. An older word never replaces a newer one, so
it does not matter who is heard first. Objects are kept compressed, without what nobody here reads (`managedFields`, a
pod's spec): ten thousand models are a few kilobytes each.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass

from openmodel_operator import names
from openmodel_operator.spec import Manifest

_INDEXED = (names.MODEL_LABEL, names.JOB_LABEL)
# Speed before size: most of what there is to win is won.
_LEVEL = 1

Key = tuple[str, str]
"""Namespace and name."""
Label = tuple[str, str, str]
"""Namespace, label and value."""


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    uid: str
    labels: tuple[Label, ...]
    data: bytes


class ObjectCache:
    """Objects by kind, namespace and name."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[Key, _Entry]] = defaultdict(dict)
        self._by_label: dict[tuple[str, Label], set[Key]] = defaultdict(set)
        self._gone: dict[str, dict[str, int]] = defaultdict(dict)
        """By kind and uid: up to which resourceVersion what is told of it comes too late."""

    def put(self, kind: str, item: Manifest) -> bool:
        """Notes how an object is; False when that, or something newer, was known."""
        key, version = key_of(item), _version(item)
        known = self._entries[kind].get(key)
        if known is not None and known.version >= version:
            return False
        if self._gone[kind].get(item["metadata"]["uid"], 0) >= version:
            # A list or an answer from before its end.
            return False
        self._drop(kind, key)
        entry = _Entry(version, item["metadata"]["uid"], _labels(item), _packed(kind, item))
        self._entries[kind][key] = entry
        for label in entry.labels:
            self._by_label[kind, label].add(key)
        return True

    def remove(self, kind: str, item: Manifest) -> bool:
        """Notes that an object is gone; False when it was not known, or another of its name is there already."""
        key, uid, version = key_of(item), item["metadata"]["uid"], _version(item)
        known = self._entries[kind].get(key)
        if known is not None and known.uid == uid and known.version > version:
            # An end comes after all else: it only lost its label for a while, or is about to go and not gone.
            return False
        self._gone[kind][uid] = version
        if known is None or known.version > version:
            return False
        self._drop(kind, key)
        return True

    def retain(self, kind: str, keys: Set[Key], version: int) -> list[Manifest]:
        """Notes that nothing but these was there at a resourceVersion; returns what is gone: nobody may have told."""
        gone = [key for key, entry in self._entries[kind].items() if key not in keys and entry.version <= version]
        removed = [self._unpacked(kind, key) for key in gone]
        for key in gone:
            self._drop(kind, key)
        self._gone[kind] = {uid: end for uid, end in self._gone[kind].items() if end > version}
        return removed

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """An object of the caller's own, or None."""
        key = (namespace, name)
        return self._unpacked(kind, key) if key in self._entries[kind] else None

    def labelled(self, kind: str, namespace: str, label: str, value: str) -> list[Manifest]:
        """Objects that bear a label: that of a model, or of a Job."""
        keys = self._by_label.get((kind, (namespace, label, value)), ())
        return [self._unpacked(kind, key) for key in sorted(keys)]

    def names(self, kind: str) -> list[Key]:
        """Namespaces and names of all objects of a kind."""
        return list(self._entries[kind])

    def _unpacked(self, kind: str, key: Key) -> Manifest:
        return dict(json.loads(zlib.decompress(self._entries[kind][key].data)))

    def _drop(self, kind: str, key: Key) -> None:
        known = self._entries[kind].pop(key, None)
        for label in () if known is None else known.labels:
            keys = self._by_label[kind, label]
            keys.discard(key)
            if not keys:
                del self._by_label[kind, label]


def key_of(item: Manifest) -> Key:
    """Namespace and name of an object."""
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _version(item: Manifest) -> int:
    """Kubernetes 1.35 made resourceVersions numbers that may be compared; servers have counted so all along."""
    return int(item["metadata"]["resourceVersion"])


def _labels(item: Manifest) -> tuple[Label, ...]:
    labels: Mapping[str, str] = item["metadata"].get("labels") or {}
    return tuple((item["metadata"]["namespace"], label, labels[label]) for label in _INDEXED if label in labels)


def _packed(kind: str, item: Manifest) -> bytes:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    kept = {**item, "metadata": metadata}
    if kind == "Pod":
        kept.pop("spec", None)
    return zlib.compress(json.dumps(kept, separators=(",", ":")).encode(), _LEVEL)
