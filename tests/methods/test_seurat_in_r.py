"""Our adapter of Seurat beside R's own script, ``benchmarks/fidelity/seurat.R``, on the same cells."""

import numpy as np
import pytest

from cellular_bench.environments import find, missing_text, state
from cellular_bench.methods.seurat import Seurat, SeuratCCA


@pytest.mark.r
@pytest.mark.slow
@pytest.mark.parametrize("method", [Seurat, SeuratCCA])
def test_labels_and_scores_are_those_of_the_script(fidelity, method):
    found = state(find("seurat"))
    if not found.is_ready:
        pytest.skip(missing_text(found))
    train, query = fidelity.small_split()
    batch = train.obs["batch"].astype(str)
    large = batch.map(batch.value_counts()) > 30  # the script leaves smaller ones out
    # 42 is the seed of principal components that Seurat takes by default.
    prediction = method(seed=42).fit(train[large].copy()).predict(query)
    original = fidelity.small_table(method.spec.method_id)
    assert original["cell"].tolist() == list(query.obs_names)
    assert prediction.label_pred.tolist() == original["label"].tolist()
    np.testing.assert_allclose(prediction.label_proba, original[list(prediction.labels)], atol=1e-6)
