"""Build hook of the wheel: compiles the CPU kernels when torch and a C++ compiler are at hand.

Without them the wheel is pure Python and the reference kernels serve, which the runtime says when it starts.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_CPU = Path(__file__).resolve().parent / "openmodel_kernels" / "cpu"


class CpuKernelsHook(BuildHookInterface[Any]):
    """Adds the extension to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles; `build_data` learns that the wheel is for this Python and machine."""
        if importlib.util.find_spec("torch") is None or not (shutil.which("c++") and shutil.which("ninja")):
            self.app.display_warning("without torch, a C++ compiler and ninja: the wheel has no compiled kernels")
            return
        sys.path.insert(0, str(_CPU))
        extension = importlib.import_module("build").build()
        build_data["artifacts"].append(str(extension.relative_to(self.root)))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
