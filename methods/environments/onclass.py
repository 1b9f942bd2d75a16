"""OnClass: labels and unseen types by a shared embedding of cells and terms of the Cell Ontology."""

from __future__ import annotations

from typing import Any

import numpy as np


def run(
    train: Any, query: Any, *, seed: int, ontology: str, embeddings: str | None, max_iter: int
) -> dict[str, Any]:
    """Train on the training cells and return the probabilities of their labels.

    Parameters
    ----------
    train, query
        Cells with log-normalised values; training cells with labels that are terms of the ontology.
    seed
        Not used: the library sets fixed seeds.
    ontology, embeddings, max_iter
        Parameters of ``cellular_bench.methods.onclass.OnClass``.
    """
    from cellular_bench_inside import NotApplicable
    from OnClass.OnClassModel import OnClassModel

    order = train.canonical()
    label, genes = train.label[order], train.var_names
    model = OnClassModel(cell_type_nlp_emb_file=embeddings, cell_type_network_file=ontology)
    unknown = sorted(set(label.tolist()) - set(model.cell_ontology_ids))
    if unknown:
        raise NotApplicable(f"labels must be terms of the ontology; these are not: {', '.join(unknown[:5])}")
    model.EmbedCellTypes(label)
    X, kept = model.ProcessTrainFeature(train.X.toarray()[order], label, genes, log_transform=False)
    model.BuildModel(ngene=len(kept))
    model.Train(X, label, max_iter=max_iter)
    X = model.ProcessTestFeature(query.X.toarray(), genes, log_transform=False)
    seen, everything, _ = model.Predict(X, use_normalize=False, refine=True, unseen_ratio=-1.0)
    names = np.array([model.i2co[number] for number in range(model.nseen)])
    probability = np.asarray(seen, dtype=np.float64)
    # The authors' confidence that the type of a cell is a term that no training cell has.
    unseen = everything[:, model.nseen :].max(axis=1) - everything[:, : model.nseen].max(axis=1)
    return {
        "label_pred": names[probability.argmax(axis=1)],
        "label_proba": probability / probability.sum(axis=1, keepdims=True),
        "labels": names,
        "novelty": unseen,
    }
