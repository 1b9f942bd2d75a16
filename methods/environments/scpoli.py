"""scPoli (scArches): a conditional autoencoder with embeddings of batches and prototypes of cell types."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Label of cells without one; the labels of cells are numbers.
UNKNOWN = "unknown"
#: A label or a query with fewer cells has none to hold out for validation.
FEWEST_TO_HOLD_OUT = 10


def run(train: Any, query: Any, *, seed: int, **params: Any) -> dict[str, Any]:
    """Train on the training cells, extend the model to batches that are new in the query, and classify.

    Parameters
    ----------
    train, query
        Cells with counts and batches; training cells with labels.
    seed
        Seed of weights, mini-batches and held-out cells.
    params
        Parameters of ``cellular_bench.methods.scpoli.ScPoli``.
    """
    import torch
    from cellular_bench_inside import NotApplicable
    from scarches.models.scpoli import scPoli

    order = train.canonical()
    names, code = np.unique(train.label[order], return_inverse=True)
    if np.bincount(code).max() < FEWEST_TO_HOLD_OUT:
        raise NotApplicable(f"needs {FEWEST_TO_HOLD_OUT} training cells of one label")
    reference = _cells(train, order, label=code.astype(str).astype(object))
    np.random.seed(seed % 2**32)  # noqa: NPY002  # the library holds out cells by it
    torch.manual_seed(seed)
    model = scPoli(
        reference,
        condition_keys="batch",
        cell_type_keys="label",
        unknown_ct_names=[UNKNOWN],
        latent_dim=params["n_latent"],
        embedding_dims=params["n_embedding"],
        recon_loss="nb",
    )
    options: dict[str, Any] = {"monitor": False, "seed": seed, "unlabeled_prototype_training": False}
    model.train(**_epochs(params["max_epochs"]), eta=params["eta"], **options)
    # The library draws latents at random here and in `classify`; means are used instead.
    latent = model.get_latent(reference, mean=True)
    centres = np.stack([latent[code == number].mean(axis=0) for number in range(names.size)])

    order = query.canonical()
    cells = _cells(query, order, label=np.full(order.size, UNKNOWN, dtype=object))
    if set(query.batch) - set(train.batch):
        if order.size < FEWEST_TO_HOLD_OUT:
            options |= {"train_frac": 1, "use_early_stopping": False}
        model = scPoli.load_query_data(
            adata=cells, reference_model=model, labeled_indices=[], unknown_ct_names=[UNKNOWN]
        )
        model.train(**_epochs(params["query_epochs"]), eta=params["eta"], **options)
    X_emb = np.empty((order.size, latent.shape[1]))
    X_emb[order] = model.get_latent(cells, mean=True)
    distances = np.linalg.norm(X_emb[:, None] - centres[None], axis=2)
    closeness = np.exp(distances.min(axis=1, keepdims=True) - distances)
    return {
        "X_emb": X_emb,
        "label_pred": names[distances.argmin(axis=1)],
        "label_proba": closeness / closeness.sum(axis=1, keepdims=True),
        "labels": names,
        "novelty": distances.min(axis=1),
    }


def _cells(cells: Any, order: Any, *, label: Any) -> Any:
    """Return cells in the form that the library reads: dense counts, texts in obs."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame({"batch": cells.batch[order].astype(object), "label": label})
    obs.index = obs.index.astype(str)
    return anndata.AnnData(cells.counts.toscipy()[order].toarray().astype(np.float32), obs=obs)


def _epochs(number: int) -> dict[str, int]:
    """Train without prototypes first, for nine tenths of the epochs, as the library does by default."""
    return {"n_epochs": number, "pretraining_epochs": int(number * 0.9)}
