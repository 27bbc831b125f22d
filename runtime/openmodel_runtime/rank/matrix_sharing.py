"""A rank's part of each matrix from one group to the next: the part stays what it is, the cache begins anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from openmodel_runtime.config import GroupMember
from openmodel_runtime.parallel.mailbox import Mailbox
from openmodel_runtime.parallel.matrix_exchange import MatrixExchange
from openmodel_runtime.parallel.placement import Slots


class MatrixSharing:
    """What a rank needs to meet those that share its matrices; see `Sharing`."""

    def __init__(self, num_blocks: int, restart: Callable[[int], None]) -> None:
        """`restart` is told how many blocks the cache has from then on; this rank has `num_blocks`."""
        self._num_blocks = num_blocks
        self._restart = restart

    def prepare(
        self, member: GroupMember, layers: Mapping[int, tuple[Slots, ...]], mailbox: Mailbox, *, urgent: bool
    ) -> tuple[MatrixExchange, Callable[[], None]]:
        """See `Sharing`: what the lost rank's cache held is computed again, so no request is lost with a follower."""
        mailbox.meet()
        exchange = MatrixExchange(mailbox)
        blocks = exchange.least(self._num_blocks)
        return exchange, lambda: self._restart(blocks)
