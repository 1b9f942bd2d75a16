"""CellID: signatures of the reference, and the test of their overlap with the genes of query cells."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._inputs import require_fitted, require_labels
from cellular_bench.methods._presets import preset_with
from cellular_bench.methods.cellid.correspondence import Coordinates, correspondence, nearest_genes

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    n_genes: int = 200
    n_components: int = 50
    min_cells: int = 5
    reject_p: float = 0.01


PRESETS: Final = {"default": _Settings(), "paper": _Settings(min_cells=1, reject_p=math.inf)}
#: Signatures with fewer genes among those of the query are ignored.
MIN_SIGNATURE: Final = 10
#: Number of query cells whose overlaps with all signatures are in memory at a time.
CHUNK: Final = 500
#: Smaller p-values are raised to this one, so that their logarithm is finite.
SMALLEST_P: Final = 1e-320


class _CellID(ABC):
    """Common part of both kinds of CellID: the spaces, the signatures and the test of their overlap."""

    spec: ClassVar[MethodSpec]

    def __init__(
        self,
        *,
        preset: str = "default",
        n_genes: int | None = None,
        n_components: int | None = None,
        min_cells: int | None = None,
        reject_p: float | None = None,
        seed: int = 0,
    ) -> None:
        self.settings = preset_with(
            PRESETS,
            preset,
            n_genes=n_genes,
            n_components=n_components,
            min_cells=min_cells,
            reject_p=reject_p,
        )
        self.seed = seed
        self._genes: list[str] = []

    @abstractmethod
    def _points(
        self, cells: NDArray[np.float64], labels: NDArray[np.str_]
    ) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
        """Return the points of the reference that get a signature, and the label of each."""

    def fit(self, train: AnnData) -> Self:
        """Compute the signatures of the reference."""
        labels = require_labels(train, self.spec.method_id)
        space = self._space(train)
        points, self._labels = self._points(space.cells, labels)
        signatures = nearest_genes(points, space.genes, n_genes=self.settings.n_genes)
        self._signatures = _spread(signatures, space.kept, n_vars=train.n_vars)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label whose signature overlaps most significantly with the cell's own genes."""
        require_fitted(query, self._genes, self.spec.method_id)
        space = self._space(query)
        signatures = self._signatures[:, space.kept]
        usable = np.flatnonzero(signatures.getnnz(axis=1) >= MIN_SIGNATURE)
        if not usable.size:
            raise NotApplicableError(
                f"{self.spec.method_id}: no signature of the reference has {MIN_SIGNATURE} genes or more "
                "among those that the query expresses. Use a query that expresses more of the genes."
            )
        own = nearest_genes(space.cells, space.genes, n_genes=self.settings.n_genes)
        best = [best_match(p) for p in overlap_p(own, signatures[usable])]
        position = np.concatenate([position for position, _ in best])
        adjusted = np.concatenate([p for _, p in best])
        return Prediction(
            label_pred=self._labels[usable][position],
            novelty=np.log10(adjusted),
            rejected=adjusted >= self.settings.reject_p if self.settings.reject_p <= 1 else None,
        )

    def _space(self, adata: AnnData) -> Coordinates:
        space = correspondence(
            adata.X,
            n_components=self.settings.n_components,
            min_cells=self.settings.min_cells,
            seed=self.seed,
            method_id=self.spec.method_id,
        )
        if space.kept.size <= self.settings.n_genes:
            raise NotApplicableError(
                f"{self.spec.method_id}: {space.kept.size} genes vary; more than the {self.settings.n_genes} "
                "of a signature are needed. Use more genes, or a smaller n_genes."
            )
        return space


