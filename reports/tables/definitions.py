"""The metrics of a report: what they measure, their range and their source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec, aspect_title
from cellular_bench.reports.tables.model import Cell, Remarks, Table, TableRow, columns, doi_cell


def definitions_table(
    boards: Sequence[Board], records: Sequence[RunRecord], specs: Mapping[str, MetricSpec]
) -> Table | None:
    """Return the definition of every metric on the boards, and which scores are of other versions."""
    used = {spec.metric_id for board in boards for spec in board.metrics}
    unknown = {s.metric_id for run in records for s in run.scores if s.metric_id not in specs}
    in_csv = (f"{metric_id}: not a known metric; in scores.csv only" for metric_id in unknown)
    old = sorted((*other_versions(records, specs), *in_csv))
    if not used and not old:
        return None
    return Table(
        table_id="metric-definitions",
        title="Definitions",
        caption="Every metric of this report. Those outside the overall score are shown but not counted.",
        head="Metric",
        columns=(
            *columns("text", "Aspect"),
            *columns("wide", "Definition"),
            *columns("text", "Range", "Better", "In overall", "Version", "Reference"),
        ),
        rows=tuple(TableRow(spec.name, _cells(spec)) for name, spec in specs.items() if name in used),
        remarks=(Remarks(title="Versions that differ", items=tuple(f"{text}." for text in old)),)
        if old
        else (),
    )


def _cells(spec: MetricSpec) -> tuple[Cell, ...]:
    better = "higher" if spec.higher_is_better else "lower"
    limits = f"{spec.minimum:g}\u00a0to\u00a0{spec.maximum:g}".replace("-", "−")  # on one line
    words = (limits, better, "yes" if spec.in_overall else "no", str(spec.version))
    return (Cell(aspect_title(spec.aspect)), Cell(spec.definition), *map(Cell, words), doi_cell(spec.doi))


def other_versions(records: Sequence[RunRecord], specs: Mapping[str, MetricSpec]) -> tuple[str, ...]:
    """List the scores that were computed by another version of a metric than the one described here."""
    versions = {
        (spec.name, score.version, spec.version)
        for run in records
        for score in run.scores
        if (spec := specs.get(score.metric_id)) is not None and spec.version != score.version
    }
    return tuple(
        f"{name}: computed by version {theirs}, described here is version {ours}"
        for name, theirs, ours in sorted(versions)
    )
