"""Tests against the real API server alone: nothing of ours runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl import Kubectl

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def api(cluster: Kubectl) -> Kubectl:
    """The cluster with our definitions in it."""
    cluster("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    cluster("wait", "--for=condition=Established", "crd/openmodels.openmodel.dev", "--timeout=60s")
    return cluster


@pytest.fixture
def namespace(api: Kubectl) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    api("create", "namespace", name)
    yield name
    api("delete", "namespace", name, "--wait=false")
