"""Prompts that a new revision has to answer as the old one does: what is read, compared, and what follows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from factories import a_pod
from kube_double import KEY, DictionaryKube, Prover, controller
from openmodel_operator.controller import Controller
from openmodel_operator.golden_prompts import GoldenPrompt, GoldenPromptsError, divergence, read_prompts

PROMPT = json.dumps({"text_input": "Hello", "max_tokens": 4})
RECORDED = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "tokens": [1, 2, 3]})


def test_prompts_are_read_one_a_key() -> None:
    first, second = read_prompts("golden", {"b": RECORDED, "a": PROMPT})
    assert (first.name, first.tensor, first.content, first.max_tokens, first.recorded) == (
        "a", "text_input", "Hello", 4, None,
    )  # fmt: skip
    assert (second.tensor, json.loads(second.content)[0]["content"], second.recorded) == (
        "messages",
        "Hello",
        (1, 2, 3),
    )


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"a": "Hello"},
        {"a": "[]"},
        {"a": "{}"},
        {"a": '{"text_input": 1}'},
        {"a": '{"text_input": "a", "max_tokens": 0}'},
        {"a": '{"text_input": "a", "tokens": "one"}'},
        {"a": '{"text_input": "a", "max_tokens": 1e999}'},
        {"a": '{"text_input": "\\ud800"}'},
        {"a": '{"messages": [NaN]}'},
        {"a": "[" * 100_000},
        {f"k{number}": PROMPT for number in range(101)},
    ],
)
def test_what_is_no_prompt_is_named(data: dict[str, str]) -> None:
    with pytest.raises(GoldenPromptsError, match="ConfigMap golden"):
        read_prompts("golden", data)


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ([1, 2], [1, 2], ""),
        ([1, 2], [1, 3], "prompt p, position 1: token 2 was expected, 3 came"),
        ([1, 2], [1], "prompt p, position 1: token 2 was expected, its end came"),
        ([1], [1, 2], "prompt p, position 1: token its end was expected, 2 came"),
    ],
)
def test_the_first_difference_is_named(expected: list[int], found: list[int], words: str) -> None:
    assert divergence("p", expected, found) == words


class Rollout:
    """A model whose first revision serves, and whose second has started."""

    def __init__(self, mode: str = "Exact", prompt: str = PROMPT) -> None:
        verify = {"configMap": "golden", "mode": mode}
        self.kube = DictionaryKube(rollout={"verify": verify})
        self.kube.objects["ConfigMap", "golden"] = {"metadata": {"name": "golden", "labels": {}}, "data": {"p": prompt}}
        self.answers: dict[str, Sequence[int]] = {}
        self.asked = 0
        self.subject: Controller = controller(self.kube, Prover(), complete=self.complete)

    async def complete(self, address: str, model: str, revision: str, prompt: GoldenPrompt) -> Sequence[int]:
        self.asked += 1
        if revision not in self.answers:
            raise ConnectionError("UNAVAILABLE")
        return self.answers[revision]

    async def look(self) -> None:
        await self.subject.reconcile(KEY)

    def status(self) -> dict[str, Any]:
        assert self.kube.model is not None
        return dict(self.kube.model["status"])

    async def start(self) -> tuple[str, str]:
        """Both revisions."""
        await self.look()
        old = self.kube.run_pod()
        await self.look()
        revision = old["metadata"]["labels"]["openmodel.dev/revision"]
        assert self.status()["rollout"]["revision"] == revision
        assert self.kube.model is not None
        self.kube.model["spec"]["engine"] = {"dtype": "float32"}
        await self.look()
        (made,) = [
            item for (kind, name), item in self.kube.objects.items() if kind == "StatefulSet" and revision not in name
        ]
        new = a_pod(made["metadata"]["labels"]["openmodel.dev/revision"], name="new")
        new["metadata"]["ownerReferences"] = [{"uid": made["metadata"]["uid"]}]
        self.kube.pods = [old, new]
        return revision, str(new["metadata"]["labels"]["openmodel.dev/revision"])


async def test_a_revision_that_answers_alike_takes_the_service() -> None:
    rollout = Rollout()
    old, new = await rollout.start()
    await rollout.look()
    assert rollout.kube.ready() == ("False", "Verifying"), "nobody answered yet"
    assert rollout.status()["rollout"]["revision"] == old
    rollout.answers = {old: [5, 6], new: [5, 6]}
    await rollout.look()
    assert rollout.kube.ready() == ("True", "Serving")
    assert rollout.status()["rollout"]["revision"] == new
    assert rollout.status()["rollout"]["verification"] == {"revision": new, "passed": 1, "total": 1}
    await rollout.look()
    assert rollout.kube.condition("RolloutVerified") == ("True", "Verified"), "what was found stands"


async def test_a_revision_that_answers_otherwise_never_serves() -> None:
    rollout = Rollout()
    old, new = await rollout.start()
    rollout.answers = {old: [5, 6], new: [5, 7]}
    for _ in range(3):
        await rollout.look()
    assert rollout.asked == 2, "it is asked once"
    assert rollout.kube.ready() == ("False", "Diverged")
    assert rollout.kube.condition("Stalled") == ("True", "Diverged")
    assert rollout.kube.condition("RolloutVerified") == ("False", "Diverged")
    assert rollout.status()["rollout"]["revision"] == old
    first = rollout.status()["rollout"]["verification"]["firstDivergence"]
    assert first == "prompt p, position 1: token 6 was expected, 7 came"
    assert rollout.kube.model is not None
    del rollout.kube.model["spec"]["engine"]
    await rollout.look()
    assert rollout.kube.ready() == ("True", "Serving"), "back is an ordinary change"
    assert rollout.kube.condition("RolloutVerified") == ("Unknown", "Verifying")
    assert "verification" not in rollout.status()["rollout"]


async def test_a_difference_is_reported_where_no_more_is_asked_for() -> None:
    rollout = Rollout("Report")
    old, new = await rollout.start()
    rollout.answers = {old: [5], new: [6]}
    await rollout.look()
    assert rollout.kube.ready() == ("True", "Serving")
    assert rollout.kube.condition("RolloutVerified") == ("False", "Diverged")
    assert rollout.status()["rollout"]["revision"] == new


async def test_a_first_revision_is_held_to_a_recording() -> None:
    rollout = Rollout("Recorded", RECORDED)
    await rollout.look()
    revision = rollout.kube.run_pod()["metadata"]["labels"]["openmodel.dev/revision"]
    rollout.answers = {revision: [1, 2, 4]}
    await rollout.look()
    assert rollout.kube.ready() == ("False", "Diverged")
    assert rollout.status()["rollout"]["revision"] == "none"


@pytest.mark.parametrize("mode", ["Exact", "Report"])
async def test_a_first_revision_has_nothing_to_be_compared_with(mode: str) -> None:
    rollout = Rollout(mode)
    await rollout.look()
    rollout.kube.run_pod()
    await rollout.look()
    assert rollout.kube.ready() == ("True", "Serving")
    assert rollout.kube.condition("RolloutVerified") == ("Unknown", "NothingToCompare")


async def test_prompts_that_can_not_be_used_are_named_and_hold_the_rollout() -> None:
    rollout = Rollout("Recorded")
    await rollout.look()
    assert rollout.kube.ready() == ("False", "GoldenPromptsInvalid")
    assert "StatefulSet" not in {kind for kind, _ in rollout.kube.objects}
    assert rollout.kube.condition("Stalled")[0] == "True"
    del rollout.kube.objects["ConfigMap", "golden"]
    await rollout.look()
    assert rollout.kube.ready() == ("False", "GoldenPromptsInvalid")


async def test_a_pod_that_is_away_for_a_moment_lets_nothing_through() -> None:
    rollout = Rollout()
    old, new = await rollout.start()
    rollout.answers = {old: [5], new: [6]}
    away, there = rollout.kube.pods
    rollout.kube.pods = [there]
    await rollout.look()
    assert rollout.kube.ready() == ("False", "Verifying")
    rollout.kube.pods = [away, there]
    await rollout.look()
    assert rollout.kube.ready() == ("False", "Diverged")
    rollout.kube.pods = [there]
    await rollout.look()
    assert rollout.kube.ready() == ("False", "Diverged")
    assert rollout.status()["rollout"]["revision"] == old
