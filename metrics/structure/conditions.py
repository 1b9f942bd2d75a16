"""What an embedding keeps of a condition, such as a treatment, that is no batch.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, coordinates, encode
from cellular_bench.metrics.spec import metric

#: Neighbours of a cell at most, and at most one of so many cells that they are chosen from.
MOST_NEIGHBORS: Final = 15
ONE_OF: Final = 3
#: Least number of cells of a donor that have the condition, and that have it not, in a type.
LEAST_CELLS: Final = 10
#: Types in which cells of other donors show the condition less than this before integration do not count.
LEAST_AUC: Final = 0.6
CHANCE: Final = 0.5
#: More neighbours than these are searched, to see whether others are at the distance of the last one.
_SPARE: Final = 8
#: Distances that are computed at a time.
_AT_A_TIME: Final = 1 << 22
#: Decimals of the share of a condition among neighbours: more are rounding errors.
_DECIMALS: Final = 12

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class DonorFigures:
    """How well the cells of the other donors predict the condition of the cells of one donor and type.

    Attributes
    ----------
    value
        The condition that is compared with all others; of two, the second by name: both figures are equal.
    label, donor
        The type, and the donor whose cells are classified.
    n_obs
        Number of these cells.
    auc, auc_before
        Area under the ROC curve, after integration and before; 0.5 is chance.
    """

    value: str
    label: str
    donor: str
    n_obs: int
    auc: float
    auc_before: float


def without_determined(
    conditions: Mapping[str, ArrayLike], batch: ArrayLike
) -> dict[str, ArrayLike | UndefinedError]:
    """Return the columns of conditions; for those that batches determine, the reason why they have no score.

    A batch that has one condition only cannot be corrected without the condition: what a method removes is
    then neither right nor wrong.

    Parameters
    ----------
    conditions
        (n_obs,) values by the name of their column.
    batch
        (n_obs,) batches.

    Examples
    --------
    >>> found = without_determined({"stim": ["no", "no", "yes"]}, ["1", "2", "3"])
    >>> print(found["stim"])
    each batch has one value of 'stim' only: correcting batches and removing the condition are one thing
    """
    return {
        name: UndefinedError(
            f"each batch has one value of '{name}' only: correcting batches and removing the condition are "
            "one thing"
        )
        if is_determined(values, batch)
        else values
        for name, values in conditions.items()
    }


def is_determined(condition: ArrayLike, batch: ArrayLike) -> bool:
    """Return whether all cells of a batch have one condition, in every batch, and there are several.

    Examples
    --------
    >>> is_determined(["no", "yes", "yes"], ["1", "2", "2"]), is_determined(["no", "yes"], ["1", "1"])
    (True, False)
    """
    names, codes = encode(condition, "condition")
    _, groups = encode(batch, "batch", n_obs=len(codes))
    pairs = np.unique(np.column_stack([groups, codes]), axis=0)
    return len(names) > 1 and len(pairs) == len(np.unique(groups))


def condition_figures(
    X_emb: ArrayLike, X_pre: ArrayLike, label: ArrayLike, donor: ArrayLike, condition: ArrayLike
) -> tuple[DonorFigures, ...]:
    """Return the figures of every type and donor that has cells enough, by condition, label and donor.

    Undefined if all cells have one condition or are of one donor, or no type has two donors with 10 cells
    with the condition and 10 without.

    Parameters
    ----------
    X_emb, X_pre, label, donor
        As for :func:`condition_kept`.
    condition
        (n_obs,) condition of each cell.

    Examples
    --------
    >>> X = np.tile(np.repeat([[0.0], [1.0]], 10, axis=0), (2, 1))
    >>> stim, donor = np.tile(np.repeat(["no", "yes"], 10), 2), np.repeat(["A", "B"], 20)
    >>> [(one.donor, one.auc) for one in condition_figures(X, X, ["T"] * 40, donor, stim)]
    [('A', 1.0), ('B', 1.0)]
    """
    after, before = coordinates(X_emb), coordinates(X_pre, "X_pre", by_output=False)
    if len(before) != len(after):
        raise ValueError(f"X_pre has {len(before)} rows; X_emb has {len(after)}")
    labels, types = encode(label, "label", n_obs=len(after))
    donors, persons = encode(donor, "donor", n_obs=len(after))
    values, codes = encode(condition, "condition", n_obs=len(after))
    for what, names in (("value of the condition", values), ("donor", donors)):
        if len(names) < 2:
            raise UndefinedError(f"there is only one {what} ('{names[0]}')")
    found = tuple(
        DonorFigures(
            value=str(values[value]),
            label=str(labels[kind]),
            donor=str(donors[person]),
            n_obs=int(np.count_nonzero(is_his)),
            auc=_auc(after[cells], is_his, has),
            auc_before=_auc(before[cells], is_his, has),
        )
        # Of two conditions, cells that have one are those that have the other not.
        for value in range(1 if len(values) == 2 else 0, len(values))
        for kind in range(len(labels))
        for cells, person, is_his, has in _held_out(np.flatnonzero(types == kind), persons, codes == value)
    )
    if not found:
        raise UndefinedError(
            f"no label has two donors with {LEAST_CELLS} cells of a condition and {LEAST_CELLS} of others"
        )
    return found


def _held_out(cells: Ints, donor: Ints, has_value: Bools) -> Iterator[tuple[Ints, int, Bools, Bools]]:
    """Yield for each donor of a type: cells, the donor, which cells are theirs, which have the condition.

    Donors with too few cells take no part: not even as the others.
    """
    n_with, n_without = (np.bincount(donor[cells[has_value[cells] == has]]) for has in (True, False))
    both = min(len(n_with), len(n_without))
    enough = np.flatnonzero((n_with[:both] >= LEAST_CELLS) & (n_without[:both] >= LEAST_CELLS))
    if len(enough) < 2:
        return
    cells = cells[np.isin(donor[cells], enough)]
    for person in enough.tolist():
        yield cells, person, donor[cells] == person, has_value[cells]


def _auc(X: Floats, is_held_out: Bools, has_value: Bools) -> float:
    """Return how well the share of a condition among neighbours of other donors predicts it."""
    from scipy.stats import rankdata

    shares = _shares(_scaled(X), is_held_out, has_value)
    has = has_value[is_held_out]
    n_with, n_without = np.count_nonzero(has), np.count_nonzero(~has)
    area = rankdata(shares)[has].sum() - n_with * (n_with + 1) / 2
    return float(area / (n_with * n_without))


def _scaled(X: Floats) -> Floats:
    """Return coordinates around their mean, none above 1 in magnitude; a power of two is exact."""
    centred = X - X.mean(axis=0)
    scaled: Floats = centred / 2.0 ** np.ceil(np.log2(np.abs(centred).max() or 1.0))
    return scaled


def _shares(X: Floats, is_held_out: Bools, has_value: Bools) -> Floats:
    """Return the share of a condition among the nearest other cells of each cell that is held out.

    Cells at the distance of the last neighbour, but for rounding, share the places that are left.
    """
    from sklearn.neighbors import NearestNeighbors

    cells, others, of_others = X[is_held_out], X[~is_held_out], has_value[~is_held_out]
    k = min(MOST_NEIGHBORS, len(others) // ONE_OF)
    search = NearestNeighbors(algorithm="brute").fit(others)
    distances, near = search.kneighbors(cells, min(k + _SPARE, len(others)))
    norms = np.einsum("ij,ij->i", others, others)
    longest = np.linalg.norm(cells, axis=1) + np.sqrt(norms.max())
    doubt = ((X.shape[1] + 6) * np.finfo(np.float64).eps * longest**2)[:, None]
    shares = _with_ties(distances**2, of_others[near], k, doubt)
    # All spare cells may be at the distance of the last neighbour, and more that were not searched.
    open_rows = np.flatnonzero(distances[:, -1:] ** 2 - distances[:, k - 1 : k] ** 2 <= doubt)
    if near.shape[1] < len(others):
        for part in np.array_split(open_rows, -(-len(open_rows) * len(others) // _AT_A_TIME) or 1):
            own = np.einsum("ij,ij->i", cells[part], cells[part])[:, None]
            squares = norms - 2 * cells[part] @ others.T + own
            shares[part] = _with_ties(squares, of_others, k, doubt[part])
    return np.round(shares, _DECIMALS)


def _with_ties(squares: Floats, has_value: Bools, k: int, doubt: Floats) -> Floats:
    """Return the share of a condition among the k nearest cells of each row.

    Parameters
    ----------
    squares
        (n_rows, n_cells) squared distances.
    has_value
        (n_cells,) or (n_rows, n_cells) which cells have the condition.
    doubt
        (n_rows, 1) differences of squared distances that are rounding errors.
    """
    last = np.partition(squares, k - 1, axis=1)[:, k - 1 : k]
    nearer, tied = squares < last - doubt, np.abs(squares - last) <= doubt
    n_nearer, n_tied = nearer.sum(axis=1), tied.sum(axis=1)
    shares: Floats = (
        (nearer & has_value).sum(axis=1) + (k - n_nearer) * (tied & has_value).sum(axis=1) / n_tied
    ) / k
    return shares


def share_kept(figures: Sequence[DonorFigures]) -> float:
    """Return the share of a condition that an embedding keeps, 0 to 1, from :func:`condition_figures`.

    Undefined if the cells of other donors do not show the condition before integration.

    Examples
    --------
    >>> figures = [
    ...     DonorFigures(value="yes", label="T", donor=donor, n_obs=40, auc=0.7, auc_before=0.9)
    ...     for donor in ("A", "B")
    ... ]
    >>> round(share_kept(figures), 3)
    0.5
    """
    of_type: dict[tuple[str, str], list[DonorFigures]] = defaultdict(list)
    for one in figures:
        of_type[one.value, one.label].append(one)
    kept: dict[str, list[float]] = defaultdict(list)
    means = {
        key: [float(np.mean([getattr(one, name) for one in ones])) for name in ("auc", "auc_before")]
        for key, ones in of_type.items()
    }
    for (value, _), (auc, auc_before) in means.items():
        if auc_before >= LEAST_AUC:
            kept[value].append(min(1.0, (auc - CHANCE) / (auc_before - CHANCE)))
    if not kept:
        most = max(auc_before for _, auc_before in means.values())
        raise UndefinedError(
            "before integration, the cells of other donors do not show the condition in any label: the "
            f"largest AUC is {most:.2f}, and {LEAST_AUC:g} is the least"
        )
    return float(np.clip(np.mean([np.mean(values) for values in kept.values()]), 0.0, 1.0))


@metric(
    metric_id="condition_kept",
    name="Condition kept",
    aspect="structure",
    definition=(
        "How well the nearest cells of other donors predict the condition of a cell of the same label, "
        "relative to before integration."
    ),
    in_overall=False,
)
def condition_kept(
    X_emb: ArrayLike,
    X_pre: ArrayLike,
    label: ArrayLike,
    donor: ArrayLike,
    conditions: Mapping[str, ArrayLike | UndefinedError],
) -> float:
    """Return the share of conditions that an embedding keeps, 0 to 1; higher is better.

    Undefined if no column has a score: its batches determine it, all cells have one value, no label has two
    donors with 10 cells with the condition and 10 without, or the condition does not show before integration.

    Parameters
    ----------
    X_emb, X_pre, label
        As for all metrics; ``X_pre`` is what the embedding is compared with.
    donor
        (n_obs,) independent units, such as donors: a cell is compared with those of others.
    conditions
        (n_obs,) values by the name of their column; or the reason why a column has no score.

    Notes
    -----
    Formula: of a label, donors with at least 10 cells with a condition and 10 without take part. Each donor
    is held out in turn: s = share of the condition among the min(15, n // 3) nearest of the n cells of the
    other donors, of the same label; cells at the same distance share a place; AUC = area under the ROC curve
    of s. Per label, AUC is the mean over donors, and kept = min(1, (AUC - 0.5) / (AUC before - 0.5)), where
    AUC before, of principal components before integration, is at least 0.6. The value is the mean over
    labels, clipped to 0 to 1 after that. With more than two conditions, each is compared with the rest, and
    the mean over them is taken; several columns are averaged.

    Fooled by: a method that sees the condition. An axis of the condition alone scores 1, as the cap only
    prevents more than before integration: the column is therefore kept from methods, as labels are. A
    condition that batches determine cannot be distinguished from them and has no score. Of two donors, the
    value has no interval: look at each donor.

    References
    ----------
    Donors that were measured under both conditions: doi:10.1038/nbt.4042

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> stim, donor = np.tile(np.repeat(["no", "yes"], 20), 2), np.repeat(["A", "B"], 40)
    >>> X_pre = rng.normal(size=(80, 2)) + 5.0 * (stim == "yes")[:, None]
    >>> X_lost = rng.normal(size=(80, 2))
    >>> label, conditions = np.full(80, "T"), {"stim": stim}
    >>> [round(condition_kept(X, X_pre, label, donor, conditions), 1) for X in (X_pre, X_lost)]
    [1.0, 0.0]
    """
    kept, reasons = [], {}
    for name, values in conditions.items():
        try:
            if isinstance(values, UndefinedError):
                raise UndefinedError(str(values), by_output=values.by_output)
            kept.append(share_kept(condition_figures(X_emb, X_pre, label, donor, values)))
        except UndefinedError as error:
            reasons[name] = error
    if kept:
        return float(np.mean(kept))
    if not reasons:
        raise UndefinedError("no condition is named")
    raise UndefinedError(
        "; ".join(f"{name}: {error}" for name, error in reasons.items()),
        by_output=any(error.by_output for error in reasons.values()),
    )
