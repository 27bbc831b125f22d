"""kubectl for tests: plain dictionaries in and out, and waiting without sleeping blindly."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_ENV = Path(__file__).resolve().parents[1] / "hack/cluster/env"
Found = TypeVar("Found")
Manifest = dict[str, Any]


class KubectlError(Exception):
    """kubectl's own words."""


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl and other programs with the environment of one cluster."""

    env: Mapping[str, str]

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl; KubectlError with stderr when it fails."""
        return self.program("kubectl", *arguments, stdin=stdin)

    def program(self, *command: str, stdin: str | None = None, timeout: float = 600) -> str:
        """Runs any program with the cluster's environment."""
        done = subprocess.run(command, env=self.env, input=stdin, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise KubectlError(f"{' '.join(command)}: {done.stderr}{done.stdout}")
        return done.stdout

    def apply(self, *manifests: Manifest) -> None:
        """Client-side apply, as users do it."""
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))

    def get(self, kind: str, name: str, namespace: str) -> Manifest | None:
        """An object, or None."""
        text = self("get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "json")
        found: Manifest | None = json.loads(text) if text.strip() else None
        return found

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        """Objects of a kind."""
        items: list[Manifest] = json.loads(self("get", kind, "-n", namespace, "-l", selector, "-o", "json"))["items"]
        return items


def local_cluster() -> Kubectl:
    """Of hack/cluster, as `hack/cluster/env` tells a shell."""
    printed = subprocess.run([_ENV], check=True, capture_output=True, text=True).stdout
    shell = ["bash", "-c", f"{printed}\nenv -0"]
    variables = subprocess.run(shell, check=True, capture_output=True, text=True).stdout.split("\0")
    # The caller's own kubeconfig plays no part: what env prints replaces it.
    return Kubectl(dict(line.split("=", 1) for line in variables if "=" in line))


def wait_until(what: str, look: Callable[[], Found | None], timeout: float = 180) -> Found:
    """Looks again and again until `look` finds something; AssertionError says what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s in vain for: {what}")
        time.sleep(0.3)


def condition(model: Manifest | None, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition; empty strings when it is not there."""
    conditions = (model or {}).get("status", {}).get("conditions", [])
    found: Manifest = next((item for item in conditions if item["type"] == kind), {})
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")
