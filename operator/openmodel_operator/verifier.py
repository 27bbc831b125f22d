"""Has golden prompts answered by a new revision, and by the one that serves, and compares.

Knows the order of things; what is compared, and what follows, is `golden_prompts`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from openmodel_operator.cluster import Cluster
from openmodel_operator.desired.identity import Identity
from openmodel_operator.golden_prompts import (
    GoldenPrompt,
    GoldenPromptsError,
    Verification,
    divergence,
    read_prompts,
    verdict,
)
from openmodel_operator.observed import Observed, proof_key
from openmodel_operator.probe import Complete
from openmodel_operator.reasons import Reason
from openmodel_operator.rollout import ActionPlan
from openmodel_operator.spec import Manifest, VerifySpec

# A look is not to take for ever: what was answered is kept for the next.
_LOOK_SECONDS = 20.0


@dataclass
class _Asked:
    """What is known of one comparison."""

    key: tuple[str, ...]
    differences: dict[str, str] = field(default_factory=dict)
    """By prompt; "" for none."""
    verification: Verification | None = None


class Verifier:
    """Asks each prompt once, and remembers what it came to."""

    def __init__(self, cluster: Cluster, complete: Complete) -> None:
        self._cluster = cluster
        self._complete = complete
        self._asked: dict[Identity, _Asked] = {}

    async def invalid(self, identity: Identity, wanted: VerifySpec) -> str:
        """What is wrong with the prompts; "" when they can be used."""
        try:
            await self._prompts(identity, wanted)
        except GoldenPromptsError as error:
            return _told(error)
        return ""

    async def verify(
        self, identity: Identity, wanted: VerifySpec, actions: ActionPlan, observed: Observed
    ) -> tuple[Verification, bool]:
        """Whether the revision whose groups have all answered may serve, and whether that was found out just now."""
        try:
            prompts, version = await self._prompts(identity, wanted)
            return await self._verified(identity, wanted, actions, observed, prompts, version)
        except GoldenPromptsError as error:
            invalid = Reason.GOLDEN_PROMPTS_INVALID
            return Verification(verified=False, reason=invalid, message=_told(error), moves=False), False
        except ConnectionError as error:
            known = self._asked.get(identity)
            if known is not None and known.verification is not None and not known.verification.moves:
                # A pod that is away for a moment does not make it better.
                return known.verification, False
            told = f"golden prompts are not all answered, and are asked again: {error}"
            return Verification(verified=None, reason=Reason.VERIFYING, message=told, moves=False), False

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone."""
        for identity in [item for item in self._asked if (item.namespace, item.name) == (namespace, name)]:
            del self._asked[identity]

    async def _prompts(self, identity: Identity, wanted: VerifySpec) -> tuple[tuple[GoldenPrompt, ...], str]:
        kept = await self._cluster.get("v1", "ConfigMap", identity.namespace, wanted.config_map)
        if kept is None:
            raise GoldenPromptsError(f"namespace {identity.namespace} has no ConfigMap {wanted.config_map}")
        prompts = read_prompts(wanted.config_map, kept.get("data") or {})
        if wanted.mode == "Recorded":
            _need_recordings(wanted.config_map, prompts)
        return prompts, str(kept["metadata"].get("resourceVersion", ""))

    async def _verified(
        self,
        identity: Identity,
        wanted: VerifySpec,
        actions: ActionPlan,
        observed: Observed,
        prompts: Sequence[GoldenPrompt],
        version: str,
    ) -> tuple[Verification, bool]:
        new, old = observed.proven_pod(actions.revision), None
        if new is None:
            raise ConnectionError(f"no pod of revision {actions.revision} is ready")
        if wanted.mode != "Recorded" and observed.has_groups(actions.serving):
            old = observed.proven_pod(actions.serving)
            if old is None:
                raise ConnectionError(f"no pod of revision {actions.serving}, which serves, answers just now")
        if old is None and any(prompt.recorded is None for prompt in prompts):
            told = "nothing serves that golden prompts could be compared with, and not all have a recording"
            return Verification(verified=None, reason=Reason.NOTHING_TO_COMPARE, message=told, moves=True), False
        pods = (proof_key(new), "" if old is None else proof_key(old))
        key = (actions.revision, actions.serving, wanted.mode, version, *pods)
        asked = self._asked.get(identity)
        if asked is None or asked.key != key:
            asked = self._asked[identity] = _Asked(key)
        if asked.verification is not None:
            return asked.verification, False
        await self._ask(identity, actions, prompts, asked, new, old)
        asked.verification = verdict(
            [asked.differences[prompt.name] for prompt in prompts],
            "their recordings" if old is None else f"revision {actions.serving}",
            report=wanted.mode == "Report",
            serves=observed.has_groups(actions.serving),
        )
        return asked.verification, True

    async def _ask(
        self,
        identity: Identity,
        actions: ActionPlan,
        prompts: Sequence[GoldenPrompt],
        asked: _Asked,
        new: Manifest,
        old: Manifest | None,
    ) -> None:
        async def answer(pod: Manifest, revision: str, prompt: GoldenPrompt) -> Sequence[int]:
            return await self._complete(pod["status"]["podIP"], identity.name, revision, prompt)

        over = asyncio.get_running_loop().time() + _LOOK_SECONDS
        for prompt in prompts:
            if prompt.name in asked.differences:
                continue
            if asyncio.get_running_loop().time() > over:
                raise ConnectionError(f"{len(asked.differences)} of {len(prompts)} so far")
            found = answer(new, actions.revision, prompt)
            if old is None:
                difference = divergence(prompt.name, prompt.recorded or (), await found)
            else:
                expected = answer(old, actions.serving, prompt)
                difference = divergence(prompt.name, *await asyncio.gather(expected, found))
            asked.differences[prompt.name] = difference


def _told(error: GoldenPromptsError) -> str:
    return f"spec.rollout.verify.configMap: {error}"


def _need_recordings(name: str, prompts: Sequence[GoldenPrompt]) -> None:
    for prompt in prompts:
        if prompt.recorded is None:
            raise GoldenPromptsError(
                f"ConfigMap {name}, key {prompt.name}: has no tokens, which mode Recorded compares with"
            )
