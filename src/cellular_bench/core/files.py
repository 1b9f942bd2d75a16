"""Names of files: file systems allow 255 bytes for one."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import Final

#: The rest of a name needs its share.
MAX_NAME_BYTES: Final = 100


def fitting(name: str) -> str:
    """Cut a name that would make the name of a file too long; a digest beside it tells such names apart.

    Examples
    --------
    >>> fitting("lobo.human1"), len(fitting("x" * 300))
    ('lobo.human1', 100)
    """
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


def short(name: str) -> str:
    """Return a name as it is where it fits; else cut, with a digest of the whole.

    Examples
    --------
    >>> short("lobo.human1"), len(short("x" * 300)), short("x" * 300) == short("x" * 301)
    ('lobo.human1', 111, False)
    """
    cut = fitting(name)
    return name if cut == name else f"{cut}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def write_text_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, never a part.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; an older file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
