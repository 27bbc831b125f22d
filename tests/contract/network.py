"""Machines of a network that can be cut: network namespaces of this one, on a bridge of their own.

Knows `ip`. Does not know what runs there.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_numbers = itertools.count()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)


class Network:
    """As many machines as it is asked for, by number."""

    def __init__(self) -> None:
        number = (os.getpid() + next(_numbers)) % 200
        self._name = f"omt{number}"
        # Of the range for benchmarks of networks (RFC 2544): nobody's.
        self._prefix = f"198.18.{number}"
        self._machines: set[int] = set()
        _ip("link", "add", self._name, "type", "bridge")
        _ip("address", "add", f"{self._prefix}.254/24", "dev", self._name)
        _ip("link", "set", self._name, "up")

    def address(self, machine: int) -> str:
        """Where a machine is reached; it is made when it is asked for first."""
        if machine not in self._machines:
            self._machines.add(machine)
            name, outside = self._namespace(machine), self._cable(machine)
            _ip("netns", "add", name)
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", outside, "master", self._name, "up")
            _ip("-n", name, "address", "add", f"{self._prefix}.10{machine}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", name, "link", "set", device, "up")
        return f"{self._prefix}.10{machine}"

    def within(self, machine: int) -> Sequence[str]:
        """A command that runs its arguments there."""
        self.address(machine)
        return ["nsenter", f"--net=/run/netns/{self._namespace(machine)}", "--"]

    @contextmanager
    def cut(self, machine: int) -> Iterator[None]:
        """Nothing reaches the machine inside, and nothing comes from it."""
        _ip("link", "set", self._cable(machine), "nomaster")
        try:
            yield
        finally:
            _ip("link", "set", self._cable(machine), "master", self._name)

    def close(self) -> None:
        """Leaves nothing behind."""
        for machine in self._machines:
            _ip("netns", "delete", self._namespace(machine))
        _ip("link", "delete", self._name)

    def _namespace(self, machine: int) -> str:
        return f"{self._name}-{machine}"

    def _cable(self, machine: int) -> str:
        return f"{self._name}v{machine}"
