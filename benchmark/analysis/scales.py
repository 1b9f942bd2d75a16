"""Scales for the same metrics: raw, by their own range, between controls, between methods.

The leaderboard ranks by each metric's own range, so that a score depends on its own run alone. The other
scales show how much depends on that choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    marks_scale,
    method_key,
    scaled,
    unit_of,
)
from cellular_bench.core.types import AspectId

Scale = Literal["own", "raw", "controls"]
Scores = NDArray[np.float64]

#: Controls that lie closer than this on a metric's own range mark no scale.
LEAST_CONTROL_RANGE: Final = 0.05
#: Aspects in which no control is made to score high. Their metrics stay on their own range.
WITHOUT_HIGH_CONTROL: Final = frozenset[AspectId]({"structure", "harm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Metrics by their own range, (n_methods, n_runs, n_metrics); NaN where there is no value or no run.

    ``runs`` are digests of splits with seeds; for ``units`` see ``leaderboard.unit_of``.
    """

    array: Scores
    runs: tuple[tuple[str, int], ...]
    units: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitAspects:
    """Aspect scores of a method on one unit, averaged over its runs, in the order of the board's weights.

    An aspect that is left out of the overall score of every run is None.
    """

    unit: str
    overlap: float
    aspects: tuple[float | None, ...]


def own_range(board: Board, rows: Sequence[BoardRow]) -> Values:
    """Return the metrics of the runs that have an overall score, each scaled to 0 ... 1 by its own range."""
    values = every_run(board, rows)
    places = {key: place for place, key in enumerate(values.runs)}
    for i, row in enumerate(rows):
        for run, whole in zip(row.done, row.run_scores, strict=True):
            if whole is None:
                values.array[i, places[run.split.digest, run.seed]] = np.nan
    return values


def every_run(board: Board, rows: Sequence[BoardRow]) -> Values:
    """Return the metrics of rows, each scaled to 0 ... 1 by its own range, also of runs that lack some."""
    units = {
        (run.split.digest, run.seed): unit_of(run.split)
        for row in board.rows
        for run in row.runs
        if run.status == "ok"
    }
    places = {key: place for place, key in enumerate(units)}
    specs = {spec.metric_id: (k, spec) for k, spec in enumerate(board.metrics)}
    array = np.full((len(rows), len(places), len(specs)), np.nan)
    for i, row in enumerate(rows):
        for run in row.done:
            for score in run.scores:
                if score.value is not None and score.metric_id in specs:
                    k, spec = specs[score.metric_id]
                    array[i, places[run.split.digest, run.seed], k] = scaled(spec, score.value)
    return Values(array=array, runs=tuple(units), units=tuple(units.values()))


def raw(board: Board, values: Values) -> Scores:
    """Return the metrics unscaled; those for which lower is better are mirrored within their range."""
    low = np.array([spec.minimum for spec in board.metrics])
    high = np.array([spec.maximum for spec in board.metrics])
    unscaled: Scores = low + values.array * (high - low)
    return unscaled


def by_controls(board: Board, values: Values) -> Scores | None:
    """Return the metrics scaled between the worst (0) and the best (1) control of the same split.

    Values may lie outside. NaN if the controls lie within 0.05 of each other. Metrics of aspects in which no
    control is made to score high keep the scale of their own range; None if there are no others, or fewer
    than two complete controls. Damaged embeddings are no ends (:func:`.marks_scale`).
    """
    controls = [row for row in board.rows if marks_scale(row)]
    if len(controls) < 2 or board.rule.needs <= WITHOUT_HIGH_CONTROL:
        return None
    ends = own_range(board, controls).array
    between = _between(values, ends, least=LEAST_CONTROL_RANGE, every=True)
    own = [spec.aspect in WITHOUT_HIGH_CONTROL for spec in board.metrics]
    between[:, :, own] = values.array[:, :, own]
    return between


def over_methods(values: Values) -> Scores:
    """Return the metrics scaled between the worst (0) and the best (1) of the methods on the same split.

    As the figures of the CELLULAR study do. A score then depends on who else takes part: not for ranking.
    NaN if all methods are equal.
    """
    return _between(values, values.array, least=np.finfo(np.float64).tiny, every=False)


