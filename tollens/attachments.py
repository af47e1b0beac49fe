"""The attachments of evidence as a page can hold them: pictures and texts, as far as there is room.

What does not fit, or is neither, is named with its size and digest; a lost or altered file says so.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import escape

from tollens.evidence import Attachment
from tollens.project import Project
from tollens.review import Review

PICTURES = {
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
MARKUP = 200  # bytes around what is embedded


@dataclass(frozen=True)
class Kept:
    """One attachment on disk, and how often the page shows it; no size where it is not there."""

    attachment: Attachment
    path: Path
    size: int | None
    uses: int


@dataclass(frozen=True)
class Embedded:
    """What the page holds of one attachment: a picture's address, a text, or why neither."""

    picture: str = ""
    text: str | None = None
    note: str = ""

    @property
    def cost(self) -> int:
        return MARKUP + len(self.picture) + len(escape(self.text or "").encode())


def kept(project: Project, review: Review) -> dict[str, Kept]:
    """sha256 → attachment, in the order of the page: the worst contract's first."""
    found: dict[str, Kept] = {}
    for contract in review.contracts:
        folder = project.evidence_path(contract.loaded.contract.id).parent
        views = [view for falsifier in contract.falsifiers for view in falsifier.results]
        for each in (each for view in views for each in view.result.attachments):
            known = found.get(each.sha256) or _kept(each, folder / each.path)
            found[each.sha256] = replace(known, uses=known.uses + 1)
    return found


def _kept(attachment: Attachment, path: Path) -> Kept:
    return Kept(attachment, path, path.stat().st_size if path.is_file() else None, 0)


def embed(files: Iterable[Kept], room: int) -> dict[str, Embedded]:
    """sha256 → what the page holds of it, as many as there is room for, in the order given."""
    found = {}
    for each in files:
        embedded = _embedded(each) if (each.size or 0) * each.uses <= room else None
        if embedded and embedded.cost * each.uses <= room:
            found[each.attachment.sha256] = embedded
            room -= embedded.cost * each.uses
    return found


def _embedded(each: Kept) -> Embedded:
    if each.size is None:
        return Embedded(note="the file is missing")
    data = each.path.read_bytes()
    if hashlib.sha256(data).hexdigest() != each.attachment.sha256:
        return Embedded(note="the file is altered: its sha256 is another")
    kind = PICTURES.get(each.path.suffix.lower())
    if kind:
        return Embedded(picture=f"data:{kind};base64,{base64.b64encode(data).decode()}")
    text = _text(data)
    return Embedded(text=text) if text is not None else Embedded(note="neither picture nor text")


def _text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def left_out(files: Iterable[Kept], embedded: Mapping[str, Embedded]) -> Iterator[Kept]:
    """The attachments that are there, and that the page has no room for."""
    for each in files:
        if each.size is not None and each.attachment.sha256 not in embedded:
            yield each
