"""What the cache says is there, in whatever order it is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openmodel_operator import names
from openmodel_operator.object_cache import ObjectCache


def an_object(version: int, name: str = "one", uid: str = "uid-1", **labels: str) -> dict[str, Any]:
    metadata = {"namespace": "here", "name": name, "uid": uid, "resourceVersion": str(version)}
    managed = [{"manager": "somebody"}]
    return {"metadata": {**metadata, "labels": labels, "managedFields": managed}, "spec": {"version": version}}


def test_the_newest_word_stands_and_an_echo_is_no_news() -> None:
    cache = ObjectCache()
    assert cache.put("Service", an_object(5))
    assert not cache.put("Service", an_object(5))
    assert not cache.put("Service", an_object(4))
    found = cache.get("Service", "here", "one")
    assert found is not None
    assert found["spec"] == {"version": 5}
    assert "managedFields" not in found["metadata"]


def test_an_object_made_again_outlives_the_news_of_the_first_ones_end() -> None:
    cache = ObjectCache()
    cache.put("Service", an_object(5))
    cache.put("Service", an_object(8, uid="uid-2"))
    assert not cache.remove("Service", an_object(7))
    assert cache.get("Service", "here", "one") is not None
    assert cache.remove("Service", an_object(9, uid="uid-2"))
    assert cache.get("Service", "here", "one") is None


def test_what_only_lost_its_label_for_a_while_is_still_there() -> None:
    cache = ObjectCache()
    cache.put("Service", an_object(101))
    assert not cache.remove("Service", an_object(100)), "it has its label again, as our own write said"
    assert cache.get("Service", "here", "one") is not None
    assert cache.remove("Service", an_object(102))


def test_what_a_list_lacks_is_gone_but_not_what_came_after_it() -> None:
    cache = ObjectCache()
    for version, name in ((1, "stays"), (2, "goes"), (9, "comes")):
        cache.put("Pod", an_object(version, name, uid=name))
    gone = cache.retain("Pod", {("here", "stays")}, 5)
    assert [item["metadata"]["name"] for item in gone] == ["goes"]
    assert sorted(name for _, name in cache.names("Pod")) == ["comes", "stays"]


def test_what_ended_while_it_was_listed_does_not_come_back() -> None:
    cache = ObjectCache()
    cache.put("Pod", an_object(5))
    cache.remove("Pod", an_object(7))
    assert not cache.put("Pod", an_object(5)), "an old page of the list"
    cache.retain("Pod", {("here", "one")}, 6)
    assert not cache.put("Pod", an_object(6)), "an old answer"
    assert cache.put("Pod", an_object(8)), "it bears the label again"
    cache.remove("Pod", an_object(9, name="unseen", uid="uid-9"))
    assert not cache.put("Pod", an_object(8, name="unseen", uid="uid-9"))


def test_objects_are_found_by_label_also_after_it_changed() -> None:
    cache = ObjectCache()
    model, job = names.MODEL_LABEL, names.JOB_LABEL
    cache.put("Pod", an_object(1, "a", **{model: "m"}))
    cache.put("Pod", an_object(2, "b", **{model: "", job: "j"}))
    assert [item["metadata"]["name"] for item in cache.labelled("Pod", "here", model, "m")] == ["a"]
    assert [item["metadata"]["name"] for item in cache.labelled("Pod", "here", job, "j")] == ["b"]
    assert cache.labelled("Pod", "elsewhere", model, "m") == []
    cache.put("Pod", an_object(3, "a", **{model: "other"}))
    assert cache.labelled("Pod", "here", model, "m") == []


@given(st.permutations([("put", 1), ("put", 2), ("put", 3), ("remove", 4)]))
def test_whatever_comes_first_nothing_is_older_than_what_was_last_told(order: list[tuple[str, int]]) -> None:
    """One watch tells in order; what a write answers may come at any time, and a list settles it."""
    cache = ObjectCache()
    for what, version in order:
        (cache.put if what == "put" else cache.remove)("Pod", an_object(version))
    cache.retain("Pod", set(), 4)
    assert cache.names("Pod") == []
