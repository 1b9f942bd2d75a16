"""Sources of data sets: one function per kind of source; each returns AnnData as stored."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.core.errors import DataError, UnknownNameError
from cellular_bench.core.files import cache_dir, short
from cellular_bench.core.h5ad import write_h5ad
from cellular_bench.datasets.h5ad import read_h5ad
from cellular_bench.datasets.sources import builders, declared, deposits, wheels
from cellular_bench.datasets.sources.download import Options, fetch

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.core.types import DatasetSpec

#: Files that ship with this package.
BUNDLED = Path(__file__).parents[1] / "bundled"


def open_source(spec: DatasetSpec, *, options: Options | None = None) -> AnnData:
    """Return the content of the source of a data set, not validated; fetch it first if necessary.

    Raises
    ------
    DataError
        If the kind of source is unknown, or it cannot be fetched or read.
    """
    _check(spec)
    return _OPENERS[spec.source["kind"]](spec.dataset_id, spec.source, options or Options())


def _check(spec: DatasetSpec) -> None:
    """Check a source: those of plug-ins were read from no file."""
    in_memory = spec.source.get("kind") in declared.IN_THIS_PROCESS
    problems = [] if in_memory else declared.problems(spec.source)
    if problems:
        raise DataError(spec.dataset_id, problems)


def fetch_source(spec: DatasetSpec, *, options: Options | None = None) -> list[Path]:
    """Fetch the files of a data set into the cache, without reading them.

    Returns
    -------
    Paths of the files; empty for data that need no download.
    """
    options = options or Options()
    kind = spec.source.get("kind")
    _check(spec)
    if kind == "carrier":
        paths = wheels.fetch_wheels(spec.source["wheels"], dataset_id=spec.dataset_id, options=options)
        return list(paths.values())
    if kind == "data_dir":
        _data_dir(spec.dataset_id, spec.source, options)
    if kind == "download":
        return list(deposits.files_of(spec.dataset_id, spec.source, options=options).values())
    if kind == "url":
        source = spec.source
        return [fetch(source["url"], sha256=source["sha256"], dataset_id=spec.dataset_id, options=options)]
    return []


def _bundled(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    return read_h5ad(BUNDLED / source["file"])


def _file(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    return read_h5ad(Path(source["path"]))


def _memory(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    adata: AnnData = source["adata"].copy()  # the caller's cells must not change
    return adata


def _function(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    from anndata import AnnData

    made = source["function"]()
    if not isinstance(made, AnnData):
        raise DataError(dataset_id, [f"Its function returned {type(made).__name__}; expected AnnData."])
    return made


def _data_dir(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    problem = (
        "It cannot be downloaded: put its file into a folder and name that with --data-dir. "
        f"run-benchmark datasets info {dataset_id} says what it must hold."
    )
    raise DataError(dataset_id, [problem])


def _package(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    # The file is read without importing the package that ships it.
    try:
        package_spec = importlib.util.find_spec(source["package"])
    except (ImportError, ValueError):  # a module without a file, such as __main__
        package_spec = None
    folders = list(package_spec.submodule_search_locations or ()) if package_spec else []
    if not folders:
        package = source["package"]
        raise DataError(dataset_id, [f"The package '{package}' ships this data set and is not installed."])
    return read_h5ad(Path(folders[0]) / source["file"])


def _simulator(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    from cellular_bench.datasets.simulator import Simulation

    known = [field.name for field in fields(Simulation)]
    for name in source["arguments"]:
        if name not in known:
            raise DataError(dataset_id, [str(UnknownNameError("argument of the simulator", name, known))])
    try:
        return Simulation(**source["arguments"]).draw()
    except (TypeError, ValueError, OverflowError) as error:
        problem = f"The simulator cannot use its arguments: {error}."
        raise DataError(dataset_id, [problem]) from error


def _url(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    return read_h5ad(fetch(source["url"], sha256=source["sha256"], dataset_id=dataset_id, options=options))


def _wheels(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    builder = builders.BUILDERS[source["builder"]]

    def build() -> AnnData:
        return builder(wheels.fetch_wheels(source["wheels"], dataset_id=dataset_id, options=options))

    return _built_once(dataset_id, source, build)


def _download(dataset_id: str, source: Mapping[str, Any], options: Options) -> AnnData:
    builder = builders.BUILDERS[source["builder"]]
    if builder in (builders.h5ad, builders.in_archive, builders.by_hand):
        return builder(deposits.files_of(dataset_id, source, options=options))
    return _built_once(
        dataset_id, source, lambda: builder(deposits.files_of(dataset_id, source, options=options))
    )


def _built_once(dataset_id: str, source: Mapping[str, Any], build: Callable[[], AnnData]) -> AnnData:
    """Cache the result of a builder: text tables take minutes to read."""
    key = hashlib.sha256(json.dumps([builders.VERSION, source], sort_keys=True).encode()).hexdigest()
    path = cache_dir() / "built" / f"{short(dataset_id)}-{key[:16]}.h5ad"
    if not path.is_file():
        adata = build()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_h5ad(adata, path, compression_level=1)
    return read_h5ad(path)


#: Opener of each kind of source.
_OPENERS: Mapping[str, Callable[[str, Mapping[str, Any], Options], AnnData]] = {
    "bundled": _bundled,
    "carrier": _wheels,
    "data_dir": _data_dir,
    "download": _download,
    "file": _file,
    "function": _function,
    "local": _file,
    "memory": _memory,
    "package": _package,
    "simulator": _simulator,
    "url": _url,
}
