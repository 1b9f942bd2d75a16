"""What a method returned is completed before it is kept."""

import numpy as np

from cellular_bench.benchmark.execution.finish import with_embedding
from cellular_bench.core.outputs import Outputs


def test_corrected_expression_brings_its_principal_components() -> None:
    # All cells on the line (3, 4): one component, at -5, 0 and 5.
    X = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    outputs = Outputs(obs_names=np.array(["a", "b", "c"]), corrected=X, genes=np.array(["INS", "GCG"]))
    np.testing.assert_allclose(np.abs(with_embedding(outputs).X_emb), [[5], [0], [5]], atol=1e-6)


def test_an_embedding_of_the_methods_own_is_kept() -> None:
    own = np.array([[1.0], [2.0]])
    outputs = Outputs(obs_names=np.array(["a", "b"]), corrected=np.ones((2, 3)), X_emb=own)
    assert with_embedding(outputs).X_emb is own
