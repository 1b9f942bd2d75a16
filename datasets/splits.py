"""Splits into training cells and scored cells.

Pure functions of the label or batch of every cell, in cell order. Each returns a tuple of
:class:`~cellular_bench.core.types.Split` with ascending positions; the same input and seed give the same
splits, digests included. Impossible requests raise a :class:`~cellular_bench.core.errors.UserError` with the
reason.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.labels import label_name, label_names
from cellular_bench.core.names import among
from cellular_bench.core.types import Split, SplitKind

#: Labels with fewer cells are not chosen by :func:`unseen_label`, only if they are named.
MIN_UNSEEN_CELLS = 10
#: Number of labels that :func:`unseen_label` hides by default, one at a time.
DEFAULT_UNSEEN_LABELS = 3
#: Smallest number of labels in the training cells of a split.
MIN_KNOWN_LABELS = 2
#: Draws of :func:`even_halves` and :func:`skewed_halves`; each is compared with the next, the last with the
#: first.
N_DRAWS = 3
#: Names that the halves of a batch have instead of that of the batch.
HALF_NAMES = ("half_1", "half_2")
#: Smallest and largest expected share of a label's cells in the second of two skewed halves.
SKEW = (0.1, 0.9)


def all_cells(label: ArrayLike) -> tuple[Split, ...]:
    """Train on all cells and score all cells: for methods that embed the cells that they are fitted on.

    Parameters
    ----------
    label
        (n_obs,) label of each cell; only its length matters.

    Examples
    --------
    >>> [(split.split_id, len(split.test_obs)) for split in all_cells(["alpha", "beta"])]
    [('all', 2)]
    """
    cells = np.arange(len(_names(label, "label")))
    return (_split("all", "", "all", cells, cells),)


def kfold(label: ArrayLike, *, n_splits: int = 5, seed: int = 42) -> tuple[Split, ...]:
    """Divide the cells into folds with the same proportions of labels; each fold is scored once.

    The folds are those of scikit-learn's ``StratifiedKFold(n_splits, shuffle=True, random_state=seed)``, in
    its order; with the defaults, the split of the CELLULAR study. A label with fewer cells than folds is
    missing in the test cells of some folds, and a label with one cell in the training cells of the fold that
    scores it.

    Parameters
    ----------
    label
        (n_obs,) label of each cell.
    n_splits
        Number of folds.
    seed
        Seed of the shuffle.

    Raises
    ------
    UserError
        If every label has fewer cells than there are folds.

    Examples
    --------
    >>> folds = kfold(["alpha"] * 10 + ["beta"] * 5, n_splits=5, seed=0)
    >>> folds[0].split_id, len(folds[0].train_obs), len(folds[0].test_obs)
    ('kfold-5-0.1', 12, 3)
    """
    names = _names(label, "label")
    folds = _stratified_folds(names, n_splits=n_splits, seed=seed)
    return tuple(
        _split(f"kfold-{n_splits}-{seed}", str(number), "kfold", train, test, seed=seed)
        for number, (train, test) in enumerate(folds, start=1)
    )


def leave_one_batch_out(batch: ArrayLike) -> tuple[Split, ...]:
    """Score each batch in turn; all other batches are the training cells.

    Parameters
    ----------
    batch
        (n_obs,) batch of each cell.

    Raises
    ------
    UserError
        If there is only one batch.

    Examples
    --------
    >>> [split.split_id for split in leave_one_batch_out(["human1", "human2", "human1"])]
    ['lobo.human1', 'lobo.human2']
    """
    names = _names(batch, "batch")
    batches = _batches(names, "leave_one_batch_out")
    return tuple(
        _split(
            "lobo",
            _id(left_out),
            "leave_one_batch_out",
            np.flatnonzero(names != left_out),
            np.flatnonzero(names == left_out),
        )
        for left_out in batches
    )


def unseen_label(
    label: ArrayLike,
    *,
    labels: Sequence[str] | Literal["all"] | None = None,
    n_labels: int | None = None,
    n_splits: int = 5,
    seed: int = 42,
    folds: Sequence[int] = (1,),
    together: bool = False,
) -> tuple[Split, ...]:
    """Hide one label from training, to test whether its cells are recognised as novel.

    As in the CELLULAR study: in a fold of :func:`kfold`, the cells of the label are moved from the training
    cells to the test cells. Test cells of other types without training cells, for example the only cell of a
    rare type, are not scored: they are neither known nor hidden.

    Parameters
    ----------
    label
        (n_obs,) label of each cell.
    labels
        Labels to hide, one at a time; ``"all"``: all labels, even rare ones.
    n_labels
        Number of labels to hide if ``labels`` does not name them; 3 if neither is given. Labels with at least
        10 cells are ranked by abundance, most cells first and ties by name. The ranks are divided into
        ``n_labels`` equal intervals, and the label in the middle of each is hidden, so that abundant and rare
        labels are included.
    n_splits, seed
        As for :func:`kfold`.
    folds
        Numbers of the folds to use, from 1 to ``n_splits``.
    together
        True: hide all these labels at once, in one split per fold.

    Raises
    ------
    UserError
        If a label or fold does not exist, fewer than ``n_labels`` labels have 10 cells, or fewer than two
        labels are left for training.

    Examples
    --------
    >>> label = ["alpha"] * 30 + ["beta"] * 20 + ["delta"] * 10
    >>> split, = unseen_label(label, labels=["delta"])
    >>> split.split_id, len(split.train_obs), len(split.test_obs)
    ('unseen-5-42.delta.1', 40, 20)
    """
    names = _names(label, "label")
    hidden = _labels_to_hide(names, labels=labels, n_labels=n_labels)
    cut = _stratified_folds(names, n_splits=n_splits, seed=seed)
    numbers = _fold_numbers(folds, n_splits=n_splits)
    groups = [tuple(sorted(hidden))] if together else [(name,) for name in hidden]
    return tuple(
        _hide(names, unseen, *cut[number - 1], n_splits=n_splits, number=number, seed=seed)
        for unseen in groups
        for number in numbers
    )


def private_label(
    label: ArrayLike,
    batch: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    n_labels: int | None = None,
) -> tuple[Split, ...]:
    """Score a batch with a label that no other batch has, to test whether it is recognised as novel.

    More difficult than :func:`unseen_label`, and closer to practice: the known cells of the scored batch are
    also from an unseen batch, so that a batch effect can be mistaken for a novel type. For each label, the
    batch with most of its cells is scored; all other batches are the training cells, without the cells of
    that label, which are excluded. Other labels that only the scored batch has count as novel, too. If
    several of ``labels`` occur only in the scored batch, each is scored without the cells of the others;
    otherwise their splits would be the same.

    Parameters
    ----------
    label, batch
        (n_obs,) label and batch of each cell.
    labels, n_labels
        Labels to make private, one at a time, as in :func:`unseen_label`.

    Raises
    ------
    UserError
        If there is one batch, a label does not exist, the scored batch would hold only that label, or fewer
        than two labels are left for training.

    Examples
    --------
    >>> label = ["alpha", "beta", "gamma", "alpha", "beta", "gamma", "gamma"]
    >>> batch = ["human1"] * 3 + ["human2"] * 4
    >>> split, = private_label(label, batch, labels=["gamma"])
    >>> split.split_id, split.train_obs.tolist(), split.test_obs.tolist()
    ('private.gamma', [0, 1], [3, 4, 5, 6])
    """
    names, where = _names(label, "label"), _names(batch, "batch")
    batches = _batches(where, "private_label")
    hidden = _labels_to_hide(names, labels=labels, n_labels=n_labels)
    return tuple(_private(names, where, unseen, batches, hidden) for unseen in hidden)


def _private(
    names: NDArray[np.str_], where: NDArray[np.str_], unseen: str, batches: list[str], hidden: list[str]
) -> Split:
    n_cells = [int(((where == name) & (names == unseen)).sum()) for name in batches]
    scored = where == batches[int(np.argmax(n_cells))]
    # Other labels that occur only in this batch would give the same split.
    alone = set(hidden) - set(names[~scored].tolist())
    twins = sorted(alone - {unseen}) if unseen in alone else []
    tested = scored & ~np.isin(names, twins)
    if (names[tested] == unseen).all():
        also = f" but {', '.join(map(repr, twins))}, made private too" if twins else ""
        raise UserError(
            f"private_label: batch '{batches[int(np.argmax(n_cells))]}', which has most cells of "
            f"'{unseen}', holds no other label{also}, so known and novel cells cannot be compared there."
        )
    train = np.flatnonzero(~scored & (names != unseen))
    _check_known(names[train], (unseen,), "private_label")
    new = tuple(np.setdiff1d(names[tested], names[train]).tolist())
    return _split("private", _id(unseen), "private_label", train, np.flatnonzero(tested), unseen=new)


def reference_query(batch: ArrayLike, *, reference: Sequence[str]) -> tuple[Split, ...]:
    """Train on some batches and score the cells of all others: mapping to an atlas.

    Parameters
    ----------
    batch
        (n_obs,) batch of each cell.
    reference
        Batches of the training cells.

    Raises
    ------
    UserError
        If a batch does not exist, or no batch is left to score.

    Examples
    --------
    >>> split, = reference_query(["human1", "human2", "human3"], reference=["human1", "human2"])
    >>> split.split_id, split.test_obs.tolist()
    ('ref.human1+human2', [2])
    """
    names = _names(batch, "batch")
    batches = _batches(names, "reference_query")
    wanted = sorted(set(_strings(reference, "reference", batches)))
    for name in wanted:
        if name not in batches:
            raise UnknownNameError("batch", name, batches)
    if len(wanted) == len(batches):
        raise UserError(
            "reference_query: every batch is in the reference, so no cell is left to score. "
            f"Leave out at least one of {', '.join(batches)}."
        )
    is_reference = np.isin(names, wanted)
    split_id = "ref." + "+".join(_id(name) for name in wanted)
    cells = np.flatnonzero(is_reference), np.flatnonzero(~is_reference)
    return (_split(split_id, "", "reference_query", *cells),)


def even_halves(
    label: ArrayLike, batch: ArrayLike, names: ArrayLike, *, within: str | None = None
) -> tuple[Split, ...]:
    """Cut one batch into two halves at random: what a method takes for batches are the halves.

    There is nothing to correct between the halves, so that each change is harm. All cells of the batch are
    training cells and scored cells. Each of three splits has two draws: one for each of two calls of a
    method (:attr:`~cellular_bench.core.types.Split.halves`).

    Parameters
    ----------
    label, batch
        (n_obs,) label and batch of each cell.
    names
        (n_obs,) name of each cell, each once. Draws are made in the order of the names, so that they do not
        depend on the order of the cells.
    within
        Batch that is cut; None: the one of most cells, the first by name among equals.

    Raises
    ------
    UserError
        If the batch does not exist or has fewer than two cells, or two cells have one name.

    Examples
    --------
    >>> splits = even_halves(["alpha"] * 4, ["human1"] * 4, ["a", "b", "c", "d"])
    >>> splits[0].split_id, splits[0].halves.astype(int).tolist()
    ('even_halves-human1.1', [[0, 1, 1, 0], [1, 1, 0, 0]])
    """

    def draw(rng: np.random.Generator, of: NDArray[np.str_]) -> NDArray[np.bool_]:
        return rng.permutation(len(of)) < len(of) // 2

    return _halves("even_halves", draw, 0, _names(label, "label"), batch, names, within)


def skewed_halves(
    label: ArrayLike, batch: ArrayLike, names: ArrayLike, *, within: str | None = None
) -> tuple[Split, ...]:
    """Cut one batch into two halves that differ in the shares of their labels.

    For each label, the expected share of its cells in the second half is drawn uniformly between 0.1 and
    0.9, then the half of each cell. The cells of one label are divided at random, so that there is nothing to
    correct within a label. Otherwise as :func:`even_halves`.

    Raises
    ------
    UserError
        As :func:`even_halves`; also if the cells have fewer than two labels, or a half has no cell.

    Examples
    --------
    >>> label = ["alpha"] * 50 + ["beta"] * 50
    >>> split = skewed_halves(label, ["human1"] * 100, [f"c{i:02}" for i in range(100)])[0]
    >>> [int(split.halves[0][cells].sum()) for cells in (slice(0, 50), slice(50, 100))]
    [42, 23]
    """

    def draw(rng: np.random.Generator, of: NDArray[np.str_]) -> NDArray[np.bool_]:
        present, codes = np.unique(of, return_inverse=True)
        share = rng.uniform(*SKEW, len(present))
        return rng.random(len(of)) < share[codes]

    return _halves("skewed_halves", draw, 1, _names(label, "label"), batch, names, within)


def _halves(
    kind: SplitKind,
    draw: Callable[[np.random.Generator, NDArray[np.str_]], NDArray[np.bool_]],
    stream: int,
    label: NDArray[np.str_],
    batch: ArrayLike,
    names: ArrayLike,
    within: str | None,
) -> tuple[Split, ...]:
    where, named = _names(batch, "batch"), np.asarray(names, dtype=str)
    if len(np.unique(named)) < len(where):
        raise UserError(f"{kind}: cells need different names, in whose order halves are drawn.")
    present, sizes = np.unique(where, return_counts=True)
    if within is not None and within not in present:
        raise UnknownNameError("batch", within, present.tolist())
    chosen = str(present[sizes.argmax()]) if within is None else within
    cells = np.flatnonzero(where == chosen)
    by_name = np.argsort(named[cells], kind="stable")
    n_labels = len(np.unique(label[cells]))
    if kind == "skewed_halves" and n_labels < 2:
        raise UserError(
            f"skewed_halves draws a share for each label; the cells of batch '{chosen}' have one. "
            "Name the column of the labels (label key), or use the split even-halves."
        )
    drawn = np.empty((N_DRAWS, len(cells)), dtype=bool)
    for number in range(N_DRAWS):
        drawn[number, by_name] = draw(np.random.default_rng([number, stream]), label[cells][by_name])
    if len(cells) < 2 or drawn.all(axis=1).any() or not drawn.any(axis=1).all():
        raise UserError(
            f"{kind}: batch '{chosen}' has {len(cells)} cells, too few to be cut into halves. "
            "Name a larger one (within)."
        )
    return tuple(
        _split(
            f"{kind}-{_id(chosen)}",
            str(number + 1),
            kind,
            cells,
            cells,
            seed=number,
            halves=drawn[[number, (number + 1) % N_DRAWS]],
        )
        for number in range(N_DRAWS)
    )


def scored_batches(split: Split, batch: ArrayLike) -> NDArray[np.str_]:
    """Return what methods and metrics take for the batches of the scored cells, (n_test,).

    Parameters
    ----------
    batch
        (n_obs,) batch of each cell of the data.

    Examples
    --------
    >>> split = even_halves(["alpha"] * 2, ["human1"] * 2, ["a", "b"])[0]
    >>> scored_batches(split, ["human1"] * 2).tolist()
    ['half_2', 'half_1']
    """
    if split.halves is None:
        return np.asarray(batch, dtype=str)[split.test_obs]
    return half_names(split.halves[0])


def half_names(halves: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Return the name of each cell's half, (n_obs,)."""
    return np.array(HALF_NAMES)[halves.astype(np.int64)]


