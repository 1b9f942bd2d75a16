"""Where downloaded files are kept, and whether one is what it must be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellular_bench.core.files import cache_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file to be had from one of several addresses.

    Attributes
    ----------
    urls
        Addresses of the same file, tried in this order.
    name
        Name to keep it under.
    sha256, md5
        Checksums, where they are known. A file without any is *unverified*: what comes first is
        remembered, and anything else under the same address is refused from then on.
    size
        Bytes, where they are known.
    """

    urls: tuple[str, ...]
    name: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    @property
    def is_verified(self) -> bool:
        """True where a checksum says what the file must be."""
        return bool(self.sha256 or self.md5)


def place(wanted: Wanted) -> Path:
    """Where the file is, or will be: a folder of its own for each content."""
    if wanted.sha256:
        return cache_dir() / wanted.sha256[:16] / wanted.name
    key = wanted.md5 or hashlib.sha256(wanted.urls[0].encode()).hexdigest()
    folder = f"md5-{key[:16]}" if wanted.md5 else f"unverified-{key[:16]}"
    return cache_dir() / folder / wanted.name


def is_cached(wanted: Wanted) -> bool:
    """Tell whether the file is in the cache and whole; its checksum is worked out again."""
    target = place(wanted)
    return target.is_file() and not difference(target, wanted)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    return _file_hash(path, "sha256")


def remembered_sha256(wanted: Wanted) -> str | None:
    """Return the sha256 that an unverified file had when it first came, or None."""
    note = note_of(place(wanted))
    return note.read_text(encoding="ascii").strip() if note.is_file() else None


def difference(path: Path, wanted: Wanted) -> str:
    """Say how a file differs from what is wanted; empty if it does not."""
    size = path.stat().st_size
    if wanted.size is not None and size != wanted.size:
        return f"it has {size} bytes, expected {wanted.size}"
    for kind, expected in (("sha256", wanted.sha256), ("md5", wanted.md5)):
        came = _file_hash(path, kind) if expected else None
        if came != expected:
            return f"its {kind} is {came}, expected {expected}"
    first = None if wanted.is_verified else remembered_sha256(wanted)
    if first and file_sha256(path) != first:
        return f"its sha256 is {file_sha256(path)}, and was {first} when it was first fetched"
    return ""


def _file_hash(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        # md5 is what the deposits publish; it guards against damage, not against malice.
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def read_note(path: Path) -> dict[str, Any]:
    """Return what a JSON file says; nothing where it is absent, or writing it was broken off."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note_of(target: Path) -> Path:
    """Where the sha256 of an unverified file is remembered."""
    return target.with_name(f"{target.name}.sha256")
