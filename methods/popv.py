"""popV: a vote of annotators, with their agreement as confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellular_bench.core.errors import UnknownNameError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._inputs import require_counts
from cellular_bench.methods._predictions import returned_prediction

if TYPE_CHECKING:
    from anndata import AnnData

#: The authors' current annotators that need no Cell Ontology.
ANNOTATORS = (
    "CELLTYPIST",
    "KNN_BBKNN",
    "KNN_HARMONY",
    "KNN_SCVI",
    "SCANVI_POPV",
    "Support_Vector",
    "XGboost",
)
#: Those that the authors keep for older models.
OLDER = ("KNN_SCANORAMA", "Random_Forest")


class PopV(TransductiveAnnotator):
    """popV (``popv``): majority vote of seven annotators that are trained on the training cells.

    Four of them integrate training cells and query first, and CellTypist smooths its labels over clusters of
    both, so that predictions depend on the whole query. Without a Cell Ontology, OnClass is left out and
    votes are not propagated to parents of types: the result is a plain majority vote, as in the library.
    Probabilities are shares of votes, and novelty is 1 - the agreement.

    Cells with fewer than 30 counts in the given genes get no vote: they are rejected, with the most frequent
    label. Batches with fewer than 11 cells are treated as part of the largest one.

    Parameters
    ----------
    methods
        Annotators, by their names in the library: the seven defaults, ``"KNN_SCANORAMA"``,
        ``"Random_Forest"``.
    seed
        Seed of all annotators.

    Raises
    ------
    NotApplicableError
        If there are no counts, one label, or fewer than 11 cells.
    """

    spec = MethodSpec(
        method_id="popv",
        name="popV",
        tasks=("annotation", "novelty"),
        description="Majority vote of seven annotators; four of them integrate the query first.",
        labels="train",
        reads="counts",
        inductive=False,
        doi="10.1038/s41588-024-01993-3",
        url="https://github.com/YosefLab/popV",
        license="MIT",
        environment="popv",
        program="popv.py",
        check_params={"methods": ["KNN_BBKNN", "KNN_HARMONY", "Support_Vector"]},
    )

    def __init__(self, *, methods: Sequence[str] = ANNOTATORS, seed: int = 0) -> None:
        super().__init__()
        known = (*ANNOTATORS, *OLDER)
        for name in methods:
            if name not in known:
                raise UnknownNameError("annotator of popV", name, known)
        self.methods = tuple(methods)
        self.seed = seed

    def predict(self, query: AnnData) -> Prediction:
        """Return the labels with most votes."""
        train = self.training_cells(query)
        for cells in (train, query):
            require_counts(cells, self.spec.method_id)
        params = {"methods": list(self.methods)}
        outputs = run_inside(self.spec, train=train, query=query, seed=self.seed, params=params)
        return returned_prediction(outputs)
