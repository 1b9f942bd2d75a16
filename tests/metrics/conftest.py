"""Small embeddings whose right scores are known."""

import numpy as np
import pytest


def _blobs(*, n_obs: int, batch_shift: float, label_distance: float) -> dict[str, object]:
    rng = np.random.default_rng(7)
    label = np.repeat(["B", "NK", "T"], n_obs // 3)
    batch = np.tile(["x", "y"], len(label) // 2)
    # T cells are missing from batch y, so that a label is isolated.
    batch[label == "T"] = "x"
    X = rng.normal(size=(len(label), 5))
    X[:, 0] += label_distance * np.searchsorted(["B", "NK", "T"], label)
    X[:, 1] += batch_shift * (batch == "y")
    return {"X_emb": X, "X_pre": X + 3 * (batch == "y")[:, None], "label": label, "batch": batch}


@pytest.fixture
def separated() -> dict[str, object]:
    """180 cells: labels far apart, batches mixed within them."""
    return _blobs(n_obs=180, batch_shift=0.0, label_distance=40.0)


@pytest.fixture
def unmixed() -> dict[str, object]:
    """180 cells: labels in one place, batches far apart."""
    return _blobs(n_obs=180, batch_shift=60.0, label_distance=0.0)
