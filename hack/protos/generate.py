"""Generates protos/openmodel_protos from the .proto files in protos.

Knows the one thing protoc does not do: the descriptors keep the bare file names that tritonclient registers
(`grpc_service.proto`), while all Python modules live in the package `openmodel_protos`; so the imports between
generated modules are rewritten. Run by hand after a change; a contract test compares its output with what is committed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "protos"
TARGET = SOURCES / "openmodel_protos"
_IMPORT = re.compile(r"^(?:from [\w.]+ )?import (\w+_pb2)( as \w+)?$", re.MULTILINE)


def generate(target: Path) -> list[Path]:
    """Writes the generated modules into `target` and returns their paths."""
    protos = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        code = protoc.main(
            [
                "protoc",
                f"-I{SOURCES}",
                f"--python_out={scratch}",
                f"--grpc_python_out={scratch}",
                f"--mypy_out={scratch}",
                f"--mypy_grpc_out={scratch}",
                *protos,
            ]
        )
        if code != 0:
            raise SystemExit(code)
        written = []
        for module in sorted(Path(scratch).rglob("*.py*")):
            text = module.read_text()
            # A module without services has no use for an empty gRPC module.
            if module.stem.endswith("_pb2_grpc") and "_to_server(" not in text:
                continue
            path = target / module.name
            path.write_text(_package_imports(text))
            written.append(path)
    return written


def _package_imports(text: str) -> str:
    return _IMPORT.sub(lambda match: f"from openmodel_protos import {match[1]}{match[2] or ''}", text)


def main() -> int:
    """Regenerates the committed modules in place."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for path in generate(TARGET):
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
