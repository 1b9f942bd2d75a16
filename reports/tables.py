"""Boards to tables: every cell as text, with what sorts it, shades it and explains it.

Nothing here knows HTML: the page and the Markdown file are written from the same tables.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from cellular_bench.benchmark.leaderboard import (
    Board,
    Row,
    Summary,
    aspect_scores,
    method_key,
    scaled,
    summarise,
)
from cellular_bench.benchmark.records import LabelScore, RunRecord
from cellular_bench.benchmark.types import Aspect, MetricSpec
from cellular_bench.reports.cells import (
    MISSING,
    Cell,
    Column,
    Group,
    Line,
    Notes,
    Table,
    cost_cell,
    score_cell,
)

ASPECT_TITLES: Mapping[Aspect, str] = {
    "batch_correction": "Batch correction",
    "bio_conservation": "Bio conservation",
    "annotation": "Annotation",
    "novelty": "Novelty",
}

#: Title and meaning of each group of rows, in the order in which they are shown.
GROUPS: Mapping[str, tuple[str, str]] = {
    "unsupervised": ("Unsupervised", "saw no labels"),
    "supervised": ("Supervised", "saw the labels of training cells only"),
    "sees scored labels": ("Sees scored labels", "was shown labels that it is scored on: not a fair ranking"),
    "control": ("Controls", "mark the ends of the scale; not ranked"),
    "incomplete": ("Incomplete", "not ranked; means are over the runs that have a value"),
}


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
    return {key: json.dumps(value, sort_keys=True) for key, value in {**identity, **params}.items()}


def ranking_table(board: Board) -> Table:
    """Return rank, overall, aspects, coverage and cost of each method."""
    notes = Notes()
    aspects = tuple(board.rows[0].aspects)
    columns = [
        Column(title="Rank", hint="Place among the complete rows of the same track", best="low", key="rank"),
        Column(title="Overall", hint="Weighted mean of the aspect scores, 0 to 1", key="overall"),
        *(
            Column(title=ASPECT_TITLES[aspect], hint="Mean of the aspect's metrics, each scaled to 0 ... 1")
            for aspect in aspects
            if len(aspects) > 1
        ),
        Column(title="Runs", hint="Runs with scores, of all runs"),
        Column(title="Wall time, s", hint="Mean per run, training and prediction", best="low"),
        Column(title="CPU time, s", hint="Mean per run", best="low"),
        Column(title="Peak memory, MiB", hint="Largest resident memory of the process tree", best="low"),
    ]
    names = display_names(board)

    def cells(row: Row) -> tuple[Cell, ...]:
        full = " ".join(names[method_key(row.method)]).strip()
        done, planned = row.coverage
        share = row.overall.mean
        out = [Cell(text=str(row.rank) if row.rank else MISSING, sort=row.rank, reason=_unranked(row))]
        out.append(_plain_score(row.overall, done, share, row, (notes, full, "overall")))
        if len(aspects) > 1:
            for aspect in aspects:
                summary = row.aspects[aspect]
                place = (notes, full, ASPECT_TITLES[aspect])
                out.append(_plain_score(summary, done, summary.mean, row, place))
        out.append(Cell(text=f"{done} of {planned}", sort=done / planned))
        out += [cost_cell(cost) for cost in (row.wall_time_s, row.cpu_time_s, row.peak_rss_mib)]
        return tuple(out)

    groups = grouped(board, cells)
    return Table(
        table_id=f"{board.board_id}-ranking",
        kind="ranking",
        title="Ranking",
        caption="Mean ± standard deviation over splits and seeds. Ranked within each track.",
        columns=tuple(columns),
        groups=groups,
        notes=notes.all(1 + len(aspects) if len(aspects) > 1 else 1),
    )


def _plain_score(
    summary: Summary, done: int, share: float | None, row: Row, place: tuple[Notes, str, str]
) -> Cell:
    """Write an overall or aspect score; a missing one has the row's reason."""
    if summary.n < done or summary.mean is None:
        reason = row.incomplete_because or "a metric is missing"
        summary = Summary(mean=summary.mean, std=summary.std, n=summary.n)
        cell = score_cell(summary, done, share, place)
        note = place[0].number(reason, place[1], place[2])
        return replace(cell, note=note, reason=reason)
    return score_cell(summary, done, share, place)


def _unranked(row: Row) -> str:
    if row.rank:
        return ""
    return row.incomplete_because or "controls are not ranked"