def make(
    kind: SplitKind,
    *,
    label: ArrayLike,
    batch: ArrayLike,
    names: ArrayLike | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Split, ...]:
    """Return the splits of a kind.

    Parameters
    ----------
    kind
        Name of the kind.
    label, batch
        (n_obs,) label and batch of each cell.
    names
        (n_obs,) name of each cell; None: their numbers in the data. Only splits in halves read them.
    options
        Keyword arguments of the function of that kind, for example from a TOML table; with any kind also
        ``stress``, a table of ``kind``, ``levels`` and optionally ``seed``: see
        :func:`~cellular_bench.datasets.stress.stressed_splits`.

    Raises
    ------
    UserError
        For an unknown kind or option, a missing option, or one of the wrong type.

    Examples
    --------
    >>> len(make("kfold", label=["a", "a", "b", "b"], batch=["x"] * 4, options={"n_splits": 2}))
    2
    """
    if kind not in _MAKERS:
        raise UnknownNameError("split", kind, _MAKERS)
    maker, arguments = _MAKERS[kind]
    given = dict(options or {})
    stress = given.pop("stress", None)
    _check_options(kind, maker, given)
    of_cells = {
        "label": label,
        "batch": batch,
        "names": [f"{i:012d}" for i in range(len(np.asarray(label)))] if names is None else names,
    }
    splits = maker(*(of_cells[name] for name in arguments), **given)
    return splits if stress is None else _stressed(splits, label, stress)


