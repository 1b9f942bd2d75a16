"""Write the small cells of the fidelity tests for scripts that run the originals in R.

``python benchmarks/fidelity/export_cells.py FOLDER`` writes, for ``train`` and ``query`` each:
``PART_counts.mtx`` and ``PART_lognorm.mtx`` (genes in rows, cells in columns) and ``PART_cells.csv`` (cell,
batch, label), and once ``genes.csv`` (gene, hvg).
"""

import sys
from pathlib import Path

import pandas as pd
from scipy.io import mmwrite
from scipy.sparse import csc_matrix

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from fidelity import small_split


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    train, query = small_split()
    for part, cells in (("train", train), ("query", query)):
        obs = cells.obs.rename_axis("cell").reset_index()
        obs[["cell", "batch", "label"]].to_csv(folder / f"{part}_cells.csv", index=False)
        for name, X in (("counts", cells.layers["counts"]), ("lognorm", cells.X)):
            # 17 digits: the values as they are.
            mmwrite(folder / f"{part}_{name}.mtx", csc_matrix(X.T).astype(float), precision=17)
    genes = pd.DataFrame({"gene": train.var_names, "hvg": train.var["highly_variable"].to_numpy()})
    genes.to_csv(folder / "genes.csv", index=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
