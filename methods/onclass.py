"""OnClass: labels and unseen types by a shared embedding of cells and terms of the Cell Ontology."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._predictions import returned_prediction

if TYPE_CHECKING:
    from anndata import AnnData


class OnClass(TransductiveAnnotator):
    """OnClass (``OnClass``): cells and terms of an ontology share a space, so that terms without cells count.

    A bilinear network maps cells to the embeddings of their terms. Random walks on the ontology spread its
    probabilities to terms that no training cell has. The prediction is the most probable term with training
    cells; novelty is the highest score of other terms minus that of the terms with cells, by which the
    authors find cells of unseen types. The program trains in :meth:`predict`, on the training cells alone.

    The ontology is not part of the package; you give its file. Labels must be terms as they are written
    there.

    Parameters
    ----------
    ontology
        File with the edges of the ontology: in each line a term and its parent, separated by a tab.
    embeddings
        File with the embedding of the description of each term: the term and numbers, separated by tabs.
        None: all terms are equally similar, and only the edges count.
    max_iter
        Number of passes over the training cells.
    seed
        Not used: the library sets fixed seeds.

    Raises
    ------
    NotApplicableError
        If a label is no term of the ontology, or there is one label.
    """

    spec = MethodSpec(
        method_id="onclass",
        name="OnClass",
        tasks=("annotation", "novelty"),
        description="Bilinear network of cells and terms of an ontology, spread to unseen terms.",
        labels="train",
        inductive=True,
        doi="10.1038/s41467-021-25725-x",
        url="https://github.com/wangshenguiuc/OnClass",
        license="MIT",
        environment="onclass",
        program="onclass.py",
        needs_params=("ontology",),
        file_params=("ontology", "embeddings"),
    )

    def __init__(
        self, *, ontology: str, embeddings: str | None = None, max_iter: int = 50, seed: int = 0
    ) -> None:
        super().__init__()
        self.seed = seed
        self._params: dict[str, Any] = {
            "ontology": str(Path(ontology).resolve()),
            "embeddings": None if embeddings is None else str(Path(embeddings).resolve()),
            "max_iter": max_iter,
        }

    def predict(self, query: AnnData) -> Prediction:
        """Predict the most probable term with training cells."""
        train = self.training_cells(query)
        outputs = run_inside(self.spec, train=train, query=query, seed=self.seed, params=self._params)
        return returned_prediction(outputs)