class CellIDCell(_CellID):
    """CellID with one signature per reference cell, reimplemented from its description.

    Separate multiple correspondence analyses of reference and query each place cells and genes in one
    space. A signature is the 200 genes nearest to a reference cell. A query cell gets the label of the
    signature whose overlap with the cell's own 200 nearest genes is most significant (hypergeometric test,
    Benjamini-Hochberg adjustment over all signatures; among equal ones, the first).

    The cells of the query are analysed together, so the method is transductive: a cell's label depends on
    the other cells of the query. Novelty is log10 of the best adjusted p-value.

    Parameters
    ----------
    preset
        ``"default"``: the authors' vignette. ``"paper"``: the CELLULAR study, which rejects no cell.
    n_genes
        Number of genes in a signature. None uses the value of the preset, here and below.
    n_components
        Number of dimensions of the space.
    min_cells
        Genes expressed in fewer cells are ignored, in reference and query separately.
    reject_p
        Cells whose best adjusted p-value is not below this value are rejected; above 1 none is.
    seed
        Seed of the solver's initial vector.

    Raises
    ------
    NotApplicableError
        If reference or query has at most ``n_components + 1`` cells, or at most ``n_genes`` genes that
        vary.
    """

    spec = MethodSpec(
        method_id="cellid_cell",
        name="CellID, cells",
        tasks=("annotation", "novelty"),
        description="Overlap of the genes nearest to a query cell with those nearest to each reference cell.",
        labels="train",
        features="all",
        inductive=False,
        is_reimplementation=True,
        doi="10.1038/s41587-021-00896-6",
        url="https://github.com/RausellLab/CelliD",
        license="BSD-3-Clause",
        requires=("sklearn",),
        check_params={"n_genes": 20, "n_components": 10},
    )

    def _points(
        self, cells: NDArray[np.float64], labels: NDArray[np.str_]
    ) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
        return cells, labels


class CellIDGroup(_CellID):
    """CellID with one signature per label: the genes nearest to the label's centroid.

    Parameters and errors are those of :class:`CellIDCell`.
    """

    spec = replace(
        CellIDCell.spec,
        method_id="cellid_group",
        name="CellID, groups",
        description="Overlap of the genes nearest to a query cell with those nearest to each label centroid.",
    )

    def _points(
        self, cells: NDArray[np.float64], labels: NDArray[np.str_]
    ) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
        names = np.unique(labels)
        return np.stack([cells[labels == name].mean(axis=0) for name in names]), names


def overlap_p(own: Any, signatures: Any) -> Iterator[NDArray[np.float64]]:
    """Yield p-values (n_block, n_signatures) of overlaps at least as large, a block of query cells at a time.

    Both arguments are sparse indicators of genes; all rows of ``own`` have equally many.
    """
    size = signatures.getnnz(axis=1)
    tails = tail_table(n_universe=own.shape[1], n_drawn=int(own[0].nnz), largest=int(size.max()))
    transposed = signatures.T.tocsc()
    for start in range(0, own.shape[0], CHUNK):
        overlap = (own[start : start + CHUNK] @ transposed).toarray().astype(np.int64)
        yield tails[size, overlap]


def tail_table(*, n_universe: int, n_drawn: int, largest: int) -> NDArray[np.float64]:
    """Tabulate P(overlap >= q) for signature sizes m from 0 (rows) and overlaps q from 0 (columns).

    A table is faster than one computation per pair of cells, because few sizes and overlaps occur.

    Examples
    --------
    >>> table = tail_table(n_universe=4, n_drawn=2, largest=2)
    >>> table[2].round(4).tolist()  # of 6 draws, 5 contain at least one gene of the signature, 1 both
    [1.0, 0.8333, 0.1667]
    """
    from scipy.stats import hypergeom

    size = np.arange(largest + 1)[:, None]
    overlap = np.arange(n_drawn + 1)[None, :]
    return np.asarray(np.maximum(hypergeom.sf(overlap - 1, n_universe, size, n_drawn), SMALLEST_P))


def best_match(p: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the position and the adjusted p-value of the best signature of each row.

    The Benjamini-Hochberg adjustment within each row raises all p-values up to some rank to the same
    value. The first of these signatures is returned; it need not have the lowest p-value.
    """
    ordered = np.sort(p, axis=1)
    n_tests = p.shape[1]
    lifted = ordered * n_tests / np.arange(1, n_tests + 1)
    adjusted = np.minimum(lifted.min(axis=1), 1.0)
    last = n_tests - 1 - lifted[:, ::-1].argmin(axis=1)
    limit = np.where(adjusted < 1.0, ordered[np.arange(len(p)), last], np.inf)
    return (p <= limit[:, None]).argmax(axis=1), adjusted


def _spread(signatures: Any, kept: NDArray[np.int64], *, n_vars: int) -> Any:
    """Expand signatures from the kept genes to all genes of the data."""
    from scipy.sparse import csr_matrix

    shape = signatures.shape[0], n_vars
    return csr_matrix((signatures.data, kept[signatures.indices], signatures.indptr), shape=shape)
