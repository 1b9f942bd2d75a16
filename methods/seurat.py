"""Seurat's label transfer by anchors between reference and query, run in R."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._predictions import returned_prediction

if TYPE_CHECKING:
    from anndata import AnnData


class Seurat(TransductiveAnnotator):
    """Seurat 4: transfer of the reference's labels to a query along anchors.

    Anchors are pairs of mutual nearest neighbours in the principal components of the reference, onto which
    the query is projected. A query cell's score for a label is the total weight of nearby anchors with that
    label; the scores of a cell sum to 1. Novelty is 1 - the highest score.

    Anchors depend on all cells of the query together, so the same cell may get a different score in another
    query. R runs in :meth:`predict`, which does all the work.

    Parameters
    ----------
    preset
        ``"default"``: variable genes are selected on raw counts if there are any. ``"paper"``: on
        log-normalised values, which the CELLULAR study used in place of counts.
    n_features
        Number of genes, those that vary in most batches of the reference.
    n_dims
        Number of principal components, or of canonical correlation vectors.
    k_anchor
        Number of neighbours to find anchors.
    k_filter
        Number of neighbours to filter anchors; None: no filter, as in Seurat 5.
    k_score
        Number of neighbours to score anchors.
    k_weight
        Number of anchors that are weighted for each cell.
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
    #: How the reference is prepared: ``"cca"`` integrates its batches first.
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
        super().__init__()
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

    def predict(self, query: AnnData) -> Prediction:
        """Transfer the labels to the query."""
        train = self.training_cells(query)
        outputs = run_inside(self.spec, train=train, query=query, seed=self.seed, params=self._params)
        return returned_prediction(outputs)


class SeuratCCA(Seurat):
    """Seurat on a reference whose batches are first integrated by canonical correlation analysis.

    Same as :class:`Seurat` if there is only one batch, or if a batch has at most ``k_score`` cells.
    """

    spec = replace(Seurat.spec, method_id="seurat_cca", name="Seurat, CCA reference", variant_of="seurat")
    reference = "cca"
