"""Boards to tables: every cell as text, with what sorts it, shades it and explains it.

Nothing here knows HTML: the page and the Markdown file are written from the same tables.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    Row,
    Track,
    is_transductive,
    method_key,
    over_units,
    scaled,
    split_scores,
)
from cellular_bench.benchmark.analysis.scales import Scale, UnitAspects
from cellular_bench.benchmark.analysis.statistics import SplitScore, half_width, interval
from cellular_bench.benchmark.schema.records import LabelScore, MethodIdentity, RunRecord
from cellular_bench.core.types import MetricSpec, aspect_title
from cellular_bench.reports.tables.model import (
    TRANSDUCTIVE,
    Cell,
    Column,
    Group,
    Line,
    Notes,
    Table,
    bounds,
    number,
    score_cell,
)

#: Title and meaning of each group of rows, in the order in which they are shown.
GROUPS: Mapping[str, tuple[str, str]] = {
    "unsupervised": ("Unsupervised", "saw no labels"),
    "supervised": ("Supervised", "saw the labels of training cells only"),
    "sees scored labels": ("Sees scored labels", "was shown labels that it is scored on: not a fair ranking"),
    "control": ("Controls", "mark the ends of the scale; not ranked"),
    "incomplete": ("Incomplete", "not ranked; means are over the runs that have a value"),
}


#: Tracks whose rows are ranked.
RANKED: tuple[Track, ...] = ("unsupervised", "supervised", "sees scored labels")


def method_anchor(method: MethodIdentity) -> str:
    """Return the ``id`` of a method's entry on the page; other parameters make another entry."""
    digest = hashlib.sha256(method_key(method).encode()).hexdigest()[:8]
    return f"method-{method.method_id}-{digest}"


def display_names(board: Board) -> dict[str, tuple[str, str]]:
    """Map each row's ``method_key`` to its name and to what tells it from rows of the same name."""
    same: dict[str, list[Row]] = defaultdict(list)
    for row in board.rows:
        same[row.method.name].append(row)
    names = {}
    for name, rows in same.items():
        settings = [_settings(row) for row in rows]
        keys = sorted({key for setting in settings for key in setting})
        varying = [key for key in keys if len({setting.get(key, "default") for setting in settings}) > 1]
        for row, setting in zip(rows, settings, strict=True):
            detail = ", ".join(f"{key}={setting.get(key, 'default')}" for key in varying)
            names[method_key(row.method)] = (name, detail)
    return names


def _settings(row: Row) -> dict[str, str]:
    identity = row.method.model_dump(mode="json")
    params: dict[str, Any] = identity.pop("params")
    packages: dict[str, str] = identity.pop("packages")
    told = {**identity, **packages, **params}
    return {key: json.dumps(value, sort_keys=True) for key, value in told.items()}


def metrics_table(board: Board) -> Table:
    """Return every metric of each method, by aspect."""
    notes = Notes()
    order = list(dict.fromkeys([*board.weights, *(spec.aspect for spec in board.metrics)]))
    specs = sorted(board.metrics, key=lambda spec: order.index(spec.aspect))
    names = display_names(board)

    def cells(row: Row) -> tuple[Cell, ...]:
        full = " ".join(names[method_key(row.method)]).strip()
        out = []
        for spec in specs:
            summary = row.metrics[spec.metric_id]
            share = None if summary.mean is None else scaled(spec, summary.mean)
            cell = score_cell(summary, len(row.runs), share, (notes, full, spec.name))
            out.append(replace(cell, approximate=approximate(row.done, spec.metric_id)))
        return tuple(out)

    groups = grouped(board, cells)
    return Table(
        table_id=f"{board.board_id}-metrics",
        kind="metrics",
        title="Every metric",
        caption="Raw values, mean ± standard deviation. The stronger the blue, the closer to the best end "
        "of the metric's own range.",
        columns=tuple(_metric_column(spec) for spec in specs),
        groups=groups,
        notes=notes.all(len(specs)),
    )


def approximate(runs: Iterable[RunRecord], metric_id: str) -> str:
    """Say what shortcuts a metric's values rest on, with their standard error; empty where all are exact."""
    parts: dict[str, None] = {}
    errors = []
    for run in runs:
        shortcuts = run.evaluation.shortcuts if run.evaluation else ()
        parts |= {found.description: None for found in shortcuts if metric_id in found.metric_ids}
        errors += [s.standard_error for s in run.scores if s.metric_id == metric_id and s.standard_error]
    if errors:
        parts[f"Standard error {max(errors):.2g}."] = None
    return " ".join(parts)


def _metric_column(spec: MetricSpec) -> Column:
    extra = "" if spec.in_overall else " Not part of the overall score."
    arrow = "" if spec.higher_is_better else " ↓"
    return Column(
        title=spec.name + arrow,
        hint=f"{spec.minimum:g} to {spec.maximum:g}, "
        f"{'higher' if spec.higher_is_better else 'lower'} is better.{extra}",
        group=aspect_title(spec.aspect),
        best="high" if spec.higher_is_better else "low",
    )


