"""Fixtures of all tests: the local cluster, started by the tests that need it and by nobody else; the real models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl import Kubectl, local_cluster

# Before any test imports them: what they assert is told as what tests assert is.
pytest.register_assert_rewrite("kube_double", "contract.runtime_server", "contract.infer_requests")

ROOT = Path(__file__).resolve().parents[1]
# The cluster's run folder goes with the cluster, so this mark says who started the one that is there.
STARTED_BY_TESTS = Path("/run/openmodel-cluster/started-by-tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the cluster come last, so that cheaper ones fail first."""
    items.sort(key=lambda item: bool(item.get_closest_marker("cluster") or item.get_closest_marker("e2e")))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubectl]:
    """A cluster that these tests started. One that somebody else started is taken down first, as the README says.

    With OPENMODEL_KEEP_CLUSTER=1 it stays up, and the next run goes on with it.
    """
    keep = os.environ.get("OPENMODEL_KEEP_CLUSTER") == "1"
    if not (keep and STARTED_BY_TESTS.exists()):
        subprocess.run([ROOT / "hack/cluster/down"], check=True)
    subprocess.run([ROOT / "hack/cluster/up"], check=True)
    STARTED_BY_TESTS.touch()
    yield local_cluster()
    if not keep:
        subprocess.run([ROOT / "hack/cluster/down"], check=True)


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder that has the real models of the tests and the demo, built when they are missing."""
    build = [sys.executable, str(ROOT / "hack/models/build.py")]
    return Path(subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
