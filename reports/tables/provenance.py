"""What the numbers of a report come from: data sets, splits, environments, warnings, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from cellular_bench.benchmark.analysis.data_versions import version_names, versioned
from cellular_bench.benchmark.schema.records import (
    DatasetIdentity,
    Environment,
    Missing,
    RunRecord,
    SplitIdentity,
)
from cellular_bench.core.sizes import in_words
from cellular_bench.metrics.profiles import LIMITS_OF_DATA
from cellular_bench.reports.tables.formatting import plural
from cellular_bench.reports.tables.model import Cell, Table, TableRow, columns, count_cell, doi_cell
from cellular_bench.reports.tables.overview import SPLIT_TITLES

NOT_STATED: Final = Cell("not stated")


def missing_table(absent: Sequence[Missing]) -> Table | None:
    """Return what the suite asks for and was not there to be run; None if nothing is missing."""
    if not absent:
        return None
    return Table(
        table_id="missing",
        title="Missing from this suite",
        caption="What the suite asks for and was not available, and the rows that are absent for it.",
        head="What",
        columns=columns("wide", "Why", "How to get it", "Rows"),
        rows=tuple(
            TableRow(
                one.name, (Cell(one.reason), Cell(one.remedy), Cell("; ".join(one.rows))), detail=one.kind
            )
            for one in absent
        ),
    )


def datasets_table(records: Sequence[RunRecord]) -> Table:
    """Return the data sets of the runs, with their sizes and sources."""
    datasets = {(run.dataset.dataset_id, run.dataset.digest): run.dataset for run in records}
    return Table(
        table_id="datasets",
        title="Data sets",
        caption="What the methods ran on. The digest covers everything that a method or a metric can see.",
        head="Data set",
        columns=(
            *columns("number", "Cells", "Genes", "Batches", "Labels"),
            *columns("code", "Digest"),
            *columns("text", "Source", "Licence"),
        ),
        rows=tuple(_dataset_row(datasets[key]) for key in sorted(datasets)),
    )


def _dataset_row(data: DatasetIdentity) -> TableRow:
    drawn = data.subsample
    part = f"of {drawn['of']:,}, drawn with seed {drawn['seed']}" if drawn else ""
    counts = (count_cell(n) for n in (data.n_vars, data.n_batches, data.n_labels))
    sizes = (Cell(f"{data.n_obs:,}", detail=part), *counts) if data.n_obs else (NOT_STATED,) * 4
    origin = (doi_cell(data.doi), Cell(data.license) if data.license else NOT_STATED)
    detail = f"{data.dataset_id}, recipe {data.recipe['name']}" if data.recipe else data.dataset_id
    return TableRow(data.title, (*sizes, _digest_cell(data.digest), *origin), detail=detail)


def _digest_cell(digest: str) -> Cell:
    return Cell(digest[:12], reason=digest)


def splits_table(records: Sequence[RunRecord]) -> Table:
    """Return the splits of each data set, and the seeds that were run on them."""
    names = version_names(run.dataset for run in records)
    splits: dict[tuple[str, ...], SplitIdentity] = {}
    seeds: dict[tuple[str, ...], set[int]] = {}
    for run in records:
        data = versioned(run.dataset.dataset_id, names[run.dataset.dataset_id, run.dataset.digest])
        key = (data, run.split.kind, run.split.split_id, run.split.digest)
        splits[key] = run.split
        seeds.setdefault(key, set()).add(run.seed)
    return Table(
        table_id="splits",
        title="Splits and seeds",
        caption="Which cells methods were trained on, and which were scored.",
        head="Data set",
        columns=(
            *columns("text", "Split", "Kind"),
            *columns("number", "Training cells", "Scored cells"),
            *columns("text", "Labels held out", "Seed of the split", "Seeds of the runs"),
            *columns("code", "Digest"),
        ),
        rows=tuple(TableRow(key[0], _split_cells(splits[key], seeds[key])) for key in sorted(splits)),
    )


def _split_cells(split: SplitIdentity, seeds: set[int]) -> tuple[Cell, ...]:
    return (
        Cell(split.split_id),
        Cell(SPLIT_TITLES[split.kind]),
        count_cell(split.n_train),
        count_cell(split.n_test),
        Cell(", ".join(split.unseen_labels) or "none"),
        Cell("none" if split.seed is None else str(split.seed)),
        Cell(", ".join(map(str, sorted(seeds)))),
        _digest_cell(split.digest),
    )


def environments_table(records: Sequence[RunRecord]) -> Table:
    """Return the environments of the runs, the most frequent first."""
    counts = Counter(run.environment.model_dump_json() for run in records)
    return Table(
        table_id="environments",
        title="Environments",
        caption="Where the runs took place.",
        head="Platform",
        columns=(*columns("number", "Runs"), *columns("text", "Python", "Processor", "Commit", "Packages")),
        rows=tuple(
            _environment_row(Environment.model_validate_json(text), n) for text, n in counts.most_common()
        ),
    )


def _environment_row(env: Environment, n_runs: int) -> TableRow:
    threads = f"{env.n_cpus} CPUs, {plural(env.n_threads, 'thread')} per run" if env.n_cpus else ""
    commit = env.git_commit[:12] if env.git_commit else "not in a repository"
    versions = tuple(f"{name} {version}" for name, version in sorted(env.packages.items()))
    cells = (
        count_cell(n_runs),
        Cell(env.python),
        Cell(env.cpu, detail=threads),
        Cell(commit, detail="with uncommitted changes" if env.git_dirty else ""),
        Cell(plural(len(versions), "package"), fold=("Versions", versions)),
    )
    return TableRow(env.platform, cells)


def warnings_table(records: Sequence[RunRecord]) -> Table | None:
    """Return the warnings of the runs; None if there are none."""
    names = version_names(run.dataset for run in records)
    counts = Counter(
        (versioned(run.dataset.title, names[run.dataset.dataset_id, run.dataset.digest]), text)
        for run in records
        for text in (
            *run.warnings,
            *(f"{run.method.name}: {note}" for note in run.notes),
            *_left_out(run),
            *_limits(run),
        )
    )
    if not counts:
        return None
    return Table(
        table_id="warnings",
        title="Warnings",
        caption="What is worth knowing about the data, and about what methods returned.",
        head="Data set",
        columns=(*columns("wide", "Warning"), *columns("number", "Runs")),
        rows=tuple(TableRow(name, (Cell(text), count_cell(n))) for (name, text), n in sorted(counts.items())),
    )


def _left_out(run: RunRecord) -> Iterator[str]:
    """Say which small batches metrics left out."""
    found = {in_words(score.left_out) for score in run.scores if score.left_out}
    for names in sorted(found):
        yield f"Metrics that read batches leave out those with few scored cells: {names}."


def _limits(run: RunRecord) -> Iterator[str]:
    """Say which metrics are limited by the data, and how."""
    for one in run.evaluation.shortcuts if run.evaluation else ():
        if one.quantity in LIMITS_OF_DATA:
            yield f"{', '.join(one.metric_ids)}: {one.description}"


#: Every table of runs. To add one, write its function and name it here.
RUN_TABLES: Final = (datasets_table, splits_table, environments_table, warnings_table)
