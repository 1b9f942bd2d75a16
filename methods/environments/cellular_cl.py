"""CELLULAR by the study's package: trained on the training cells, applied to the query, on the CPU."""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from typing import Any

import numpy as np

#: Number of principal components in which the package measures distances between types.
N_COMPONENTS = 100
#: Size of the package's mini-batches.
BATCH_SIZE = 256
#: What the package prints if an error ended its training; it raises nothing.
GAVE_UP = "Training forced to finish early"


def run(
    train: Any, query: Any, *, seed: int, classify: bool, n_top_genes: int, n_trials: int
) -> dict[str, Any]:
    """Train on the labelled cells; return the embedding of the query, or its labels and novelty.

    Parameters
    ----------
    train, query
        Log-normalised cells with batches and, for training, labels.
    seed
        Seed of all random numbers but those of the package's inner split, which is fixed.
    classify
        Whether to train the classifier and return labels; the embedding is returned otherwise.
    n_top_genes
        Number of variable genes, which the package selects among those that a training cell expresses.
    n_trials
        Number of trials of the search for the classifier's shape; 0: no search.
    """
    import CELLULAR_CL as package  # noqa: N811  # it is a module
    from CELLULAR_CL.functions import train as training

    X = train.X.toarray()
    expressed = (X > 0).any(axis=0)
    n_top_genes = min(n_top_genes, int(expressed.sum()))
    n_inner = len(train.label) * 4 // 5  # the first of five stratified folds is held out
    _decline(train.label, n_inner, n_top_genes)
    batch_size = min(BATCH_SIZE, n_inner)  # the package leaves out mini-batches that are not full
    # The loss uses the device "cuda" unless it is given another one, and the package does not give any.
    loss = training.CustomSNNLoss
    loss.__init__ = functools.partialmethod(loss.__init__, device="cpu")
    package.rep_seed(seed % 2**32)  # the package draws its principal components before it sets a seed
    folder = tempfile.mkdtemp() + "/"
    _logged(
        package.train,
        _adata(train, X, expressed),
        target_key="cell_type",
        batch_key="batch",
        HVGs=n_top_genes,
        model_path=folder,
        train_classifier=classify,
        optimize_classifier=n_trials > 0,
        num_trials=n_trials,
        device="cpu",
        batch_size=batch_size,
        batch_size_classifier=batch_size,
        seed=seed % 2**32,
    )
    cells = _adata(query, query.X.toarray(), expressed)
    if not classify:
        return {"X_emb": package.predict(cells, model_path=folder, device="cpu")}
    label, likelihood = package.predict(
        cells, model_path=folder, device="cpu", use_classifier=True, return_pred_probs=True
    )
    chance = 1 / np.unique(train.label).size
    return {"label_pred": label, "novelty": 1 - (likelihood - chance) / (1 - chance)}


def _decline(label: Any, n_inner: int, n_genes: int) -> None:
    """Raise if the package cannot train on so little."""
    from cellular_bench_inside import NotApplicable

    _, counts = np.unique(label, return_counts=True)
    if min(n_inner, n_genes) < N_COMPONENTS:
        raise NotApplicable(
            f"needs {N_COMPONENTS} cells in four fifths of the training cells, which have {n_inner}, and as "
            f"many expressed genes, of which there are {n_genes}"
        )
    if counts.size < 2 or counts.max() < 5:
        raise NotApplicable("needs two types, one of them with 5 cells")


def _adata(cells: Any, X: Any, genes: Any) -> Any:
    """Return cells as the package reads them: a dense matrix, and types in the column "cell_type"."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame(index=pd.Index(cells.obs_names, name="cell"))
    if cells.label is not None:
        obs["cell_type"] = cells.label
    obs["batch"] = "" if cells.batch is None else cells.batch
    var = pd.DataFrame(index=pd.Index(cells.var_names[genes], name="gene"))
    return anndata.AnnData(np.ascontiguousarray(X[:, genes], dtype=np.float32), obs=obs, var=var)


def _logged(function: Any, *args: Any, **params: Any) -> None:
    """Call a function, print what it prints, and raise if that says that its training broke off."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            function(*args, **params)
    finally:
        print(printed.getvalue(), flush=True)
    if GAVE_UP in printed.getvalue():
        raise RuntimeError("an error ended the training; the package does not say which")
