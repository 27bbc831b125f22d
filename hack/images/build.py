#!/usr/bin/env python3
"""Makes images and pushes them: `build.py operator runtime`, `build.py model FOLDER NAME[:TAG]`.

Knows the command line, the cache folder and the order of things. Does not know layers or HTTP;
`openmodel_images/` does. Prints one `NAME=REGISTRY/REPOSITORY@DIGEST` line an image.
"""

import argparse
import fcntl
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from openmodel_images.catalogue import PROGRAMS, ImagePlan, checkpoint_image, program_image
from openmodel_images.debian_base import DebianBase, machine_sources
from openmodel_images.errors import BuildError
from openmodel_images.layers import Records, ensure_layer, say, write_atomically
from openmodel_images.manifest import MANIFEST_TYPE, config_bytes, manifest_bytes, tag_of
from openmodel_images.registry import Registry, digest_of, is_loopback

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_REGISTRY = "127.0.0.1:5000"
# What a registry allows in one part of a repository's name.
NAME_FORM = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
TAG_FORM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build.py",
        usage="build.py [options] [operator] [runtime] [model DIR NAME[:TAG] [DIR NAME[:TAG] …]]",
        description="Makes OpenModel's images and pushes them into a registry. Without a target: operator and runtime.",
    )
    registry = os.environ.get("OPENMODEL_REGISTRY") or DEFAULT_REGISTRY
    parser.add_argument("--registry", default=registry, metavar="HOST:PORT", help="(%(default)s)")
    parser.add_argument("--plain-http", action="store_true", help="no TLS (always so for a loopback address)")
    parser.add_argument(
        "--refresh-base",
        action="store_true",
        help="make the base layer anew, to take in updates of Debian's packages",
    )
    parser.add_argument("targets", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def plans(targets: Sequence[str], root: Path = ROOT) -> list[ImagePlan]:
    """The images that the command line names."""
    words = list(targets) or list(PROGRAMS)
    found: list[ImagePlan] = []
    while words:
        word = words.pop(0)
        if word in PROGRAMS:
            found.append(program_image(root, word))
        elif word == "model":
            found.extend(_checkpoints(words))
        else:
            raise BuildError(f"no such target: {word} (operator, runtime, model DIR NAME[:TAG])")
    return found


def _checkpoints(words: list[str]) -> Iterator[ImagePlan]:
    """Takes the pairs after `model` off the front of `words`."""
    if len(words) < 2:  # a pair
        raise BuildError("model needs a folder and a name")
    while words and words[0] not in (*PROGRAMS, "model"):
        if len(words) < 2:
            raise BuildError(f"model: {words[0]} has no name")
        folder, (name, colon, tag) = words.pop(0), words.pop(0).partition(":")
        if not NAME_FORM.fullmatch(name) or (colon and not TAG_FORM.fullmatch(tag)):
            raise BuildError(f"not a name that a registry takes: {name}{colon}{tag}")
        yield checkpoint_image(Path(folder), name, tag or None)


def make(registry: Registry, plan: ImagePlan, records: Records) -> str:
    """Make one image, push it, and return its reference."""
    repository = plan.repository
    layers = [(source.name, ensure_layer(registry, repository, source, records)) for source in plan.layers]
    config = registry.put_blob(repository, config_bytes(plan.settings, layers))
    manifest = manifest_bytes(config, [blob for _, blob in layers])
    digest = digest_of(manifest)
    for tag in filter(None, (tag_of(digest), plan.tag)):
        registry.put_manifest(repository, tag, manifest, MANIFEST_TYPE)
    return f"{registry.address}/{repository}@{digest}"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One build at a time: two would make the same layers twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    cache = Path(os.environ.get("OPENMODEL_CACHE") or Path.home() / ".cache/openmodel") / "images"
    plain_http = options.plain_http or is_loopback(options.registry)
    registry = Registry(options.registry, plain_http=plain_http)
    wanted = plans(options.targets)
    registry.check()
    with alone(cache):
        records = Records(cache / "layers")
        if options.refresh_base:
            records.forget(DebianBase(machine_sources()).key)
        for plan in wanted:
            reference = make(registry, plan, records)
            kept = cache / f"{plan.repository.removeprefix('openmodel/')}.ref"
            write_atomically(kept, reference + "\n")
            print(f"{plan.name}={reference}", flush=True)  # the result


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (BuildError, OSError) as error:
        sys.exit(f"build.py: {error}")
