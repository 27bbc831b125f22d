"""Which files of the installed dependencies stay out of the image.

Knows the dependencies' habits, by path alone; measured on torch 2.15 with CUDA 13.2. Does not look
into files. A rule may only name what no running program opens: importing torch,
torch.distributed and triton must work afterwards, on a CPU and on a GPU.
"""

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

# Shell-like patterns over the path below the library folder; `*` crosses slashes.
UNNEEDED = (
    "bin",  # console scripts with the staging folder's interpreter in them
    "share",  # manual pages
    "distutils-precedence.pth",
    "*/__pycache__",  # compiled anew, without times
    "*/tests",
    "torch/test",
    "*.dist-info/RECORD",  # says where the scripts were staged
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "*.dist-info/uv_*",
    "*.pyi",
    "*.pxd",
    "*.pyx",
    "*.a",  # static libraries, of CUPTI most of all: 180 MB
    # Headers; triton's of CUDA stay, because it compiles against them.
    "torch/include",
    "torch/share",
    "torch/bin/protoc*",
    "nvidia/*/include",
    "nvidia/cu13/cccl",
    "triton/include",
    "triton/backends/amd/include",
    # Device code for writing one's own NVSHMEM kernels: 145 MB.
    "nvidia/nvshmem/lib/*.bc",
    # Libraries that no other one links to or opens: 120 MB.
    "nvidia/cu13/lib/libcusolverMg.so*",
    "nvidia/cu13/lib/libcheckpoint.so*",
    "nvidia/cu13/lib/libpcsamplingutil.so*",
)


def is_needed(path: PurePosixPath) -> bool:
    """Whether a file, or a folder with all below it, belongs into the image."""
    text = str(path)
    return not any(fnmatchcase(text, pattern) for pattern in UNNEEDED)