#: Function of each kind, and what it reads of each cell.
_MAKERS: Mapping[str, tuple[Callable[..., tuple[Split, ...]], tuple[str, ...]]] = {
    "all": (all_cells, ("label",)),
    "kfold": (kfold, ("label",)),
    "leave_one_batch_out": (leave_one_batch_out, ("batch",)),
    "unseen_label": (unseen_label, ("label",)),
    "private_label": (private_label, ("label", "batch")),
    "reference_query": (reference_query, ("batch",)),
    "even_halves": (even_halves, ("label", "batch", "names")),
    "skewed_halves": (skewed_halves, ("label", "batch", "names")),
}


def _stressed(splits: tuple[Split, ...], label: ArrayLike, options: Any) -> tuple[Split, ...]:
    from cellular_bench.datasets.stress import stressed_splits

    known = ("kind", "levels", "seed")
    if not isinstance(options, Mapping) or not {"kind", "levels"} <= options.keys():
        raise UserError(f"stress must be a table with kind and levels, got: {options!r}.")
    for name in options:
        if name not in known:
            raise UnknownNameError("option of stress", name, known)
    return stressed_splits(splits, label, **options)


def _check_options(kind: str, maker: Callable[..., object], given: Mapping[str, Any]) -> None:
    known = {
        name: parameter
        for name, parameter in inspect.signature(maker).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for name in given:
        if name not in known:
            raise UnknownNameError(f"option of split '{kind}'", name, known)
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in given:
            raise UserError(f"Split '{kind}' needs the option '{name}'.")


def _split(
    scheme: str,
    part: str,
    kind: SplitKind,
    train: NDArray[Any],
    test: NDArray[Any],
    *,
    unseen: tuple[str, ...] = (),
    seed: int | None = None,
    halves: NDArray[np.bool_] | None = None,
) -> Split:
    train_obs, test_obs = (np.sort(cells).astype(np.int64) for cells in (train, test))
    return Split(
        split_id=f"{scheme}.{part}" if part else scheme,
        scheme=scheme,
        kind=kind,
        train_obs=train_obs,
        test_obs=test_obs,
        unseen_labels=unseen,
        seed=seed,
        halves=halves,
        digest=digest_of(kind, train_obs, test_obs, unseen=unseen, seed=seed, halves=halves),
    )


def digest_of(
    kind: str,
    train_obs: NDArray[np.int64],
    test_obs: NDArray[np.int64],
    *,
    unseen: tuple[str, ...],
    seed: int | None,
    halves: NDArray[np.bool_] | None = None,
) -> str:
    """Return the digest of a split: of its kind, its cells, their halves and the labels held back."""
    head = json.dumps([kind, seed, list(unseen), len(train_obs), len(test_obs)], ensure_ascii=True)
    content = hashlib.sha256(head.encode())
    # Little-endian on every machine, so that digests of different machines can be compared.
    content.update(train_obs.astype("<i8").tobytes())
    content.update(test_obs.astype("<i8").tobytes())
    if halves is not None:
        content.update(halves.astype("|u1").tobytes())
    return content.hexdigest()


def _stratified_folds(
    names: NDArray[np.str_], *, n_splits: int, seed: int
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    from sklearn.model_selection import StratifiedKFold

    _check_integer("n_splits", n_splits, minimum=2)
    _check_integer("seed", seed, minimum=0)
    most = int(np.unique(names, return_counts=True)[1].max())
    if most < n_splits:
        raise UserError(
            f"Cannot cut into {n_splits} folds: the most abundant label has {most} "
            f"cell{'s' if most > 1 else ''}. Ask for fewer folds (n_splits) or use more cells."
        )
    with warnings.catch_warnings():
        # Labels with fewer cells than folds are expected in such data; see the docstring of kfold.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        folds = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
        return list(folds.split(np.zeros(len(names)), names))


def _labels_to_hide(
    names: NDArray[np.str_], *, labels: Sequence[str] | Literal["all"] | None, n_labels: int | None
) -> list[str]:
    if labels is not None and n_labels is not None:
        raise UserError("unseen_label: give labels or n_labels, not both.")
    present = np.unique(names).tolist()
    if labels is None:
        hidden = _spread(names, DEFAULT_UNSEEN_LABELS if n_labels is None else n_labels)
    elif labels == "all":
        hidden = present
    else:
        hidden = _strings(labels, "labels", present)
    for name in hidden:
        if name not in present:
            raise UnknownNameError("label", name, present)
    return hidden


def _spread(names: NDArray[np.str_], n_labels: int) -> list[str]:
    _check_integer("n_labels", n_labels, minimum=1)
    present, n_cells = np.unique(names, return_counts=True)
    ranked = [present[i] for i in np.lexsort((present, -n_cells)) if n_cells[i] >= MIN_UNSEEN_CELLS]
    if n_labels > len(ranked):
        raise UserError(
            f"unseen_label: {n_labels} labels to hide, but only {len(ranked)} of {len(present)} labels have "
            f"at least {MIN_UNSEEN_CELLS} cells. Ask for fewer (n_labels) or name them (labels, --unseen)."
        )
    return [str(ranked[(2 * i + 1) * len(ranked) // (2 * n_labels)]) for i in range(n_labels)]


def _fold_numbers(folds: Sequence[int], *, n_splits: int) -> list[int]:
    if isinstance(folds, str | int) or not folds:
        raise UserError(f"folds must be a list of fold numbers, got: {folds!r}.")
    for number in folds:
        _check_integer("folds", number, minimum=1)
        if number > n_splits:
            raise UserError(f"There is no fold {number}: folds are numbered from 1 to {n_splits}.")
    return list(dict.fromkeys(folds))


def _hide(
    names: NDArray[np.str_],
    unseen: tuple[str, ...],
    train: NDArray[Any],
    test: NDArray[Any],
    *,
    n_splits: int,
    number: int,
    seed: int,
) -> Split:
    is_hidden = np.isin(names[train], unseen)
    _check_known(names[train[~is_hidden]], unseen, "unseen_label")
    # The only cell of a type can be in the test fold: no training cell has that type, and it is not hidden.
    test = test[np.isin(names[test], [*names[train], *unseen])]
    return _split(
        f"unseen-{n_splits}-{seed}",
        f"{'+'.join(map(_id, unseen))}.{number}",
        "unseen_label",
        train[~is_hidden],
        np.concatenate([test, train[is_hidden]]),
        unseen=unseen,
        seed=seed,
    )


def _check_known(names: NDArray[np.str_], unseen: tuple[str, ...], kind: str) -> None:
    known = np.unique(names)
    if len(known) < MIN_KNOWN_LABELS:
        without = "', '".join(unseen)
        raise UserError(
            f"{kind}: without '{without}' the training cells have {len(known)} "
            f"label{'' if len(known) == 1 else 's'}; at least {MIN_KNOWN_LABELS} are needed to learn from."
        )


def _batches(names: NDArray[np.str_], kind: str) -> list[str]:
    batches: list[str] = np.unique(names).tolist()
    if len(batches) < 2:
        raise UserError(
            f"{kind} needs at least 2 batches, these data have one ('{batches[0]}'). "
            "Name the column of the batches (batch key) or use another split, such as kfold."
        )
    return batches


def _names(values: ArrayLike, what: str) -> NDArray[np.str_]:
    names = np.asarray(values)
    if names.ndim != 1 or not len(names):
        raise UserError(f"Expected one {what} per cell, got an array of shape {names.shape}.")
    return label_names(names)


def _strings(values: Sequence[str], option: str, known: list[str]) -> list[str]:
    # A string is a sequence of letters, which is never intended.
    is_list = not isinstance(values, str) and all(isinstance(value, str) for value in values)
    names = among(values, known) if is_list else []
    if not names:
        raise UserError(f"{option} must be a list of at least one name, got: {values!r}.")
    return [label_name(name) for name in names]


def _check_integer(option: str, value: object, *, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise UserError(f"{option} must be a whole number of at least {minimum}, got: {value!r}.")


def _id(name: str) -> str:
    # Ids become file names: characters that a path cannot contain are written as %XX.
    return re.sub(r"[/\\%\x00-\x1f]", lambda hit: f"%{ord(hit.group()):02X}", name)
