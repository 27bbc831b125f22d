"""Blocks of the key/value cache: who holds them, and which content can be found again.

A block is free, or held by one or more sequences. A full block keeps its content's name when it is freed, so that a
later sequence with the same beginning takes it up again. Nameless blocks are used anew first, then named ones in the
order in which they were freed.

Pure: integers and bytes. Knows no tensors and no sequences.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

ContentName = bytes
_ROOT = b""


def content_name(parent: ContentName | None, tokens: Sequence[int]) -> ContentName:
    """The name of a full block: of all tokens up to its end, so that equal names mean equal keys and values.

    A cryptographic hash: a caller who could make two beginnings collide would read another caller's cache.
    """
    return hashlib.blake2b((parent or _ROOT) + array("I", tokens).tobytes(), digest_size=20).digest()


class BlockPool:
    """A fixed number of blocks, reference-counted."""

    def __init__(self, num_blocks: int) -> None:
        self._holders = [0] * num_blocks
        self._names: list[ContentName | None] = [None] * num_blocks
        self._by_name: dict[ContentName, int] = {}
        # Free blocks; the named ones in the order in which they were freed.
        self._nameless = list(range(num_blocks - 1, -1, -1))
        self._first_unused = 0
        self._named: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Blocks that no sequence holds, named ones included."""
        return len(self._nameless) + len(self._named)

    @property
    def first_unused(self) -> int:
        """This block and all behind it were never taken; the number of blocks when there is none."""
        return self._first_unused

    def take(self) -> int:
        """A free block for new content; there must be one. Whatever it was named, it can no longer be found."""
        if self._nameless:
            block = self._nameless.pop()
        else:
            block, _ = self._named.popitem(last=False)
            self._forget(block)
        self._holders[block] = 1
        self._first_unused = max(self._first_unused, block + 1)
        return block

    def find(self, name: ContentName) -> int | None:
        """The block with this content, free or held."""
        return self._by_name.get(name)

    def is_free(self, block: int) -> bool:
        """True when no sequence holds it."""
        return self._holders[block] == 0

    def hold(self, block: int) -> None:
        """One more sequence holds the block."""
        if self._holders[block] == 0:
            del self._named[block]
        self._holders[block] += 1

    def give_back(self, block: int) -> None:
        """A sequence no longer holds the block."""
        self._holders[block] -= 1
        if self._holders[block]:
            return
        if self._names[block] is None:
            self._nameless.append(block)
        else:
            self._named[block] = None

    def name(self, block: int, name: ContentName) -> None:
        """The held block is full and has this content. Of two blocks with one content, the first keeps the name."""
        if name not in self._by_name:
            self._by_name[name] = block
            self._names[block] = name

    def _forget(self, block: int) -> None:
        name = self._names[block]
        if name is not None:
            del self._by_name[name]
            self._names[block] = None
