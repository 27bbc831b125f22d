"""What a checkpoint's model card (README.md) states in its front matter.

Knows only the licence: one scalar line between the first two `---`; the rest of the card is prose.
"""

from __future__ import annotations

import re
from pathlib import Path

_LICENSE = re.compile(r"^license:\s*[\"']?([^\s\"'#]+)", re.MULTILINE)


def card_license(folder: Path) -> str:
    """The card's licence identifier as it is written there; "" when there is no card or no statement."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return ""
    match = _LICENSE.search(parts[1])
    return match[1] if match else ""
