"""Paths of downloaded files in the cache, and their checksums."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cellular_bench.core.errors import DataError
from cellular_bench.core.files import cache_dir, is_plain_name

SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file that one of several addresses provides.

    Attributes
    ----------
    urls
        Addresses of the same file, tried in this order.
    name
        Name in the cache: a plain name, not a path.
    sha256, md5
        Checksums, or None if unknown. A file without checksums is *unverified*: the checksum of the first
        download is stored, and any other content of the same address is refused from then on.
    size
        Number of bytes, or None if unknown.

    Raises
    ------
    DataError
        If the name is a path, or a checksum or the size is none: they become parts of paths.
    """

    urls: tuple[str, ...]
    name: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        checks = (
            ("name", is_plain_name(self.name), self.name),
            ("sha256", self.sha256 is None or is_checksum(self.sha256, "sha256"), self.sha256),
            ("md5", self.md5 is None or is_checksum(self.md5, "md5"), self.md5),
            ("size", self.size is None or self.size >= 0, self.size),
        )
        problems = [
            f"Its {name} is {value!r}, which is none." for name, is_right, value in checks if not is_right
        ]
        if problems:
            raise DataError("A file to be fetched", problems)

    @property
    def is_verified(self) -> bool:
        """True if a checksum is known."""
        return bool(self.sha256 or self.md5)


def is_checksum(value: object, kind: str) -> bool:
    """Whether a value is a checksum: 64 hexadecimal digits of a sha256, 32 of an md5."""
    length = {"sha256": 64, "md5": 32}[kind]
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{length}}}", value) is not None


def address_problem(url: object) -> str:
    """Describe why an address is not used; empty if it is: http or https, a host, no name and password.

    Examples
    --------
    >>> address_problem("https://zenodo.org/a.h5ad"), address_problem("file:///etc/passwd")
    ('', 'expected an address with http or https')
    """
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return "expected an address without spaces and special characters"
    try:
        parts = urlsplit(url)
        is_complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "it is not a complete address"
    if parts.scheme not in SCHEMES:
        return f"expected an address with {' or '.join(SCHEMES)}"
    if parts.username is not None or parts.password is not None:
        return "an address must not hold a name or a password"
    return "" if is_complete else "it is not a complete address"


def file_name(url: str) -> str:
    """Return the last part of an address if it is a plain name, else ``"download"``."""
    name = "" if address_problem(url) else Path(urlsplit(url).path).name
    return name if is_plain_name(name) else "download"


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
