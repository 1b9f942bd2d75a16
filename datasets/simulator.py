"""Simulated counts with known cell types, known batch effects and known truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.keys import BATCH, LABEL, TARGET_SUM

if TYPE_CHECKING:
    from anndata import AnnData

#: Standard deviation over genes of the log mean expression, before types and batches.
BASE_SPREAD = 1.2

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Negative-binomial counts of cells with known type and batch.

    The mean of gene g in a cell of type t and batch b is the cell's library size times the share of g in
    ``exp(base_g + marker_strength * [g marks t] + batch_strength * z_bg)``, where base and z are normal
    draws. The same seed draws the same base, markers, z and cells for every strength, so that strengths can
    be compared.

    Parameters
    ----------
    n_obs, n_vars
        Number of cells and genes.
    n_labels, n_batches
        Number of types (``type1``...) and batches (``batch1``...).
    batch_strength
        Standard deviation of the shift of a gene's log mean by the batch; 0: no batch effect.
    label_proportions
        Share of each type within every batch, scaled to sum to 1; equal if None.
    marker_fraction, marker_strength
        Share of the genes that mark each type, and the increase of their log mean in it. Types have no marker
        in common.
    median_counts, library_spread
        Median total counts of a cell, and standard deviation of the logarithm.
    dispersion
        Counts of mean m have variance m + dispersion * m**2; 0: Poisson.
    missing
        Types that a batch lacks: ``{"batch1": ["type2"]}``.
    seed
        Seed of all draws.

    Raises
    ------
    UserError
        If a number is out of range.
    """

    n_obs: int = 1000
    n_vars: int = 500
    n_labels: int = 5
    n_batches: int = 3
    batch_strength: float = 0.5
    label_proportions: Sequence[float] | None = None
    marker_fraction: float = 0.05
    marker_strength: float = 2.0
    median_counts: float = 2000.0
    library_spread: float = 0.3
    dispersion: float = 0.3
    missing: Mapping[str, Sequence[str]] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_obs", "n_vars", "n_labels", "n_batches", "seed"):
            number, minimum = getattr(self, name), 0 if name == "seed" else 1
            if isinstance(number, bool) or not isinstance(number, int) or number < minimum:
                raise UserError(f"{name} must be a whole number of at least {minimum}, got: {number!r}.")
        for name in ("batch_strength", "library_spread", "dispersion"):
            scale = getattr(self, name)
            if not (np.isfinite(scale) and scale >= 0):
                raise UserError(f"{name} must be a number of at least 0, got: {scale!r}.")
        if not np.isfinite(self.marker_strength):
            raise UserError(f"marker_strength must be a finite number, got: {self.marker_strength!r}.")
        if not (np.isfinite(self.median_counts) and self.median_counts > 0):
            raise UserError(f"median_counts must be a number above 0, got: {self.median_counts!r}.")

    def draw(self) -> AnnData:
        """Draw the cells; see :func:`simulate`."""
        labels, batches = _numbered("type", self.n_labels), _numbered("batch", self.n_batches)
        shares = _shares(self.label_proportions, labels, batches, self.missing or {})
        rng = np.random.default_rng(self.seed)
        label, batch = _cells(self.n_obs, shares, rng)
        _check_every_label_has_cells(label, labels)
        marks = _markers(self.n_vars, self.n_labels, self.marker_fraction, rng)
        base = rng.normal(0.0, BASE_SPREAD, self.n_vars)
        shift = rng.normal(0.0, 1.0, (self.n_batches, self.n_vars)) * self.batch_strength
        log_mean = base + self.marker_strength * (marks == np.arange(self.n_labels)[:, None])
        library = self.median_counts * np.exp(self.library_spread * rng.normal(size=self.n_obs))
        mean = library[:, None] * _composition(log_mean[label] + shift[batch])
        truth = np.log1p(TARGET_SUM * _composition(log_mean))
        return _as_anndata(
            _negative_binomial(mean, self.dispersion, rng),
            label=np.array(labels)[label],
            batch=np.array(batches)[batch],
            marks=np.array([*labels, ""])[marks],
            X_truth=truth[label].astype(np.float32),
            truth={**{name: getattr(self, name) for name in _RECORDED}, "batch_shift": shift},
        )


#: Arguments that ``uns["truth"]`` holds.
_RECORDED = (
    "n_obs", "n_vars", "n_labels", "n_batches", "seed", "batch_strength", "library_spread", "dispersion",
    "marker_strength",
)  # fmt: skip


