"""The one error of this package: a sentence for the person at the terminal.

Knows what a missing program should be answered with. Does not know who calls.
"""

import shutil


class BuildError(Exception):
    """The image cannot be made; the message says why and, where there is one, the way out."""


def need_tool(name: str, remedy: str) -> str:
    """The path of a program, or a `BuildError` that says how to get it."""
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"{name} is not installed: {remedy}")
    return path
