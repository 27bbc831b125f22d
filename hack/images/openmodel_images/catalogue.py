"""What is in which image: the operator's, the runtime's, and a checkpoint's.

Knows the repository's layout and how each program starts. Does not know how a layer is made.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openmodel_images import application, dependencies
from openmodel_images.application import read_application
from openmodel_images.checkpoint import checkpoint_layers
from openmodel_images.debian_base import PYTHON_VERSION, USER_ID, DebianBase, machine_sources
from openmodel_images.dependencies import Dependencies
from openmodel_images.errors import BuildError
from openmodel_images.layers import LayerSource
from openmodel_images.manifest import ImageSettings

PROGRAMS: dict[str, tuple[str, ...]] = {
    "operator": (
        "operator/openmodel_operator",
        "operator/openmodel_router",
        "protos/openmodel_protos",
        "protos/openmodel_telemetry",
    ),
    "runtime": (
        "runtime/openmodel_runtime",
        "runtime/openmodel_kernels",
        "runtime/openmodel_fetch",
        "protos/openmodel_protos",
        "protos/openmodel_telemetry",
    ),
}

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    # The one folder that a pod with a read-only root has to make writable.
    "HOME": "/tmp",
    "PYTHONPATH": f"{application.FOLDER}:{dependencies.FOLDER}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """An image to be made: where it goes, its layers (lowest first) and how it starts."""

    name: str
    repository: str
    layers: Sequence[LayerSource]
    settings: ImageSettings
    tag: str | None = None
    """A name for this content that people can write; the content's own hash is always a tag too."""


# What must have been compiled into the source tree before an image is made, for the image's Python.
COMPILED: dict[str, str] = {
    "operator": "",
    "runtime": f"runtime/openmodel_kernels/cpu/_cpu.cpython-{PYTHON_VERSION.replace('.', '')}-*.so",
}


def program_image(root: Path, name: str) -> ImagePlan:
    """The image of the operator or the runtime, from the repository at `root`."""
    if COMPILED[name] and not list(root.glob(COMPILED[name])):
        raise BuildError(f"{COMPILED[name]} is missing: run hack/venv with Python {PYTHON_VERSION}")
    return ImagePlan(
        name=name,
        repository=f"openmodel/{name}",
        layers=[
            DebianBase(machine_sources()),
            Dependencies(root / "requirements" / f"{name}.txt"),
            read_application(root, PROGRAMS[name]),
        ],
        settings=ImageSettings(
            labels={
                "org.opencontainers.image.title": f"openmodel-{name}",
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.version": _version(root),
            },
            entrypoint=["/usr/bin/python3", "-m", f"openmodel_{name}"],
            environment=ENVIRONMENT,
            user=f"{USER_ID}:{USER_ID}",
        ),
    )


def checkpoint_image(folder: Path, name: str, tag: str | None = None) -> ImagePlan:
    """The image of a checkpoint: its files and nothing else."""
    return ImagePlan(
        name=name,
        repository=f"openmodel/models/{name}",
        layers=checkpoint_layers(folder),
        settings=ImageSettings(labels={"org.opencontainers.image.title": name}),
        tag=tag,
    )


def _version(root: Path) -> str:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return str(project["version"])