def _between(values: Values, ends: Scores, *, least: float, every: bool) -> Scores:
    """Scale metrics between the lowest and the highest mean of ``ends`` on the same split.

    NaN if these are nearer than ``least``, or, with ``every``, if one of them is missing.
    """
    splits = np.array([digest for digest, _ in values.runs])
    scaled_values = np.full_like(values.array, np.nan)
    for digest in dict.fromkeys(splits):
        here = splits == digest
        means = mean(ends[:, here], axis=1)
        known = np.isfinite(means)
        low = np.where(known, means, np.inf).min(axis=0)
        high = np.where(known, means, -np.inf).max(axis=0)
        usable = (high - low >= least) & (known.all(axis=0) | (not every))
        low, span = np.where(usable, low, np.nan), np.where(usable, high - low, np.nan)
        scaled_values[:, here] = (values.array[:, here] - low) / span
    return scaled_values


def by_aspect(board: Board, array: Scores) -> dict[AspectId, Scores]:
    """Average the metrics of each aspect of the board, run by run: (n_methods, n_runs) each."""
    means = {}
    for aspect in board.weights:
        mine = [spec.in_overall and spec.aspect == aspect for spec in board.metrics]
        means[aspect] = mean(array[:, :, mine], axis=2)
    return means


def overall(
    board: Board, array: Scores, weights: Mapping[AspectId, float], units: Sequence[tuple[str, float]]
) -> Scores:
    """Weigh metrics as the leaderboard does: aspects run by run, then the mean over the units of the runs."""
    return mean_over_units(weighed(by_aspect(board, array), weights), units)


def weighed(aspects: Mapping[AspectId, Scores], weights: Mapping[AspectId, float]) -> Scores:
    """Return the weighted mean of the aspects of each run; those that are NaN are left out of it."""
    counted = {aspect: weight for aspect, weight in weights.items() if weight > 0}
    scores = np.stack([aspects[aspect] for aspect in counted])
    shares = np.array(list(counted.values()))[:, None, None] * np.isfinite(scores)
    known, is_whole = shares.sum(axis=0), np.isfinite(scores).all(axis=0)
    total = (shares * np.where(np.isfinite(scores), scores, 0.0)).sum(axis=0)
    means: Scores = np.full(total.shape, np.nan)
    np.divide(total, np.where(is_whole, 1.0, known), out=means, where=known > 0)
    return means


def mean_over_units(scores: Scores, units: Sequence[tuple[str, float]]) -> Scores:
    """Average (n_methods, n_runs) scores over the runs of each unit, then over units."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, (unit, _) in enumerate(units):
        places[unit].append(place)
    by_unit = np.full((len(scores), len(places)), np.nan)
    for i, runs in enumerate(places.values()):
        by_unit[:, i] = mean(scores[:, runs], axis=1)
    return mean(by_unit, axis=1)


def on_scales(
    board: Board, wanted: Sequence[Scale] = ("own", "raw", "controls")
) -> dict[str, dict[Scale, tuple[UnitAspects, ...]]]:
    """Return the aspect scores of every row on each scale, by ``method_key``.

    A split is left out if no aspect has a score on it; the scale of controls is absent if fewer than two are
    complete.
    """
    values = own_range(board, board.rows)
    ways: Mapping[Scale, Callable[[Board, Values], Scores | None]] = {
        "own": lambda board, values: values.array,
        "raw": raw,
        "controls": by_controls,
    }
    by_method: dict[str, dict[Scale, tuple[UnitAspects, ...]]]
    by_method = {method_key(row.method): {} for row in board.rows}
    for scale in wanted:
        array = ways[scale](board, values)
        if array is not None:
            aspects = np.stack(list(by_aspect(board, array).values()), axis=2)
            for row, scores in zip(board.rows, aspects, strict=True):
                by_method[method_key(row.method)][scale] = _by_unit(values.units, scores)
    return by_method


def _by_unit(units: Sequence[tuple[str, float]], scores: Scores) -> tuple[UnitAspects, ...]:
    """Average (n_runs, n_aspects) scores over the runs of each unit."""
    runs: dict[str, list[int]] = defaultdict(list)
    for place, (unit, _) in enumerate(units):
        if np.isfinite(scores[place]).any():
            runs[unit].append(place)
    return tuple(
        UnitAspects(
            unit=unit,
            overlap=fmean(units[place][1] for place in places),
            aspects=tuple(None if np.isnan(x) else float(x) for x in mean(scores[places], axis=0)),
        )
        for unit, places in sorted(runs.items())
    )


def mean(values: Scores, axis: int) -> Scores:
    """Return the mean of the known values; NaN if all are NaN."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    summed = np.where(known, values, 0.0).sum(axis=axis)
    means: Scores = np.full(summed.shape, np.nan)
    np.divide(summed, count, out=means, where=count > 0)
    return means
