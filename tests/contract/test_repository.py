"""Rules of the house that no linter knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Registries are reached as the machine is set up; a host name in a file would bind the project to one.
REGISTRY_HOSTS = re.compile(
    "|".join(
        re.escape(host)
        for host in (
            "pypi." + "org",
            "files.python" + "hosted",
            "registry.npm" + "js",
            "proxy.go" + "lang",
            "sum.go" + "lang",
            "deb.deb" + "ian.org",
            "crates." + "io",
            "repo1.ma" + "ven",
        )
    )
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def code_files() -> list[Path]:
    return [
        path
        for path in tracked()
        if (path.suffix in {".py", ".sh", ".cpp"} or path.read_bytes()[:2] == b"#!") and "_pb2" not in path.name
    ]


def test_source_roots_are_never_packages() -> None:
    """operator/__init__.py would shadow the standard library's operator and break the interpreter."""
    for root in ("operator", "runtime", "protos"):
        assert not (ROOT / root / "__init__.py").exists()


def test_files_are_short_and_named_by_purpose() -> None:
    for path in code_files():
        lines = len(path.read_text().splitlines())
        assert lines <= 300, f"{path.relative_to(ROOT)} has {lines} lines: split it by purpose"
        assert path.stem not in {"utils", "helpers", "common", "misc"}, path


def test_modules_say_what_they_know() -> None:
    for path in code_files():
        if path.suffix == ".py" and path.is_relative_to(ROOT / "operator") | path.is_relative_to(ROOT / "runtime"):
            assert path.read_text().startswith('"""'), f"{path.relative_to(ROOT)} has no module docstring"


def test_no_file_names_a_package_registry() -> None:
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found = REGISTRY_HOSTS.search(text)
        assert not found, f"{path.relative_to(ROOT)} names {found[0] if found else ''}"


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"])
def test_root_files_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0
