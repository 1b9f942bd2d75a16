"""Paths of downloaded files in the cache, and their checksums."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellular_bench.core.files import cache_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file that one of several addresses provides.

    Attributes
    ----------
    urls
        Addresses of the same file, tried in this order.
    name
        Name in the cache.
    sha256, md5
        Checksums, or None if unknown. A file without checksums is *unverified*: the checksum of the first
        download is stored, and any other content of the same address is refused from then on.
    size
        Number of bytes, or None if unknown.
    """

    urls: tuple[str, ...]
    name: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    @property
    def is_verified(self) -> bool:
        """True if a checksum is known."""
        return bool(self.sha256 or self.md5)


def place(wanted: Wanted) -> Path:
    """Return the path of the file in the cache, in a separate folder for each content."""
    if wanted.sha256:
        return cache_dir() / wanted.sha256[:16] / wanted.name
    key = wanted.md5 or hashlib.sha256(wanted.urls[0].encode()).hexdigest()
    folder = f"md5-{key[:16]}" if wanted.md5 else f"unverified-{key[:16]}"
    return cache_dir() / folder / wanted.name


def is_cached(wanted: Wanted) -> bool:
    """Return whether the file is in the cache and complete; its checksum is computed again."""
    target = place(wanted)
    return target.is_file() and not difference(target, wanted)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    return _file_hash(path, "sha256")


def remembered_sha256(wanted: Wanted) -> str | None:
    """Return the sha256 of the first download of an unverified file, or None."""
    note = note_of(place(wanted))
    return note.read_text(encoding="ascii").strip() if note.is_file() else None


def difference(path: Path, wanted: Wanted) -> str:
    """Describe how a file differs from the expected one; empty if it does not."""
    size = path.stat().st_size
    if wanted.size is not None and size != wanted.size:
        return f"it has {size} bytes, expected {wanted.size}"
    for kind, expected in (("sha256", wanted.sha256), ("md5", wanted.md5)):
        actual = _file_hash(path, kind) if expected else None
        if actual != expected:
            return f"its {kind} is {actual}, expected {expected}"
    first = None if wanted.is_verified else remembered_sha256(wanted)
    if first and file_sha256(path) != first:
        return f"its sha256 is {file_sha256(path)}, and was {first} when it was first fetched"
    return ""


def _file_hash(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        # Deposits publish md5 sums; they protect against damage, not against malice.
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def read_note(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if it is missing or was not written completely."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def note_of(target: Path) -> Path:
    """Return the path of the file that stores the sha256 of an unverified file."""
    return target.with_name(f"{target.name}.sha256")
