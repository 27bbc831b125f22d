"""Compiles Python sources to bytecode that carries no times: the same sources, the same bytes.

Runs as a script under the image's Python version, so it imports nothing of this package.
Knows py_compile and what makes bytecode differ between two runs. Does not know the layers.

    python3.11 bytecode.py SOURCE_ROOT FINAL_FOLDER OUTPUT_ROOT < paths, one a line
"""

import multiprocessing
import os
import py_compile
import sys
from pathlib import Path

# Fixed, not the number of processors. What a compiler process saw before leaves traces in the
# bytecode (which strings were interned already), so who compiles what must never change.
WORKERS = 4


def compile_share(source_root: str, final_folder: str, output_root: str, paths: list[str]) -> None:
    """Compile one worker's files, in the given order."""
    for path in paths:
        target = Path(output_root, path)
        try:
            py_compile.compile(
                str(Path(source_root, path)),
                cfile=str(target.parent / "__pycache__" / f"{target.stem}.{_TAG}.pyc"),
                dfile=f"{final_folder}/{path}",  # what a traceback will say
                doraise=True,
                # The image's root is read-only: no import has to compare it with the source.
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except py_compile.PyCompileError:
            # Packages ship templates and syntax of later Pythons as .py files. Importing one
            # fails with the same message, if anyone ever does.
            continue


def main(source_root: str, final_folder: str, output_root: str) -> None:
    paths = sorted(sys.stdin.read().splitlines())
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(
            target=compile_share,
            args=(source_root, final_folder, output_root, paths[first::WORKERS]),
        )
        for first in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode != 0 for worker in workers):
        raise SystemExit("compiling failed")


_TAG = sys.implementation.cache_tag

if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        raise SystemExit("PYTHONHASHSEED must be 0: the order of constants in a set follows it")
    main(*sys.argv[1:])
