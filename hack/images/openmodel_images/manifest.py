"""The two documents of an image: its config (what runs, on which layers) and its manifest.

Knows the OCI image specification. Does not do I/O; the same arguments give the same bytes.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openmodel_images.registry import Blob

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
# Not compressed: it is read on the machine where it is written, and weights do not shrink.
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CREATED = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """What a container of the image starts with. An image of files alone has labels only."""

    labels: Mapping[str, str]
    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


def architecture(machine: str = platform.machine()) -> str:
    return ARCHITECTURES.get(machine, machine)


def config_bytes(settings: ImageSettings, layers: Sequence[tuple[str, Blob]]) -> bytes:
    """The config of an image with these named layers, lowest first."""
    running: dict[str, object] = {"Labels": dict(settings.labels)}
    if settings.entrypoint:
        running |= {
            "Entrypoint": list(settings.entrypoint),
            "Env": [f"{name}={value}" for name, value in settings.environment.items()],
            "User": settings.user,
            "WorkingDir": "/",
        }
    return _canonical(
        {
            "architecture": architecture(),
            "os": "linux",
            "created": CREATED,
            "config": running,
            "rootfs": {"type": "layers", "diff_ids": [blob.digest for _, blob in layers]},
            "history": [{"created": CREATED, "created_by": name} for name, _ in layers],
        }
    )


def manifest_bytes(config: Blob, layers: Sequence[Blob]) -> bytes:
    """The manifest: the config and the layers, by digest and size."""
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(LAYER_TYPE, blob) for blob in layers],
        }
    )


def tag_of(manifest_digest: str) -> str:
    """The tag says the content, so it never moves. References use the digest anyway."""
    return manifest_digest.removeprefix("sha256:")[:12]


def _descriptor(media_type: str, blob: Blob) -> dict[str, object]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
