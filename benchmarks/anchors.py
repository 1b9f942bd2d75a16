"""Run an annotator on the folds of the CELLULAR study and print the study's three scores.

``python benchmarks/anchors.py scibet --data baron.h5ad --preset paper --features all``

Genes in at least 20 cells are kept, folds are stratified by cell type (seed 42), and highly variable genes
are selected on the training cells. With ``--preset paper``, expression is normalised as in the study (to the
mean library size), otherwise as everywhere in this package (to 10,000). As in the study, normalisation and
the gene filter use all cells.
"""

import argparse
import json
import os
import resource
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

from cellular_bench.benchmark import registry
from cellular_bench.core.genes import variable_genes
from cellular_bench.datasets.preprocess import log1p_of_scaled, normalise

N_FOLDS = 5
MIN_CELLS = 20


def prepared(path: Path, *, label_key: str, batch_key: str | None, scale: str) -> anndata.AnnData:
    """Return the genes expressed in at least 20 cells, log-normalised; ``"mean"`` is the study's scale."""
    if not path.is_file():
        raise SystemExit(f"--data: {path} is not there; give an h5ad file with counts in X.")
    raw = anndata.read_h5ad(path)
    missing = {label_key, batch_key} - {None, *raw.obs}
    if missing:
        raise SystemExit(f"--data: {path} has no obs columns {sorted(missing)}.")
    raw_counts = sparse.csr_matrix(raw.X, dtype=np.float32)
    kept = np.asarray((raw_counts > 0).sum(axis=0)).ravel() >= MIN_CELLS
    counts = raw_counts[:, kept]
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    X = log1p_of_scaled(counts, totals / totals.mean()) if scale == "mean" else normalise(counts)
    batch = raw.obs[batch_key].astype(str) if batch_key else "all"
    obs = pd.DataFrame({"label": raw.obs[label_key].astype(str), "batch": batch}, index=raw.obs_names)
    var = pd.DataFrame(index=raw.var_names[kept])
    return anndata.AnnData(X, obs=obs.astype("category"), var=var, layers={"counts": counts})


def run_fold(factory, adata, train_obs, test_obs, *, features, params):
    train, query = adata[train_obs].copy(), adata[test_obs].copy()
    if features == "hvg":
        genes = variable_genes(train.X)
        train, query = train[:, genes].copy(), query[:, genes].copy()
    label = query.obs.pop("label").astype(str).to_numpy()
    start = cpu_s()
    model = factory(**params)
    model.fit(train)
    prediction = model.predict(query)
    cpu = cpu_s() - start
    found = np.asarray(prediction.label_pred).astype(str)
    # A rejected cell counts as wrong, as everywhere in this package.
    given = found if prediction.rejected is None else np.where(prediction.rejected, "rejected", found)
    return {
        "accuracy": accuracy_score(label, given),
        "balanced": balanced_accuracy(label, given),
        "f1": f1_score(label, given, average="weighted"),
        "rejected": 0.0 if prediction.rejected is None else float(np.mean(prediction.rejected)),
        "cpu_s": cpu,
    }


def cpu_s():
    """CPU time of this process and of the finished processes that it started, such as R."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def balanced_accuracy(label, given):
    with warnings.catch_warnings():
        # "rejected" is not the label of any cell.
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        return balanced_accuracy_score(label, given)


def study_folds(adata):
    label = adata.obs["label"].astype(str)
    with warnings.catch_warnings():
        # There are four T cells; the study had the warning too.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=42).split(adata.X, label))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--data", type=Path, required=True, help="h5ad with raw counts in X")
    parser.add_argument("--label-key", default="cell_type")
    parser.add_argument("--batch-key", default="batch")
    parser.add_argument("--folds", default="1,2,3,4,5")
    parser.add_argument("--features", choices=("hvg", "all"), help="default: the method's own choice")
    parser.add_argument("--preset", help="passed to the method if given")
    parser.add_argument("--scale", choices=("mean", "1e4"), help="default: mean with --preset paper")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    method = registry.method(asked.method)
    scale = asked.scale or ("mean" if asked.preset == "paper" else "1e4")
    adata = prepared(asked.data, label_key=asked.label_key, batch_key=asked.batch_key, scale=scale)
    params = {name: json.loads(value) for name, _, value in (item.partition("=") for item in asked.param)}
    params |= {"seed": asked.seed, **({"preset": asked.preset} if asked.preset else {})}
    features = asked.features or method.spec.features
    folds = study_folds(adata)
    print(f"{asked.method} {params} features={features} scale={scale} {adata.n_obs} x {adata.n_vars}")
    print("fold accuracy balanced     f1 rejected  cpu_s")
    rows = []
    for fold in map(int, asked.folds.split(",")):
        train_obs, test_obs = folds[fold - 1]
        row = run_fold(method.factory, adata, train_obs, test_obs, features=features, params=params)
        rows.append(row)
        print_row(str(fold), row)
    print_row("mean", {name: float(np.mean([row[name] for row in rows])) for name in rows[0]})
    for whose, what in ((resource.RUSAGE_SELF, "the process"), (resource.RUSAGE_CHILDREN, "what it started")):
        print(f"peak memory of {what} {resource.getrusage(whose).ru_maxrss / 1024:.0f} MiB")


def print_row(name, row):
    print(
        f"{name:>4} {row['accuracy']:8.4f} {row['balanced']:8.4f} {row['f1']:6.4f} "
        f"{row['rejected']:8.4f} {row['cpu_s']:6.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
