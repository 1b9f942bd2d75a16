"""Parts of an installation of Python or R, by its prefix, which may be a home or a project with much else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PARTS: Final = (
    *("bin", "etc", "include", "lib", "lib32", "lib64", "libexec"),
    *("nvvm", "pyvenv.cfg", "sbin", "share", "targets"),
)


def parts_of(prefix: Path) -> tuple[Path, ...]:
    """Return the folders and files of an installation that are there."""
    return tuple(path for part in _PARTS if (path := prefix / part).exists())