def labels_table(board: Board) -> Table | None:
    """Return the F1 score of each label and method; None where no run has per-label results."""
    support = _support([run for row in board.rows for run in row.runs if run.per_label])
    if not support:
        return None
    notes = Notes()
    names = display_names(board)

    def cells(row: Row) -> tuple[Cell, ...]:
        full = " ".join(names[method_key(row.method)]).strip()
        found = [{score.label: score for score in run.per_label} for run in row.runs]
        return tuple(
            _label_cell(row.runs, [scores.get(label) for scores in found], (notes, full, label))
            for label in support
        )

    groups = grouped(board, cells)
    return Table(
        table_id=f"{board.board_id}-labels",
        kind="labels",
        title="F1 score of each label",
        caption="Mean ± standard deviation over the runs in which scored cells have the label: the same runs "
        "for every method. Under each label, the mean number of its scored cells per run.",
        columns=tuple(
            Column(title=label, hint=f"{_count(mean)} scored cells per run on average", group=_count(mean))
            for label, mean in support.items()
        ),
        groups=groups,
        notes=notes.all(len(support)),
    )


def _support(runs: Sequence[RunRecord]) -> dict[str, float]:
    """Return the mean number of scored cells of each label, the most frequent label first.

    A run lists the labels that its cells have or were given; of any other it has no cell.
    """
    totals: Counter[str] = Counter()
    for run in runs:
        for score in run.per_label:
            totals[score.label] += score.support
    means = {label: total / len(runs) for label, total in totals.items()}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))


def _count(mean: float) -> str:
    """Write a mean number of cells; below ten, a fraction is told."""
    return f"{mean:,.0f}" if mean >= 10 or mean.is_integer() else f"{mean:.2g}"


def _label_cell(
    runs: Sequence[RunRecord], scores: Sequence[LabelScore | None], place: tuple[Notes, str, str]
) -> Cell:
    """Write the mean F1 score of a label over the runs of a row whose scored cells have it.

    Elsewhere it is 0 for who gives the name once and undefined for who does not: means would be over
    other runs for each method.
    """
    values: list[float | None] = []
    reasons: list[str | None] = []
    for run, score in zip(runs, scores, strict=True):
        counts = score is not None and score.support > 0
        values.append(score.f1 if score is not None and counts else None)
        reasons.append(None if counts else _why_no_label(run))
    summary = over_units(runs, values, reasons)
    return score_cell(summary, len(runs), summary.mean, place)


def _why_no_label(run: RunRecord) -> str:
    if run.status != "ok":
        return f"run {run.status.replace('_', ' ')}: {run.reason}"
    return "no scored cell has this label" if run.per_label else "no scores by label"


def grouped(board: Board, cells: Callable[[Row], tuple[Cell, ...]]) -> tuple[Group, ...]:
    """Put the rows of a board into their groups; incomplete rows come last, whatever their track."""
    names = display_names(board)
    lines: dict[str, list[Line]] = defaultdict(list)
    for row in board.rows:
        key = row.track if row.incomplete_because is None else "incomplete"
        lines[key].append(_line(row, board, names[method_key(row.method)], cells(row)))
    return tuple(
        Group(key=key, title=title, meaning=meaning, lines=tuple(lines[key]))
        for key, (title, meaning) in GROUPS.items()
        if lines[key]
    )


def _line(row: Row, board: Board, name: tuple[str, str], cells: tuple[Cell, ...]) -> Line:
    badges = ["control"] if row.track == "control" else []
    if row.incomplete_because is not None and row.track != "control":
        badges.append(row.track)
    if is_transductive(row.runs[0]):
        badges.append(TRANSDUCTIVE)
    if row.method.is_reimplementation:
        badges.append("reimplementation")
    return Line(
        name=name[0],
        method_id=row.method.method_id,
        anchor=method_anchor(row.method),
        detail=name[1],
        track=row.track,
        badges=tuple(badges),
        remark=row.incomplete_because or outside_controls(row, board),
        cells=cells,
    )


def units_in_words(board: Board) -> str:
    """Say what intervals and tests of a board are over; see ``leaderboard.unit_of``."""
    return "held-out labels" if board.splits[0].unseen_labels else "splits"


def transductive_in_words(board: Board) -> str:
    """Say what the mark of transductive methods means; empty where no row has it."""
    if not any(is_transductive(row.runs[0]) for row in board.rows):
        return ""
    return "Transductive methods embed the scored cells on their own; others learn from training cells."


def outside_controls(row: Row, board: Board) -> str:
    """Say where a complete method scores outside the range of the controls; empty where it does not."""
    ends = [r.overall.mean for r in board.rows if r.track == "control" and r.incomplete_because is None]
    found = [end for end in ends if end is not None]
    if row.track == "control" or row.overall.mean is None or len(found) < 2:
        return ""
    if row.overall.mean > max(found):
        return "above every control"
    return "below every control" if row.overall.mean < min(found) else ""


def scales_json(row: Row, scales: Mapping[Scale, Sequence[UnitAspects]]) -> str:
    """Write the aspect scores of a row on every scale for the page's script; see ``Line.scales``."""
    told = {}
    for scale, units in scales.items():
        scores = [SplitScore(split_id=one.unit, value=0.0, overlap=one.overlap) for one in units]
        known = len(scores) > 1 and row.incomplete_because is None
        half = round(half_width(scores), 6) if known else None
        told[scale] = {"half": half, "units": [[round(value, 7) for value in one.aspects] for one in units]}
    return json.dumps(told, separators=(",", ":"))


def overall_spread(row: Row) -> str:
    """Write the confidence interval of a complete row over splits, else the deviation of its runs."""
    scores = split_scores(row)
    if row.incomplete_because is None and len(scores) > 1:
        found = interval(scores)
        assert found.low is not None and found.high is not None  # there are two splits
        return bounds(found.low, found.high)
    return "" if row.overall.std is None else f"± {number(row.overall.std)}"
