"""scNym 0.3.2, the authors' package: training with unlabelled cells (MixMatch and a domain adversary)."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Name that the package gives cells without a label.
UNLABELLED = "Unlabeled"
FEWEST_CELLS = 4


def run(
    train: Any, query: Any, *, seed: int, configuration: str, n_epochs: int, uses_query: bool
) -> dict[str, Any]:
    """Train on labelled and unlabelled cells and predict the labels of the unlabelled ones.

    Parameters
    ----------
    train
        Cells with labels.
    query
        Cells without labels.
    seed
        Seed of the initial weights, the held-out cells, mini-batches and dropout.
    configuration
        Name of a configuration of the package.
    n_epochs
        Maximum number of epochs.
    uses_query
        Whether the network is also trained on the query.
    """
    import anndata
    import pandas as pd
    import torch
    from cellular_bench_inside import NotApplicable
    from scnym.api import CONFIGS, scnym_api

    if train.X.shape[0] < FEWEST_CELLS:
        raise NotApplicable(f"needs {FEWEST_CELLS} training cells, there are {train.X.shape[0]}")
    names, code = np.unique(train.label, return_inverse=True)
    shares = [np.array([UNLABELLED] * query.X.shape[0])] if uses_query else []
    # Numbers in place of names: a type could be called "Unlabeled".
    given = np.concatenate([code.astype(str), *shares])
    genes = pd.DataFrame(index=query.var_names)
    used = [train, query] if uses_query else [train]
    learned = anndata.AnnData(
        _log_per_million(used), obs=pd.DataFrame({"type": given}, index=_numbers(len(given))), var=genes
    )
    settings = {
        **CONFIGS[configuration],
        "n_epochs": n_epochs,
        "batch_size": _batch_size(train.X.shape[0], query.X.shape[0] if uses_query else None),
    }
    np.random.seed(seed % 2**32)  # noqa: NPY002  # the package draws from the global generators
    torch.manual_seed(seed % 2**63)
    scnym_api(learned, task="train", groupby="type", out_path="scnym", config=settings)
    asked = anndata.AnnData(
        _log_per_million([query]), obs=pd.DataFrame(index=_numbers(query.X.shape[0])), var=genes
    )
    scnym_api(asked, task="predict", trained_model="scnym", out_path="scnym", config=settings)
    found = asked.uns["scNym_probabilities"]
    labels = names[[int(column) for column in found.columns]]
    probability = found.to_numpy(dtype=np.float64)
    return {
        "label_pred": labels[probability.argmax(axis=1)],
        "label_proba": probability,
        "labels": labels,
        "novelty": 1 - probability.max(axis=1),
    }


def _batch_size(n_train: int, n_query: Any) -> int:
    """Return 256, or the number of cells left for training, or of unlabelled cells, if that is smaller.

    The package leaves out the last, smaller mini-batch; without a full one it does not train, or never ends.
    """
    n_left = int(np.floor(0.9 * int(np.floor(0.9 * n_train))))
    return min(256, n_left) if n_query is None else min(256, n_left, n_query)


def _log_per_million(cells: Any) -> Any:
    """Return log1p of counts per million of all cells, as the package asks for, sparse float32."""
    from scipy.sparse import csr_matrix, diags, vstack

    linear = vstack([part.X.toscipy() for part in cells]).astype(np.float64).expm1()
    total = np.asarray(linear.sum(axis=1)).ravel()
    scaled = diags(1e6 / np.where(total > 0, total, 1.0)) @ linear
    # The package refuses values above log1p(1e6), by rounding too.
    return csr_matrix(scaled.log1p().minimum(np.log1p(1e6) * (1 - 1e-7)), dtype=np.float32)


def _numbers(n: int) -> Any:
    return [str(row) for row in range(n)]
