"""Data sets of the catalogue in a folder of the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from cellular_bench.core.errors import DataError
from cellular_bench.core.types import DatasetSpec
from cellular_bench.datasets.sources import deposits


def patterns(spec: DatasetSpec) -> tuple[str, ...]:
    """Return the file names, with wildcards, under which a folder may hold a data set.

    The first is its ``dataset_id`` with ``.h5ad``, the others are those of its manifest.

    Examples
    --------
    >>> from cellular_bench.datasets.catalog import specs
    >>> patterns(specs()["kidney"])
    ('kidney.h5ad', 'Muto_merged.h5ad')
    """
    return (f"{spec.dataset_id}.h5ad", *spec.local)


def found_in(folder: Path, specs: Mapping[str, DatasetSpec]) -> dict[str, DatasetSpec]:
    """Describe the data sets of the catalogue in a folder and its subfolders; their source is the file.

    Names are compared without regard to case. The values decide whether they are counts. Content that differs
    from the catalogue's causes a warning, not an error; its digest is in the records.

    Raises
    ------
    DataError
        If two files could be the same data set.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    described = {}
    for name, spec in specs.items():
        hits = [path for path in files if _matches(path.relative_to(folder), spec)]
        if len(hits) > 1:
            places = ", ".join(str(path.relative_to(folder)) for path in hits)
            problem = f"{len(hits)} files could be '{name}': {places}. Leave one of them."
            raise DataError(str(folder), [problem])
        if hits:
            source = {"kind": "local", "path": str(hits[0].absolute()), "expected": spec.sha256}
            described[name] = replace(spec, source=source, sha256=None, counts_layer=None)
    return described


def is_here(spec: DatasetSpec) -> bool:
    """Return whether a data set can be loaded without a download or manual work."""
    by_hand = spec.source.get("builder") == "by_hand"
    return deposits.state(spec.source) in ("ships", "cached") and not by_hand


def how_to_get(spec: DatasetSpec) -> str:
    """Return a sentence that says how to get a data set that is missing."""
    names = " or ".join(patterns(spec))
    folder = f"put {names} into the folder of --data-dir"
    if spec.source.get("kind") == "data_dir":
        return f"{folder[0].upper()}{folder[1:]}."
    return f"run-benchmark datasets fetch {spec.dataset_id}, or {folder}."


def _matches(path: Path, spec: DatasetSpec) -> bool:
    place = f"/{path.as_posix().lower()}"
    return any(fnmatchcase(place, f"*/{pattern.lower()}") for pattern in patterns(spec))
