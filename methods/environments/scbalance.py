"""scBalance: a network whose mini-batches hold about as many cells of each label."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import numpy as np

#: Size of the library's mini-batches.
BATCH_SIZE = 128


def run(train: Any, query: Any, *, seed: int, weighted_sampling: bool) -> dict[str, Any]:
    """Train on the training cells and return the probabilities of the query's labels.

    Parameters
    ----------
    train, query
        Cells with log-normalised values; training cells with labels.
    seed
        Seed of weights, mini-batches and dropout.
    weighted_sampling
        Whether labels are drawn equally often.
    """
    import pandas as pd
    import torch
    from scBalance import scBalance

    order = train.canonical()
    if order.size % BATCH_SIZE == 1:  # one cell cannot be normalised
        order = np.append(order, order[0])
    torch.manual_seed(seed)
    X = query.X.toarray().astype(np.float32)
    # The library numbers labels by their first cell.
    numbers, names = pd.factorize(train.label[order])
    # It returns labels alone; the network that it would save gives the probabilities.
    with mock.patch.object(torch, "save") as save:
        scBalance(
            pd.DataFrame(X),
            pd.DataFrame(train.X.toarray().astype(np.float32)[order]),
            pd.DataFrame({"Label": numbers}),
            weighted_sampling=weighted_sampling,
            save_model=True,
            save_path=os.environ["TMPDIR"],
        )
    network = save.call_args.args[0]
    with torch.no_grad():
        probability = torch.softmax(network.eval()(torch.from_numpy(X)).double(), dim=1).numpy()
    return {"label_pred": names[probability.argmax(axis=1)], "label_proba": probability, "labels": names}
