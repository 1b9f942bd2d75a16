"""Where data sets come from: one function per kind of source, each giving AnnData as stored."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.benchmark.errors import DataError, UnknownNameError
from cellular_bench.datasets.download import fetch
from cellular_bench.datasets.files import read_h5ad

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.benchmark.types import DatasetSpec

#: Files that ship with this package.
BUNDLED = Path(__file__).parent / "bundled"


def open_source(spec: DatasetSpec) -> AnnData:
    """Return what the source of a data set holds, unvalidated.

    Raises
    ------
    DataError
        If the source is of an unknown kind, or cannot be had or read.
    """
    kind = str(spec.source.get("kind"))
    if kind not in _SOURCES:
        known = ", ".join(sorted(_SOURCES))
        raise DataError(spec.dataset_id, [f"Unknown kind of source '{kind}'. Known: {known}."])
    opener, wanted = _SOURCES[kind]
    absent = [f"Its source of kind '{kind}' lacks the entry '{key}'." for key in wanted - set(spec.source)]
    if absent:
        raise DataError(spec.dataset_id, sorted(absent))
    return opener(spec.dataset_id, spec.source)


def _bundled(dataset_id: str, source: Mapping[str, Any]) -> AnnData:
    return read_h5ad(BUNDLED / source["file"])


def _file(dataset_id: str, source: Mapping[str, Any]) -> AnnData:
    return read_h5ad(Path(source["path"]))


def _package(dataset_id: str, source: Mapping[str, Any]) -> AnnData:
    # The file is read without importing the package that ships it.
    found = importlib.util.find_spec(source["package"])
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        package = source["package"]
        raise DataError(dataset_id, [f"The package '{package}' ships this data set and is not installed."])
    return read_h5ad(Path(folders[0]) / source["file"])


def _simulator(dataset_id: str, source: Mapping[str, Any]) -> AnnData:
    from cellular_bench.datasets.simulator import simulate

    known = inspect.signature(simulate).parameters
    for name in source["arguments"]:
        if name not in known:
            raise DataError(dataset_id, [str(UnknownNameError("argument of the simulator", name, known))])
    return simulate(**source["arguments"])


def _url(dataset_id: str, source: Mapping[str, Any]) -> AnnData:
    return read_h5ad(fetch(source["url"], sha256=source["sha256"], dataset_id=dataset_id))


#: Opener of each kind of source and the entries it needs beside ``kind``.
_SOURCES: Mapping[str, tuple[Callable[[str, Mapping[str, Any]], AnnData], set[str]]] = {
    "bundled": (_bundled, {"file"}),
    "file": (_file, {"path"}),
    "package": (_package, {"package", "file"}),
    "simulator": (_simulator, {"arguments"}),
    "url": (_url, {"url", "sha256"}),
}
