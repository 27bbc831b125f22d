"""A loopback port that leads to a model's Service, through `kubectl port-forward`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@contextmanager
def port_forward(namespace: str, target: str, port: int = 8001) -> Iterator[str]:
    """Yields the address 127.0.0.1:PORT and ends the forwarding at exit; RuntimeError in kubectl's words."""
    command = ["kubectl", "port-forward", "--namespace", namespace, "--address=127.0.0.1", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            match = _FORWARDING.match(line)
            if match is None:
                raise RuntimeError(f"{' '.join(command)}: {line.strip()}")
            yield f"127.0.0.1:{match[1]}"
        finally:
            process.terminate()
