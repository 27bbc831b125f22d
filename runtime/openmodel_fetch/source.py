"""Where a checkpoint comes from: `hf://ORGANIZATION/NAME`, of a hub that speaks the Hugging Face Hub's API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from openmodel_fetch.errors import SourceRefused

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A model on a hub."""

    repository: str
    revision: str = "main"
    """A branch, a tag or a commit."""
    endpoint: str | None = None
    """A mirror; None is the hub itself."""
    token_file: Path | None = None
    """A file with a token of the hub; it is read anew for every request, and never logged."""

    def token(self) -> str | bool:
        """The token; False for none, so that no other is looked for."""
        if self.token_file is None:
            return False
        try:
            return self.token_file.read_text().strip() or False
        except OSError as error:
            raise SourceRefused(f"spec.model.secretRef: the token can not be read: {error.strerror}") from None


def parse_source(source: str, revision: str | None, endpoint: str | None, token_file: Path | None) -> HubSource:
    """The source of these flags; SourceRefused when it is none of a hub."""
    scheme, _, repository = source.partition("://")
    if scheme != "hf" or not _REPOSITORY.fullmatch(repository):
        raise SourceRefused(f"spec.model.source: {source!r} is not hf://ORGANIZATION/NAME")
    return HubSource(
        repository=repository, revision=revision or "main", endpoint=endpoint or None, token_file=token_file
    )
