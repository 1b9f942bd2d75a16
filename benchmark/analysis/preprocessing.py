"""How much of a score is preprocessing: each method at its settings, and two methods at equal ones.

Rows at other settings than the default are not ranked. The best setting of a method is chosen on the very
scores that it is shown with, so that it is too good: it is exploratory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, method_key
from cellular_bench.benchmark.schema.records import DatasetIdentity, MethodIdentity
from cellular_bench.core.genes import selection_at
from cellular_bench.core.types import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class AtSettings:
    """A method on a board: its row at the default setting, and those at others."""

    default: BoardRow
    others: tuple[BoardRow, ...]

    @property
    def scores(self) -> dict[str, float]:
        """Overall score of each complete row, by the ``method_key`` of the row; the default comes first."""
        return {
            method_key(row.method): row.overall.mean
            for row in (self.default, *self.others)
            if row.incomplete_because is None and row.overall.mean is not None
        }

    @property
    def best(self) -> BoardRow | None:
        """The complete row with the highest score, the default among equals; None without any."""
        scores = self.scores
        rows = {method_key(row.method): row for row in (self.default, *self.others)}
        return rows[max(scores, key=lambda key: scores[key])] if scores else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """By how much one method is better than another: each at its default setting, and both at equal ones.

    ``at_equal`` has the difference at each setting that both have, as :func:`effective` describes it.
    """

    better: BoardRow
    other: BoardRow
    at_default: float
    at_equal: Mapping[Preprocessing, float]

    @property
    def mean_at_equal(self) -> float:
        """Mean difference over the equal settings."""
        return fmean(self.at_equal.values())

    @property
    def share_remaining(self) -> float:
        """Mean difference at equal settings as a share of that at the default ones."""
        return self.mean_at_equal / self.at_default


def at_settings(board: Board) -> tuple[AtSettings, ...]:
    """Return the methods of a board that have rows at other settings, in the order of the board."""
    others: dict[str, list[BoardRow]] = {}
    for row in board.settings:
        name = row.method.base_name
        default = row.method.model_copy(update={"preprocessing": None, "name": name})
        others.setdefault(method_key(default), []).append(row)
    return tuple(
        AtSettings(default=row, others=tuple(others[key]))
        for row in board.rows
        if (key := method_key(row.method)) in others
    )


def effective(method: MethodIdentity, dataset: DatasetIdentity) -> Preprocessing | None:
    """Return all that a method works on, whether by default, by a setting or by itself.

    None for results that were computed elsewhere, and for records of versions that did not say whether a
    method scales genes.
    """
    if dataset.gene_selection is None or method.scaling is None:
        return None
    setting = method.preprocessing or Preprocessing()
    chosen = selection_at(dataset.gene_selection, setting)
    is_all = method.features == "all"
    return Preprocessing(
        genes="all" if is_all else chosen.n_top_genes,
        flavor=None if is_all else chosen.flavor,
        scale=method.scaling == "own" or bool(setting.scale),
    )


def in_words(setting: Preprocessing) -> str:
    """Return an effective setting in words.

    Examples
    --------
    >>> in_words(Preprocessing(genes=2000, flavor="seurat", scale=True))
    '2000 seurat scaled'
    """
    genes = "all genes" if setting.genes == "all" else str(setting.genes)
    return " ".join(filter(None, (genes, setting.flavor, "scaled" if setting.scale else "")))


def gaps(board: Board) -> tuple[Gap, ...]:
    """Compare ranked methods of one track whose default settings differ, the largest difference first.

    Methods without a common setting are not compared.
    """
    found = []
    for first, second in combinations(at_settings(board), 2):
        if first.default.rank is None or second.default.rank is None:
            continue
        if first.default.track != second.default.track:
            continue
        better, other = sorted((first, second), key=lambda one: -(one.default.overall.mean or 0.0))
        mine, theirs = _by_setting(better, board.dataset), _by_setting(other, board.dataset)
        defaults = [effective(one.default.method, board.dataset) for one in (better, other)]
        common = [setting for setting in mine if setting in theirs]
        at_default = (better.default.overall.mean or 0.0) - (other.default.overall.mean or 0.0)
        if None not in defaults and defaults[0] != defaults[1] and common and at_default > 0:
            at_equal = {setting: mine[setting] - theirs[setting] for setting in common}
            found.append(
                Gap(better=better.default, other=other.default, at_default=at_default, at_equal=at_equal)
            )
    return tuple(sorted(found, key=lambda gap: -gap.at_default))


def _by_setting(method: AtSettings, dataset: DatasetIdentity) -> dict[Preprocessing, float]:
    rows = {method_key(row.method): row for row in (method.default, *method.others)}
    found = {key: effective(rows[key].method, dataset) for key in method.scores}
    return {setting: method.scores[key] for key, setting in found.items() if setting is not None}
