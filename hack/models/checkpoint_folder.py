"""Where built checkpoints live and how a folder appears there: whole or not at all.

Knows the cache layout, the version that names a build, and the atomic rename.
Does not know what a checkpoint contains, nor any tensor library.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
REPOSITORY = SCRIPTS.parent.parent
LOCKED_PACKAGE = REPOSITORY / "requirements" / "smollm2.txt"

Progress = Callable[[str], None]


def default_cache() -> Path:
    """$OPENMODEL_CACHE, or ~/.cache/openmodel where it is unset or empty."""
    configured = os.environ.get("OPENMODEL_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "openmodel"


def build_version() -> str:
    """A short hash over everything that decides the bytes: these scripts and the locked package."""
    digest = hashlib.sha256()
    for path in (*sorted(SCRIPTS.glob("*.py")), LOCKED_PACKAGE):
        content = path.read_bytes()
        # The length keeps two files from hashing like one file with the same joined content.
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def models_folder(cache: Path) -> Path:
    """The folder that holds this version's checkpoints."""
    return cache / "models" / build_version()


@contextmanager
def scratch_folder(parent: Path, label: str) -> Iterator[Path]:
    """A folder beside the finished ones (so that a rename stays on one file system), then gone."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".partial-{label}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build_once(target: Path, build: Callable[[Path], None], progress: Progress) -> bool:
    """Runs `build` into a scratch folder and renames it to `target`; False where that existed."""
    if target.is_dir():
        progress(f"{target.name}: present")
        return False
    started = time.monotonic()
    with scratch_folder(target.parent, target.name) as scratch:
        content = scratch / target.name
        content.mkdir()
        build(content)
        for path in content.iterdir():
            # safetensors gives its files to the owner alone; a pod may read them as another user.
            path.chmod(0o644)
            _sync(path)
        _sync(content)
        try:
            content.rename(target)
        except OSError:
            # Another process finished first. Builds are deterministic, so its folder is as good.
            if not target.is_dir():
                raise
            progress(f"{target.name}: built by another process meanwhile")
            return False
    progress(f"{target.name}: built in {time.monotonic() - started:.0f} s")
    return True


def write_json(path: Path, content: Mapping[str, object], *, indent: int | None = 2) -> None:
    """JSON as the Hub's files have it: UTF-8, not escaped, a newline at the end."""
    text = json.dumps(content, indent=indent, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    """Forces content to disk, so that a crash after the rename cannot leave hollow files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
