"""CELLULAR by the package of the study, to compare the reimplementation with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator

if TYPE_CHECKING:
    from anndata import AnnData


class CellularCl(TransductiveAnnotator):
    """CELLULAR by the study's package ``cellular-cl``, version 0.0.4, on the CPU.

    The package selects its genes, splits off its validation cells (always with the same seed), trains the
    encoder and, for labels, the classifier. All of it is done again by :meth:`embed` and by :meth:`predict`.
    Novelty is the study's: 1 - (p - 1/K) / (1 - 1/K), p the highest of K probabilities.

    Parameters
    ----------
    n_top_genes
        Number of genes, of those that a training cell expresses.
    n_trials
        Number of trials of the package's search for the classifier's shape; 0 (the package: 100): no search.
    seed
        Seed of the networks and mini-batches.

    Raises
    ------
    NotApplicableError
        If there are fewer than two types, or fewer than 100 expressed genes or inner training cells.
    """

    spec = MethodSpec(
        method_id="cellular_cl",
        name="CELLULAR, the study's package",
        tasks=("integration", "annotation", "novelty"),
        description="The package cellular-cl of the CELLULAR study; its classifier is not tuned.",
        labels="train",
        features="all",
        inductive=True,
        url="https://github.com/LeoAnd00/CELLULAR",
        license="MIT",
        environment="cellular_cl",
        program="cellular_cl.py",
        variant_of="cellular",
    )

    def __init__(self, *, n_top_genes: int = 2000, n_trials: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self._params: dict[str, Any] = {"n_top_genes": n_top_genes, "n_trials": n_trials}

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the embedding of cells, (n_obs, 100)."""
        return np.asarray(self._run(query, classify=False).X_emb, dtype=np.float32)

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label and the novelty of each cell of the query."""
        outputs = self._run(query, classify=True)
        assert outputs.label_pred is not None  # the program returns it
        return Prediction(label_pred=outputs.label_pred, novelty=outputs.novelty)

    def _run(self, query: AnnData, *, classify: bool) -> Any:
        train = self.training_cells(query)
        return run_inside(
            self.spec, train=train, query=query, seed=self.seed, params={**self._params, "classify": classify}
        )
