"""CellID: the genes closest to each query cell, looked up in gene signatures of the reference."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotApplicableError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._mca import Coordinates, correspondence, nearest_genes
from cellular_bench.methods._support import labels_of, preset_with, require_labels, require_same_genes

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    n_genes: int = 200
    n_components: int = 50
    min_cells: int = 5
    reject_p: float = 0.01


PRESETS: Final = {"default": _Settings(), "paper": _Settings(min_cells=1, reject_p=math.inf)}
#: Signatures with fewer genes among those of the query are left out.
MIN_SIGNATURE: Final = 10
#: Query cells whose overlaps with all signatures are held at a time.
CHUNK: Final = 500
#: Smaller probabilities are taken as this one, so that their logarithm is finite.
SMALLEST_P: Final = 1e-320


class _CellID(ABC):
    """What both kinds of CellID share: spaces, signatures, and the test of their overlap."""

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
        """Return the points of the reference that have a signature, and the label of each."""

    def fit(self, train: AnnData) -> Self:
        """Find the signatures of the reference."""
        labels = labels_of(train)
        require_labels(labels, self.spec.method_id)
        space = self._space(train)
        points, self._labels = self._points(space.cells, labels)
        signatures = nearest_genes(points, space.genes, n_genes=self.settings.n_genes)
        self._signatures = _spread(signatures, space.kept, n_vars=train.n_vars)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Name each cell after the signature that its own genes overlap with least by chance."""
        if not self._genes:
            raise ContractError(f"{self.spec.method_id}: predict was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
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
        chosen = np.concatenate([position for position, _ in best])
        adjusted = np.concatenate([p for _, p in best])
        return Prediction(
            label_pred=self._labels[usable][chosen],
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
                f"{self.spec.method_id}: {space.kept.size} genes vary, needed are more than the "
                f"{self.settings.n_genes} of a signature. Use more genes, or a smaller n_genes."
            )
        return space


class CellIDCell(_CellID):
    """CellID with one signature per reference cell, written anew from its description.

    Reference and query each go through a multiple correspondence analysis of their own, which places
    cells and genes in one space. A signature is the 200 genes nearest to a reference cell; a query cell
    takes the label of the signature that its own 200 nearest genes overlap with least by chance
    (hypergeometric test, adjusted over all signatures after Benjamini and Hochberg; of equals the first).

    The query's cells are analysed together, so the method is transductive: a cell's label depends on the
    other cells of the query. Novelty is the decimal logarithm of the best adjusted p.

    Parameters
    ----------
    preset
        ``"default"``: the authors' vignette. ``"paper"``: the CELLULAR study, which rejects no cell.
    n_genes
        Genes of a signature. None keeps the preset's, here and below.
    n_components
        Dimensions of the space.
    min_cells
        Genes found in fewer cells of the reference, or of the query, are left out there.
    reject_p
        Cells whose best adjusted p is not below it are rejected; above 1 none is.
    seed
        Seed of the solver's starting vector.

    Raises
    ------
    NotApplicableError
        If reference or query has not more than ``n_components + 1`` cells, or not more genes than
        a signature.
    """

    spec = MethodSpec(
        method_id="cellid_cell",
        name="CellID, cells",
        tasks=("annotation", "novelty"),
        description="Overlap of the genes nearest to each query cell with those of each reference cell.",
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

    All else is as in :class:`CellIDCell`, parameters and errors included.
    """

    spec = replace(
        CellIDCell.spec,
        method_id="cellid_group",
        name="CellID, groups",
        description="Overlap of the genes nearest to each query cell with those of each label's centroid.",
    )

    def _points(
        self, cells: NDArray[np.float64], labels: NDArray[np.str_]
    ) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
        names = np.unique(labels)
        return np.stack([cells[labels == name].mean(axis=0) for name in names]), names


def overlap_p(own: Any, signatures: Any) -> Iterator[NDArray[np.float64]]:
    """Yield, for some query cells at a time, how likely chance gives each overlap or a larger one.

    Parameters
    ----------
    own
        Sparse (n_obs, n_genes) with as many ones in each row: the genes of each query cell.
    signatures
        Sparse (n_signatures, n_genes) with ones.

    Yields
    ------
    (n_some, n_signatures) probabilities under the hypergeometric distribution.
    """
    size = signatures.getnnz(axis=1)
    tails = tail_table(n_universe=own.shape[1], n_drawn=int(own[0].nnz), largest=int(size.max()))
    transposed = signatures.T.tocsc()
    for start in range(0, own.shape[0], CHUNK):
        overlap = (own[start : start + CHUNK] @ transposed).toarray().astype(np.int64)
        yield tails[size, overlap]


def tail_table(*, n_universe: int, n_drawn: int, largest: int) -> NDArray[np.float64]:
    """Tabulate P(overlap >= q) by size of signature m (rows) and q (columns), from 0.

    There are few sizes and few overlaps, but as many pairs as cells of query and reference.

    Examples
    --------
    >>> table = tail_table(n_universe=4, n_drawn=2, largest=2)
    >>> table[2].round(4).tolist()  # of 6 draws, 5 hit a signature of 2 genes at least once, 1 hits both
    [1.0, 0.8333, 0.1667]
    """
    from scipy.stats import hypergeom

    size = np.arange(largest + 1)[:, None]
    overlap = np.arange(n_drawn + 1)[None, :]
    return np.asarray(np.maximum(hypergeom.sf(overlap - 1, n_universe, size, n_drawn), SMALLEST_P))


def best_match(p: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the position and the adjusted p of each row's best signature; of equals the first.

    Adjustment is that of Benjamini and Hochberg within each row. It lifts all p up to some rank to the
    same value, so that the best is not always the least p.
    """
    ordered = np.sort(p, axis=1)
    n_tests = p.shape[1]
    lifted = ordered * n_tests / np.arange(1, n_tests + 1)
    adjusted = np.minimum(lifted.min(axis=1), 1.0)
    last = n_tests - 1 - lifted[:, ::-1].argmin(axis=1)
    limit = np.where(adjusted < 1.0, ordered[np.arange(len(p)), last], np.inf)
    return (p <= limit[:, None]).argmax(axis=1), adjusted


def _spread(signatures: Any, kept: NDArray[np.int64], *, n_vars: int) -> Any:
    """Return signatures over all genes of the data instead of those that were kept."""
    from scipy.sparse import csr_matrix

    shape = signatures.shape[0], n_vars
    return csr_matrix((signatures.data, kept[signatures.indices], signatures.indptr), shape=shape)
