"""The base layer: Debian with a Python and nothing that a serving pod has no use for.

Knows mmdebstrap and which packages are in. Does not know what runs on top. What is trimmed after
the installation stands in `trim_base.sh`.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from openmodel_images.errors import BuildError, need_tool
from openmodel_images.layers import key_of
from openmodel_images.tar_stream import BUFFER_BYTES, ByteSink

SUITE = "bookworm"  # Its Python is 3.11, which is the one that the locked wheels are for.
PYTHON_VERSION = "3.11"
GLIBC_VERSION = "2_36"
USER_ID = 65532

# libgomp1 and libstdc++6: torch's and grpc's native parts link to them. usr-is-merged keeps
# usrmerge out, and with it 50 MB of Perl.
PACKAGES = (
    "usr-is-merged",
    "python3-minimal",
    "python3",
    "libgomp1",
    "libstdc++6",
    "ca-certificates",
)
UNWANTED = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",  # Licences stay.
)
MERGED_USR_HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TRIM = Path(__file__).with_name("trim_base.sh")

# Newer times in the tree are set back to this one.
EPOCH = "1767225600"  # 2026-01-01
LOG_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class DebianBase:
    """The base layer, from the packages that this machine's apt sources offer today."""

    sources: tuple[Path, ...]
    name: str = "base"
    repeatable: bool = False

    @property
    def key(self) -> str:
        inputs = (Path(__file__), TRIM, *self.sources)
        return key_of("base", *(path.read_bytes() for path in inputs))

    def write_to(self, sink: ByteSink) -> None:
        environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH, "PYTHONHASHSEED": "0"}
        with (
            tempfile.TemporaryFile() as log,
            subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            ) as process,
        ):
            while data := cast(IO[bytes], process.stdout).read(BUFFER_BYTES):
                sink.write(data)
            if process.wait() != 0:
                log.seek(0)
                complaint = log.read().decode(errors="replace").strip()
                raise BuildError(f"mmdebstrap failed:\n{complaint[-LOG_CHARACTERS:]}")

    def command(self) -> list[str]:
        remedy = "hack/cluster/packages installs it, or: apt-get install mmdebstrap"
        program = need_tool("mmdebstrap", remedy)
        if not KEYRING.exists():
            raise BuildError(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
        return [
            program,
            "--quiet",
            "--variant=essential",  # apt itself stays outside.
            f"--include={','.join(PACKAGES)}",
            f"--hook-dir={MERGED_USR_HOOKS}",
            *(f"--dpkgopt={option}" for option in UNWANTED),
            f"--customize-hook={TRIM}",
            "--skip=output/dev",  # The container runtime makes /dev.
            "--format=tar",
            SUITE,
            "-",
            *map(str, self.sources),
        ]


def machine_sources(etc: Path = Path("/etc")) -> tuple[Path, ...]:
    """The apt sources to build from.

    OPENMODEL_DEBIAN_SOURCES names a file (a mirror near by, or a dated snapshot for the same base
    for ever). Else a Debian of the same release lends its own. Else none: mmdebstrap then takes
    Debian's.
    """
    wanted = os.environ.get("OPENMODEL_DEBIAN_SOURCES")
    if wanted:
        if not Path(wanted).is_file():
            raise BuildError(f"OPENMODEL_DEBIAN_SOURCES: there is no file {wanted}")
        return (Path(wanted).resolve(),)
    release = etc / "os-release"
    if not release.exists() or f"VERSION_CODENAME={SUITE}\n" not in release.read_text():
        return ()
    # Only the distribution's own two files: others' repositories have no place in the image.
    candidates = (etc / "apt/sources.list.d/debian.sources", etc / "apt/sources.list")
    return tuple(path for path in candidates if path.is_file() and path.stat().st_size > 0)
