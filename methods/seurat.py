"""Seurat's label transfer: anchors between a reference and a query, in R."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from cellular_bench.core.errors import ContractError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.environments import run_inside
from cellular_bench.methods._support import labels_of, most_probable, require_labels, require_same_genes

if TYPE_CHECKING:
    from anndata import AnnData


class Seurat:
    """Seurat 4: the labels of a reference, carried over to a query along anchors.

    Anchors are pairs of mutual nearest neighbours in the principal components of the reference, into which
    the query is projected. A query cell's score for a label is the weight of the anchors with that label
    among those near the cell; the scores of a cell sum to 1. Novelty is 1 - the highest score.

    Anchors depend on all cells of the query together, so the same cell in another query may get another
    score. R starts at :meth:`predict`, which does all the work.

    Parameters
    ----------
    preset
        ``"default"``: variable genes are sought on raw counts where there are any. ``"paper"``: on the
        log-normalised values, which the CELLULAR study put in the place of counts.
    n_features
        Genes that vary in most batches of the reference.
    n_dims
        Principal components, or canonical correlation vectors, that are used.
    k_anchor, k_filter, k_score, k_weight
        Neighbours to find anchors, to filter them (None: no filter, as in Seurat 5), to score them, and to
        weigh them for a cell.
    seed
        Seed of the principal components.
    """

    spec = MethodSpec(
        method_id="seurat",
        name="Seurat",
        tasks=("annotation", "novelty"),
        description="Label transfer along mutual nearest neighbours in the reference's principal components.",
        labels="train",
        features="all",
        inductive=False,
        doi="10.1016/j.cell.2019.05.031",
        url="https://github.com/satijalab/seurat",
        license="MIT",
        environment="seurat",
        program="seurat.R",
    )
    #: Whether the batches of the reference are integrated before it is used.
    reference: ClassVar[Literal["plain", "cca"]] = "plain"

    def __init__(
        self,
        *,
        preset: Literal["default", "paper"] = "default",
        n_features: int = 2000,
        n_dims: int = 30,
        k_anchor: int = 5,
        k_filter: int | None = None,
        k_score: int = 30,
        k_weight: int = 50,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        self._params: dict[str, Any] = {
            "preset": preset,
            "reference": self.reference,
            "n_features": n_features,
            "n_dims": n_dims,
            "k_anchor": k_anchor,
            "k_filter": k_filter,
            "k_score": k_score,
            "k_weight": k_weight,
        }
        self._train: AnnData | None = None

    def fit(self, train: AnnData) -> Self:
        """Keep the reference."""
        require_labels(labels_of(train), self.spec.method_id)
        self._train = train
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Carry the labels over to the query."""
        if self._train is None:
            raise ContractError(f"{self.spec.method_id}: predict was called before fit. Call fit first.")
        require_same_genes(query, list(self._train.var_names), self.spec.method_id)
        found = run_inside(self.spec, train=self._train, query=query, seed=self.seed, params=self._params)
        assert found.label_proba is not None and found.labels is not None  # the program gives both
        return most_probable(found.label_proba, found.labels.tolist())


class SeuratCCA(Seurat):
    """Seurat on a reference whose batches were first integrated by canonical correlation.

    Without effect where there is one batch, or one with no more cells than ``k_score``.
    """

    spec = replace(Seurat.spec, method_id="seurat_cca", name="Seurat, CCA reference", variant_of="seurat")
    reference = "cca"
