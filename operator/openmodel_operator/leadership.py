"""Which of several operators acts: a Lease is held by one, and the others stand by.

Knows the Lease. Who could not renew it for a while does not act any more, long before another may take it: what counts
is this process's own clock and the time since it saw the Lease change, never the time that another has written there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime

from openmodel_operator import names
from openmodel_operator.kube import Kube
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest

_log = logging.getLogger(__name__)
_API = "coordination.k8s.io/v1"
_KIND = "Lease"
# As Kubernetes' own controllers have them.
_LEASE_SECONDS = 15
_VALID_SECONDS = 10.0
_RETRY_SECONDS = 2.0
# Of one try: several have to fit into the time that the last is good for.
_TRY_SECONDS = 4.0


# In which term the present task began: what it has seen may be of before another one.
_entered: ContextVar[int] = ContextVar("entered", default=0)


class NotLeading(Exception):
    """Another operator acts, or may."""


class Leadership:
    """One candidate.

    Args:
        kube: the API server.
        settings: say where the Lease is, and who this is.
        began: called whenever this candidate begins to lead.
        now: a clock that does not jump, in seconds.
    """

    def __init__(
        self, kube: Kube, settings: Settings, began: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._namespace = settings.namespace
        self._identity = settings.identity
        self._began = began
        self._now = now
        self._term = 0
        self._renewed: float | None = None
        """When the renewal was asked for that went through last; None while another holds the Lease."""
        self._seen: tuple[Manifest, float] | None = None
        """How the Lease is, and since when it has been so."""

    @property
    def leads(self) -> bool:
        """Whether this candidate may act."""
        return self._renewed is not None and self._now() - self._renewed < _VALID_SECONDS

    def enter(self) -> None:
        """What the caller does from here on, it does in the present term."""
        _entered.set(self._term)

    def check(self) -> None:
        """Raises NotLeading unless this candidate may act, and has led ever since the caller began."""
        if not self.leads:
            raise NotLeading(f"Lease {names.LEASE} is not held, or was not renewed in time")
        if _entered.get() != self._term:
            raise NotLeading(f"Lease {names.LEASE} was another's meanwhile, or nobody's")

    async def run(self) -> None:
        """Takes part until cancelled; then, where it led, lets the next one in at once."""
        try:
            while True:
                await self.renew()
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            if self.leads:
                await self._release()

    async def renew(self) -> None:
        """Tries once to take or keep the Lease."""
        led, asked = self.leads, self._now()
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                held = await self._hold()
        except Exception as error:
            # What was renewed before is good for a while.
            _log.warning("Lease %s: %r", names.LEASE, error)
            return
        # What ran out meanwhile begins anew: looks were refused since.
        led = led and self.leads
        self._renewed = asked if held else None
        if held and not led:
            _log.info("leads: %s holds Lease %s", self._identity, names.LEASE)
            self._term += 1
            self._began()
        if led and not held:
            _log.warning("leads no more: another holds Lease %s", names.LEASE)

    async def _hold(self) -> bool:
        """Takes or renews the Lease where that may be: whether it is held now."""
        lease = await self._kube.get(_API, _KIND, self._namespace, names.LEASE)
        if lease is None:
            return await self._kube.create(self._lease({}, {}))
        spec = lease.get("spec", {})
        if self._seen is None or self._seen[0] != spec:
            self._seen = (spec, self._now())
        holder = spec.get("holderIdentity")
        if holder and holder != self._identity:
            lasts = max(_LEASE_SECONDS, spec.get("leaseDurationSeconds") or 0)
            if self._now() - self._seen[1] < lasts:
                return False
        # Its resourceVersion goes along: of two who try, one is refused.
        return await self._kube.replace(self._lease(lease["metadata"], spec))

    def _lease(self, metadata: Manifest, spec: Manifest) -> Manifest:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        new = spec.get("holderIdentity") != self._identity
        return {
            "apiVersion": _API,
            "kind": _KIND,
            "metadata": {"name": names.LEASE, "namespace": self._namespace, **metadata},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": _LEASE_SECONDS,
                "acquireTime": now if new else spec.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (new and bool(spec)),
            },
        }

    async def _release(self) -> None:
        self._renewed = None
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                lease = await self._kube.get(_API, _KIND, self._namespace, names.LEASE)
                if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                    await self._kube.replace({**lease, "spec": {**lease["spec"], "holderIdentity": ""}})
        except Exception as error:
            _log.warning("Lease %s runs out by itself: %r", names.LEASE, error)
