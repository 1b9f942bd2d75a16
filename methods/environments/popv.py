"""popV: a vote of annotators, each trained on the training cells; some of them also see the query."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

#: popV removes cells with fewer counts in its genes...
FEWEST_COUNTS = 30
#: ...and batches with fewer cells.
FEWEST_CELLS = 11
#: Parts into which the support vector machine divides the training cells to calibrate its scores.
N_FOLDS = 5
#: Label of cells without one; the labels of cells are numbers.
UNKNOWN = "unknown"


def run(train: Any, query: Any, *, seed: int, methods: list[str]) -> dict[str, Any]:
    """Train the annotators, let them vote, and return the shares of votes.

    Parameters
    ----------
    train, query
        Cells with counts and batches; training cells with labels.
    seed
        Seed of all annotators.
    methods
        Annotators, by their names in the library.
    """
    from cellular_bench_inside import NotApplicable

    names, code = np.unique(train.label, return_inverse=True)
    kept = _deep_enough(train)
    reference = _cells(train, kept, label=np.char.zfill(code[kept].astype(str), 6))
    seen = _deep_enough(query)
    for number, what in ((kept.size, "training cells"), (seen.size, "cells of the query")):
        if number < FEWEST_CELLS:
            raise NotApplicable(
                f"needs {FEWEST_CELLS} {what} with {FEWEST_COUNTS} counts in its genes, there are {number}"
            )
    cells = _cells(query, seen, label=np.full(seen.size, UNKNOWN))
    votes = _votes(reference, cells, seed=seed, methods=methods)
    # Cells without a vote: as probable as in training, and rejected.
    shares = np.tile(np.bincount(code) / code.size, (query.obs_names.size, 1))
    shares[seen] = (votes[:, :, None] == np.arange(names.size)).mean(axis=1)
    novelty, rejected = np.ones(len(shares)), np.ones(len(shares), dtype=bool)
    novelty[seen], rejected[seen] = 1.0 - shares[seen].max(axis=1), False
    return {
        "label_pred": names[shares.argmax(axis=1)],
        "label_proba": shares,
        "labels": names,
        "novelty": novelty,
        "rejected": rejected,
    }


def _votes(reference: Any, cells: Any, *, seed: int, methods: list[str]) -> Any:
    """Return the number of the label for which each annotator votes, (n_obs, n_methods)."""
    import popv
    from popv.algorithms import _svm
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold

    popv.settings.seed = seed % 2**32
    popv.settings.accelerator = "cpu"
    popv.settings.compute_umap_embedding = False
    # As by default, except that labels with fewer cells than parts are allowed.
    label = reference.obs["label"].to_numpy()
    folds = list(StratifiedKFold(N_FOLDS).split(label, label))
    _svm.CalibratedClassifierCV = functools.partial(CalibratedClassifierCV, cv=folds)
    prepared = popv.preprocessing.Process_Query(
        cells,
        reference,
        ref_labels_key="label",
        ref_batch_key="batch",
        query_batch_key="batch",
        cl_obo_folder=False,
        prediction_mode="retrain",
        unknown_celltype_label=UNKNOWN,
        n_samples_per_label=None,
        save_path_trained_models=os.path.join(os.environ["TMPDIR"], "popv"),  # noqa: PTH118
        hvg=None,
    ).adata
    options = {"CELLTYPIST": {"method_kwargs": {"n_jobs": 1}}}
    chosen = {name: value for name, value in options.items() if name in methods}
    popv.annotation.annotate_data(prepared, methods=methods, methods_kwargs=chosen)
    voted = prepared.obs.loc[cells.obs_names, prepared.uns["prediction_keys"]]
    return voted.astype(str).to_numpy().astype(int)


def _deep_enough(cells: Any) -> Any:
    """Return the positions of the cells that popV does not remove, in their canonical order."""
    order = cells.canonical()
    return order[np.asarray(cells.counts.toscipy().sum(axis=1)).ravel()[order] >= FEWEST_COUNTS]


def _cells(cells: Any, rows: Any, *, label: Any) -> Any:
    """Return cells in the form that popV reads; batches that it would remove join the largest one."""
    import anndata
    import pandas as pd

    batch = cells.batch[rows].astype(object)
    sizes = pd.Series(batch).value_counts()
    batch[np.isin(batch, sizes.index[sizes < FEWEST_CELLS])] = sizes.index[0]
    index = [f"{'q' if label[0] == UNKNOWN else 't'}{number}" for number in range(rows.size)]
    obs = pd.DataFrame({"batch": batch, "label": label.astype(object)}, index=index)
    var = pd.DataFrame(index=[str(number) for number in range(cells.var_names.size)])
    return anndata.AnnData(cells.counts.toscipy()[rows].astype(np.float32), obs=obs, var=var)