def simulate(**arguments: Any) -> AnnData:
    """Draw counts of cells with known type and batch; the arguments are the fields of :class:`Simulation`.

    Returns
    -------
    ``X`` counts (sparse float32); ``obs["label"]``, ``obs["batch"]``; ``obsm["X_truth"]`` (n_obs, n_vars)
    log1p of the expected counts per 10,000 without any batch effect; ``var["marks"]`` the type that a gene
    marks, or an empty string; ``uns["truth"]`` the arguments and ``batch_shift`` (n_batches, n_vars), in
    units of the log mean.

    Raises
    ------
    UserError
        If a number is out of range, ``missing`` names an unknown type or batch, or there are so few cells
        that a type gets none.

    Examples
    --------
    >>> adata = simulate(n_obs=60, n_vars=50, n_labels=3, n_batches=2, seed=1)
    >>> adata.shape, adata.obs["label"].value_counts().to_dict()
    ((60, 50), {'type1': 20, 'type2': 20, 'type3': 20})
    """
    return Simulation(**arguments).draw()


def _numbered(stem: str, n: int) -> list[str]:
    return [f"{stem}{number}" for number in range(1, n + 1)]


def _shares(
    proportions: Sequence[float] | None,
    labels: list[str],
    batches: list[str],
    missing: Mapping[str, Sequence[str]],
) -> Array:
    """Return the share of each type in each batch, (n_batches, n_labels); rows sum to 1."""
    wanted = np.ones(len(labels)) if proportions is None else np.asarray(proportions, dtype=np.float64)
    if wanted.shape != (len(labels),) or not np.isfinite(wanted).all() or (wanted <= 0).any():
        raise UserError(
            f"label_proportions must be {len(labels)} numbers above 0, one per label, got: {proportions!r}."
        )
    shares = np.tile(wanted, (len(batches), 1))
    for batch, absent in missing.items():
        if batch not in batches:
            raise UnknownNameError("batch", batch, batches)
        for label in absent:
            if label not in labels:
                raise UnknownNameError("label", label, labels)
            shares[batches.index(batch), labels.index(label)] = 0.0
    empty = [batch for batch, row in zip(batches, shares, strict=True) if not row.any()]
    if empty:
        raise UserError(f"missing takes every label out of {', '.join(empty)}; leave at least one.")
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float64)


def _cells(n_obs: int, shares: Array, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return type and batch of each cell: exact numbers by largest remainder, in random order."""
    n_batches, n_labels = shares.shape
    sizes = _apportion(n_obs, np.full(n_batches, 1 / n_batches))
    n_cells = np.array([_apportion(size, row) for size, row in zip(sizes, shares, strict=True)])
    cell = rng.permutation(np.repeat(np.arange(n_batches * n_labels), n_cells.ravel()))
    return cell % n_labels, cell // n_labels


def _apportion(n: int, shares: Array) -> NDArray[np.int64]:
    exact = n * shares
    whole = np.floor(exact + 1e-9).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: n - whole.sum()]
    whole[rest] += 1
    return whole


def _check_every_label_has_cells(label: NDArray[Any], labels: list[str]) -> None:
    absent = [name for number, name in enumerate(labels) if number not in label]
    if absent:
        raise UserError(
            f"No cell is left for {', '.join(absent)}: ask for more cells (n_obs), larger "
            "label_proportions, or take it out of fewer batches (missing)."
        )


def _markers(n_vars: int, n_labels: int, fraction: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the number of the type that each gene marks, or -1, (n_vars,)."""
    n_markers = round(fraction * n_vars)
    if not (fraction >= 0 and n_markers * n_labels <= n_vars):
        raise UserError(
            f"marker_fraction must lie between 0 and 1/n_labels = {1 / n_labels:.3g}, got: {fraction!r}."
        )
    marks = np.full(n_vars, -1)
    genes = rng.permutation(n_vars)[: n_markers * n_labels]
    marks[genes] = np.repeat(np.arange(n_labels), n_markers)
    return marks


def _composition(log_mean: Array) -> Array:
    share = np.exp(log_mean - log_mean.max(axis=1, keepdims=True))
    return np.asarray(share / share.sum(axis=1, keepdims=True), dtype=np.float64)


def _negative_binomial(mean: Array, dispersion: float, rng: np.random.Generator) -> NDArray[np.int64]:
    # A Poisson count whose rate is gamma distributed is negative binomial.
    rate = rng.gamma(1 / dispersion, mean * dispersion) if dispersion else mean
    return rng.poisson(rate)


def _as_anndata(
    counts: NDArray[np.int64],
    *,
    label: NDArray[np.str_],
    batch: NDArray[np.str_],
    marks: NDArray[np.str_],
    X_truth: NDArray[np.float32],
    truth: dict[str, object],
) -> AnnData:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    obs = pd.DataFrame(
        {BATCH: pd.Categorical(batch), LABEL: pd.Categorical(label)}, index=_numbered("cell", len(label))
    )
    var = pd.DataFrame({"marks": marks}, index=_numbered("gene", len(marks)))
    return AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        obs=obs,
        var=var,
        obsm={"X_truth": X_truth},
        uns={"truth": truth},
    )