def metrics_table(board: Board) -> Table:
    """Return every metric of each method, by aspect."""
    notes = Notes()
    order = {aspect: place for place, aspect in enumerate(ASPECT_TITLES)}
    specs = sorted(board.metrics, key=lambda spec: order[spec.aspect])
    names = display_names(board)

    def cells(row: Row) -> tuple[Cell, ...]:
        full = " ".join(names[method_key(row.method)]).strip()
        out = []
        for spec in specs:
            summary = row.metrics[spec.metric_id]
            share = None if summary.mean is None else scaled(spec, summary.mean)
            out.append(score_cell(summary, len(row.runs), share, (notes, full, spec.name)))
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


def _metric_column(spec: MetricSpec) -> Column:
    extra = "" if spec.in_overall else " Not part of the overall score."
    arrow = "" if spec.higher_is_better else " ↓"
    return Column(
        title=spec.name + arrow,
        hint=f"{spec.minimum:g} to {spec.maximum:g}, "
        f"{'higher' if spec.higher_is_better else 'lower'} is better.{extra}",
        group=ASPECT_TITLES[spec.aspect],
        best="high" if spec.higher_is_better else "low",
    )


def labels_table(board: Board) -> Table | None:
    """Return the F1 score of each label and method; None where no run has per-label results."""
    scores = {method_key(row.method): _label_scores(row.runs) for row in board.rows}
    support = _support(run for row in board.rows for run in row.runs)
    if not support:
        return None
    notes = Notes()
    names = display_names(board)

    def cells(row: Row) -> tuple[Cell, ...]:
        full = " ".join(names[method_key(row.method)]).strip()
        found = scores[method_key(row.method)]
        return tuple(_label_cell(found.get(label, []), (notes, full, label)) for label in support)

    groups = grouped(board, cells)
    return Table(
        table_id=f"{board.board_id}-labels",
        kind="labels",
        title="F1 score of each label",
        caption="Mean ± standard deviation over the runs where it is defined; under each label, the mean "
        "number of scored cells per run.",
        columns=tuple(
            Column(title=label, hint=f"{count:,.0f} scored cells per run on average", group=f"{count:,.0f}")
            for label, count in support.items()
        ),
        groups=groups,
        notes=notes.all(len(support)),
    )


def _label_scores(runs: Iterable[RunRecord]) -> dict[str, list[LabelScore]]:
    found: dict[str, list[LabelScore]] = defaultdict(list)
    for run in runs:
        for score in run.per_label:
            found[score.label].append(score)
    return found


def _support(runs: Iterable[RunRecord]) -> dict[str, float]:
    """Return the mean number of scored cells of each label, the most frequent label first."""
    found = _label_scores(runs)
    means = {label: fmean(score.support for score in scores) for label, scores in found.items()}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))


def _label_cell(scores: Sequence[LabelScore], place: tuple[Notes, str, str]) -> Cell:
    reasons = ["neither among the scored cells nor predicted" if s.f1 is None else None for s in scores]
    summary = summarise([score.f1 for score in scores], reasons)
    if not scores:
        summary = Summary(mean=None, std=None, n=0, reasons={"no run with results for this label": 1})
    return score_cell(summary, max(1, len(scores)), summary.mean, place)


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
    if row.method.is_reimplementation:
        badges.append("reimplementation")
    return Line(
        name=name[0],
        method_id=row.method.method_id,
        detail=name[1],
        track=row.track,
        badges=tuple(badges),
        remark=row.incomplete_because or outside_controls(row, board),
        cells=cells,
        aspects=_aspect_pairs(row, board),
    )


def outside_controls(row: Row, board: Board) -> str:
    """Say where a complete method scores outside the range of the controls; empty where it does not."""
    ends = [r.overall.mean for r in board.rows if r.track == "control" and r.incomplete_because is None]
    found = [end for end in ends if end is not None]
    if row.track == "control" or row.overall.mean is None or len(found) < 2:
        return ""
    if row.overall.mean > max(found):
        return "above every control"
    return "below every control" if row.overall.mean < min(found) else ""


def _aspect_pairs(row: Row, board: Board) -> tuple[tuple[float, float], ...]:
    if board.task != "integration":
        return ()
    scores = [aspect_scores(run, board.metrics) for run in row.runs if run.status == "ok"]
    both = [s for s in scores if {"batch_correction", "bio_conservation"} <= s.keys()]
    return tuple((s["batch_correction"], s["bio_conservation"]) for s in both)
