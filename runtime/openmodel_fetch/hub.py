"""A model on a hub: which commit a revision is, which of its files are the checkpoint, and their bytes.

The only module that talks to a hub, through the Hub's own library; errors become ours, in words that name the field.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx2
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

from openmodel_fetch.errors import FetchInterrupted, SourceRefused
from openmodel_fetch.source import HubSource
from openmodel_runtime.checkpoint.tensor_files import INDEX, SINGLE
from openmodel_runtime.errors import CheckpointError

# Beside the tensors: configuration, tokenizer, template, card, licence.
_SMALL = (".json", ".jinja", ".model", ".txt", ".md")
_LICENCES = ("LICENSE", "NOTICE", "USE_POLICY")
_MOST_SMALL_BYTES = 128 << 20
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_OF_THE_NETWORK = (httpx2.HTTPError, TimeoutError, ConnectionError, LocalEntryNotFoundError, FileMetadataError)
_INTERRUPTIONS = (*_OF_THE_NETWORK, OSError)
_REFUSALS = (401, 403, 404, 410)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of the checkpoint."""

    path: str
    size: int
    sha256: str
    """Of large files, by the hub's word; "" for small ones."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model at one commit."""

    commit: str
    files: tuple[HubFile, ...]


class Hub:
    """Requests about one source."""

    def __init__(self, source: HubSource) -> None:
        self._source = source

    def resolve(self) -> HubModel:
        """The commit that the revision is now, and the files that a runtime reads."""
        source = self._source
        with self._told():
            info = self._api().model_info(source.repository, revision=source.revision, files_metadata=True)
        files = [
            HubFile(path=item.rfilename, size=item.size or 0, sha256=item.lfs.sha256 if item.lfs else "")
            for item in info.siblings or ()
            if _is_wanted(item.rfilename)
        ]
        commit = info.sha or ""
        if not _COMMIT.fullmatch(commit):
            raise SourceRefused(
                f"spec.model.endpoint: the hub says that {source.revision} of {source.repository} is "
                f"{commit[:80]!r}, which is no commit"
            )
        for file in files:
            if is_small(file.path) and file.size > _MOST_SMALL_BYTES:
                raise SourceRefused(
                    f"spec.model.source: {source.repository} has {file.path} of {file.size} bytes: no such file of a "
                    f"checkpoint is larger than {_MOST_SMALL_BYTES}"
                )
        return HubModel(commit, tuple(sorted(files, key=lambda file: file.path)))

    def fetch(self, model: HubModel, path: str, folder: Path) -> Path:
        """Downloads one file into the folder, if it has not come; a connection that is cut goes on at the byte."""
        with self._told():
            return Path(
                hf_hub_download(
                    self._source.repository,
                    path,
                    revision=model.commit,
                    local_dir=folder,
                    endpoint=self._source.endpoint,
                    token=self._source.token(),
                )
            )

    def header(self, model: HubModel, path: str) -> tuple[bytes, int]:
        """The header of a tensor file, its length before it, and how much data it promises, which is not asked for."""
        with self._told():
            found = self._api().parse_safetensors_file_metadata(self._source.repository, path, revision=model.commit)
        tensors = {
            name: {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": list(entry.data_offsets)}
            for name, entry in found.tensors.items()
        }
        text = json.dumps(tensors).encode()
        data = max((entry.data_offsets[1] for entry in found.tensors.values()), default=0)
        return struct.pack("<Q", len(text)) + text, data

    def _api(self) -> HfApi:
        return HfApi(endpoint=self._source.endpoint, token=self._source.token())

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns the library's errors into ours."""
        name = f"{self._source.repository} at {self._source.revision}"
        try:
            yield
        except GatedRepoError as error:
            raise SourceRefused(
                f"spec.model.source: {name} is gated: accept its terms on the hub, and give a token of that account as "
                f"spec.model.secretRef ({_status(error)})"
            ) from None
        except RevisionNotFoundError as error:
            raise SourceRefused(f"spec.model.revision: there is no {name} ({_status(error)})") from None
        except RepositoryNotFoundError as error:
            raise SourceRefused(
                f"spec.model.source: there is no {name}, or it is private: check the name, or give a token as "
                f"spec.model.secretRef ({_status(error)})"
            ) from None
        except SafetensorsParsingError as error:
            raise CheckpointError(f"{name}: {error}") from None
        except HfHubHTTPError as error:
            if error.response.status_code in _REFUSALS:
                raise SourceRefused(f"spec.model.source: the hub refuses {name} ({_status(error)})") from None
            raise FetchInterrupted(f"the hub failed on {name} ({_status(error)})") from None
        except _INTERRUPTIONS as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, _OF_THE_NETWORK):
                raise
            # One of the system without a number is the library's own: what came is not as long as was said.
            raise FetchInterrupted(f"the hub can not be reached for {name}, or was cut off: {error!r}") from None


def tensor_files(model: HubModel, folder: Path) -> list[str]:
    """The tensor files that belong to the checkpoint, once its small files lie in the folder.

    Hubs keep the same weights in several forms side by side: those that the index names count, or the single file.
    """
    there = {file.path for file in model.files}
    if INDEX in there:
        try:
            named = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{INDEX} has no weight_map") from None
        missing = [str(name) for name in named if name not in there]
        if missing:
            raise CheckpointError(f"{INDEX} names {missing[0]}, which is missing")
        return named
    return [SINGLE] if SINGLE in there else []


def fetched_bytes(model: HubModel, folder: Path) -> int:
    """What a fetch takes on the disk, once the small files lie in the folder."""
    tensors = set(tensor_files(model, folder))
    return sum(file.size for file in model.files if is_small(file.path) or file.path in tensors)


def is_small(path: str) -> bool:
    """Whether a file is no tensors."""
    return not path.endswith(".safetensors")


def _is_wanted(path: str) -> bool:
    """Files of the root that a runtime reads, and the licence; no pickles, no other frameworks', no code."""
    file = PurePosixPath(path)
    if len(file.parts) != 1 or file.name.startswith("."):
        return False
    return file.suffix == ".safetensors" or file.suffix in _SMALL or file.stem.upper() in _LICENCES


def _status(error: HfHubHTTPError) -> str:
    return f"HTTP {error.response.status_code}"
