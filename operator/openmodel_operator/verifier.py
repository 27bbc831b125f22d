"""Has golden prompts answered by a new revision, and by the one that serves, and compares.

Knows the order of things; what is compared, and what follows, is `golden_prompts`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from openmodel_operator.desired.identity import Identity
from openmodel_operator.golden_prompts import (
    GoldenPrompt,
    GoldenPromptsError,
    Verification,
    divergence,
    read_prompts,
    verdict,
)
from openmodel_operator.kube import Kube
from openmodel_operator.observed import Observed
from openmodel_operator.reasons import Reason
from openmodel_operator.rollout import ActionPlan
from openmodel_operator.spec import VerifySpec

Complete = Callable[[str, str, str, GoldenPrompt], Awaitable[Sequence[int]]]
"""Address, model, revision and prompt to token ids; ConnectionError when there is no answer."""


class Verifier:
    """Asks each revision once, and remembers what it came to."""

    def __init__(self, kube: Kube, complete: Complete) -> None:
        self._kube = kube
        self._complete = complete
        self._known: dict[Identity, tuple[tuple[str, ...], Verification]] = {}

    async def verify(
        self, identity: Identity, wanted: VerifySpec, actions: ActionPlan, observed: Observed
    ) -> Verification:
        """Whether the revision whose groups have all answered may serve."""
        kept = await self._kube.get("v1", "ConfigMap", identity.namespace, wanted.config_map)
        try:
            if kept is None:
                raise GoldenPromptsError(f"namespace {identity.namespace} has no ConfigMap {wanted.config_map}")
            prompts = read_prompts(wanted.config_map, kept.get("data", {}))
            if wanted.mode == "Recorded":
                _need_recordings(wanted.config_map, prompts)
        except GoldenPromptsError as error:
            told = f"spec.rollout.verify.configMap: {error}"
            return Verification(verified=False, reason=Reason.GOLDEN_PROMPTS_INVALID, message=told, moves=False)
        key = (actions.revision, actions.serving, wanted.mode, kept["metadata"].get("resourceVersion", ""))
        known = self._known.get(identity)
        if known is None or known[0] != key:
            try:
                known = (key, await self._compared(identity, wanted, actions, observed, prompts))
            except ConnectionError as error:
                told = f"golden prompts were not answered, and are asked again: {error}"
                return Verification(verified=None, reason=Reason.VERIFYING, message=told, moves=False)
            self._known[identity] = known
        return known[1]

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone."""
        for identity in [item for item in self._known if (item.namespace, item.name) == (namespace, name)]:
            del self._known[identity]

    async def _compared(
        self,
        identity: Identity,
        wanted: VerifySpec,
        actions: ActionPlan,
        observed: Observed,
        prompts: Sequence[GoldenPrompt],
    ) -> Verification:
        new = observed.proven_address(actions.revision)
        old = None if wanted.mode == "Recorded" else observed.proven_address(actions.serving)
        if new is None:
            raise ConnectionError(f"no pod of revision {actions.revision} is ready")
        if old is None and any(prompt.recorded is None for prompt in prompts):
            told = "nothing serves that golden prompts could be compared with, and not all have a recording"
            return Verification(verified=None, reason=Reason.NOTHING_TO_COMPARE, message=told, moves=True)
        differences = []
        for prompt in prompts:
            found = self._complete(new, identity.name, actions.revision, prompt)
            expected: Sequence[int] = prompt.recorded or ()
            if old is None:
                answer = await found
            else:
                expected, answer = await asyncio.gather(
                    self._complete(old, identity.name, actions.serving, prompt), found
                )
            differences.append(divergence(prompt.name, expected, answer))
        against = "their recordings" if old is None else f"revision {actions.serving}"
        return verdict(differences, against, report=wanted.mode == "Report")


def _need_recordings(name: str, prompts: Sequence[GoldenPrompt]) -> None:
    for prompt in prompts:
        if prompt.recorded is None:
            raise GoldenPromptsError(
                f"ConfigMap {name}, key {prompt.name}: has no tokens, which mode Recorded compares with"
            )
