"""Builds the two test models: `python hack/models/build.py [--cache DIR] [--verify] [--where]`.

Knows the order of the steps and the command line. What a checkpoint consists of is known by
`dense_checkpoint` and `mixture_checkpoint`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from checkpoint_folder import build_once, default_cache, models_folder


def main() -> None:
    """Builds what is absent, then verifies when asked to, and prints where the models are."""
    parser = argparse.ArgumentParser(description="Build the test models, where absent.")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    parser.add_argument("--verify", action="store_true", help="compare with transformers' loader")
    parser.add_argument("--where", action="store_true", help="print the folder; build nothing")
    arguments = parser.parse_args()
    folder = models_folder(arguments.cache.expanduser().absolute())
    if not arguments.where:
        build(folder, verify=arguments.verify)
    print(folder)


def build(folder: Path, *, verify: bool) -> None:
    """Both checkpoints under `folder`; the package is fetched only when something needs it."""
    # Imported here, so that --where answers at once.
    from dense_checkpoint import NAME as DENSE
    from dense_checkpoint import write_dense
    from mixture_checkpoint import NAME as MIXTURE
    from mixture_checkpoint import write_mixture
    from package_gguf import package_files
    from smollm2_gguf import SmolLM2Gguf

    dense, mixture = folder / DENSE, folder / MIXTURE
    if dense.is_dir() and mixture.is_dir() and not verify:
        say("both models are present")
        return
    with package_files(folder, say) as package:
        source = SmolLM2Gguf(package.gguf)
        build_once(dense, lambda into: write_dense(into, source, package.licence, say), say)
        build_once(mixture, lambda into: write_mixture(into, source, package.licence, say), say)
        if verify:
            from verify_models import verify_models

            verify_models(source, package.gguf, dense, mixture, say)


def say(line: str) -> None:
    """Progress, on standard error: standard output holds the folder and nothing else."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
