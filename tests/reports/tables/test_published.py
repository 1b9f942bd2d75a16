"""Published scores beside ours: quoted exactly, joined by name, and never where they do not belong."""

import csv
from dataclasses import replace
from statistics import fmean, stdev

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.external.published import PARTS_OF, STUDIES, published_scores
from cellular_bench.benchmark.external.published_comparison import STUDY_ASPECTS, compared
from cellular_bench.benchmark.schema.records import Missing, Score
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.reports import build_report, write
from cellular_bench.reports.report import Report
from cellular_bench.reports.tables.published import published_tables
from cellular_bench.reports.text.published import published_csv, published_markdown


@pytest.fixture
def make_board(make, specs):
    """A board of one method that was scored on one fold."""

    def board(*, dataset_id, method_id, accuracy):
        dataset = make("Any", 1, {}).dataset.model_copy(update={"dataset_id": dataset_id})
        record = make(
            "Any",
            1,
            {"accuracy": accuracy},
            task="annotation",
            dataset=dataset.model_dump(),
            method={"method_id": method_id},
        )
        (built,) = build_boards([record], specs.values())
        return built

    return board


def _report(board, *missing):
    return Report(title="t", records=(), specs={}, boards=(board,), missing=missing)


def _score(dataset_id, method_id, metric_id, *, protocol="annotation", features="hvg"):
    (found,) = [
        score
        for score in published_scores()
        if (score.dataset_id, score.method_id, score.metric_id, score.protocol, score.features)
        == (dataset_id, method_id, metric_id, protocol, features)
    ]
    return found


def test_figures_are_those_of_the_studys_own_files(shared):
    with (shared / "published/annotation/scores_per_fold.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["dataset"], row["method"]) == ("Baron", "scNym")]
    values = [float(row["balanced_accuracy"]) for row in rows]
    score = _score("baron_full", "scnym", "balanced_accuracy", features="all")
    assert score.mean == pytest.approx(fmean(values), abs=1e-6)
    assert score.std == pytest.approx(stdev(values), abs=1e-6)
    assert score.n_folds == len(values) == 5


def test_the_table_that_everybody_quotes():
    assert f"{_score('baron_full', 'cellular', 'balanced_accuracy').mean:.3f}" == "0.980"
    kidney = _score("kidney", "cellular", "overall", protocol="generalisation")
    assert f"{kidney.mean:.3f}" == "0.799"


def test_names_are_ours():
    known = registry.datasets()
    for score in published_scores():
        assert score.dataset_id in known
        assert score.task in TASKS
        assert score.study_id in STUDIES
        assert score.std is None or score.std >= 0
    assert all(whole in known and part in known for part, (whole, _) in PARTS_OF.items())


def test_a_table_has_published_value_ours_and_difference(make_board):
    board = make_board(dataset_id="baron_full", method_id="cellular", accuracy=0.95)
    (table,) = [table for table in published_tables(board) if table.title.endswith("annotation")]
    place = [column.title for column in table.columns].index("Accuracy")
    (accuracy,) = [row.cells[place] for row in table.rows if not row.badges]
    assert (accuracy.text, accuracy.detail) == ("0.987", "± 0.002")
    assert (accuracy.below.text, accuracy.below.below.text) == ("0.950", "−0.037")
    assert (accuracy.below.below.emphasis, accuracy.below.below.reason) == ("strong", "differs")
    not_run = {row.name for row in table.rows if row.badges == ("not run here",)}
    assert len(not_run) == 11
    assert {"TOSICA", "Seurat, all genes", "CellID, groups, highly variable genes"} < not_run


def test_a_part_of_the_published_cells_is_said_to_be_one(make_board):
    board = make_board(dataset_id="baron", method_id="cellular", accuracy=0.98)
    assert all("all 8,569 cells" in table.caption for table in published_tables(board))


def test_other_splits_and_data_have_no_table(make_board):
    board = make_board(dataset_id="baron_full", method_id="cellular", accuracy=0.95)
    assert not published_tables(replace(board, split_kind="all"))
    assert not published_tables(make_board(dataset_id="mine", method_id="cellular", accuracy=0.95))
    assert not published_tables(make_board(dataset_id="baron_full", method_id="mine", accuracy=0.95))


@pytest.fixture
def five_folds(make, specs):
    """Records of one method on the five folds, from its scores per fold."""

    def board(*, dataset_id, method, values, task="annotation", kind="kfold"):
        dataset = make("Any", 1, {}).dataset.model_copy(update={"dataset_id": dataset_id, "n_labels": 14})
        records = []
        for fold, scores in enumerate(values, start=1):
            record = make("Any", fold, {}, task=task, dataset=dataset.model_dump(), method=method)
            found = [Score(metric_id=name, aspect="novelty", value=value) for name, value in scores.items()]
            split = record.split.model_copy(update={"kind": kind})
            records.append(record.model_copy(update={"scores": tuple(found), "split": split}))
        (built,) = build_boards(records, specs.values())
        return built

    return board


def test_genes_decide_which_row_is_compared(five_folds):
    board = five_folds(
        dataset_id="baron_full",
        method={"method_id": "scibet", "name": "SciBet, all genes", "features": "all"},
        values=[{"accuracy": 0.97}],
    )
    ((_, scores),) = compared(board).items()
    here = {(s.published.method_id, s.published.features) for s in scores if s.row}
    assert here == {("scibet", "all")}


def test_agreement_takes_the_spread_over_folds_into_account(five_folds):
    """Published: 0.898 +- 0.013 over folds (Seurat, highly variable genes, Segerstolpe accuracy)."""
    published = _score("segerstolpe", "seurat", "accuracy", features="hvg")
    for shift, std, verdict in (
        (0.015, 0.0, "agrees"),
        (published.std + 0.021, 0.0, "differs"),
        (published.std + 0.021, 0.03, "within spread"),
    ):
        middle = published.mean - shift
        board = five_folds(
            dataset_id="segerstolpe",
            method={"method_id": "seurat", "name": "Seurat", "features": "hvg"},
            values=[{"accuracy": middle - std}, {"accuracy": middle}, {"accuracy": middle + std}],
        )
        ((_, scores),) = compared(board).items()
        (found,) = [s for s in scores if s.row and s.published.metric_id == "accuracy"]
        assert found.difference == pytest.approx(-shift)
        assert found.verdict == verdict
        assert found.is_large == (shift > 0.02)


@pytest.fixture
def part_of_the_folds(make, specs):
    """The published scores of Seurat come out exactly, in two of five folds; the others failed."""
    published = {"accuracy": _score("segerstolpe", "seurat", "accuracy", features="hvg").mean}
    drawn = {"dataset_id": "segerstolpe", "n_obs": 500, "subsample": {"of": 2127, "seed": 0}}
    dataset = make("Any", 1, {}).dataset.model_copy(update=drawn)
    method = {"method_id": "seurat", "name": "Seurat", "features": "hvg"}
    records = []
    for fold in range(5):
        record = make("Any", fold, published, task="annotation", dataset=dataset.model_dump(), method=method)
        lost = {"status": "failed", "reason": "crashed", "scores": ()}
        records.append(record if fold < 2 else record.model_copy(update=lost))
    return records


def test_a_part_of_the_folds_agrees_with_nothing(part_of_the_folds, specs):
    (board,) = build_boards(part_of_the_folds, specs.values())
    ((_, scores),) = compared(board).items()
    (found,) = [s for s in scores if s.row and s.published.metric_id == "accuracy"]
    assert found.difference == pytest.approx(0)
    assert (found.verdict, found.n_runs, found.n_planned) == ("incomplete", 2, 5)
    rows = csv.DictReader(published_csv([board]).splitlines())
    (mine,) = [
        row for row in rows
        if (row["method_id"], row["features"], row["metric_id"]) == ("seurat", "hvg", "accuracy")
    ]  # fmt: skip
    assert [mine[key] for key in ("our_n", "our_n_planned", "verdict")] == ["2", "5", "incomplete"]
    assert "± 0.000 (2 of 5 folds); 0.000 |" in published_markdown(_report(board))


def test_all_folds_of_a_method_that_lacks_another_metric_are_compared(part_of_the_folds, specs):
    """A row may be incomplete for a metric that is not the one compared."""
    first, second = part_of_the_folds[:2]
    other = Score(metric_id="auroc", aspect="annotation", value=None, reason="r", undefined_by="output")
    second = second.model_copy(update={"scores": (*second.scores, other)})
    known = {**specs, "auroc": replace(specs["auroc"], aspect="annotation")}
    (board,) = build_boards([first, second], known.values())
    assert board.rows[0].incomplete_because is not None
    ((_, scores),) = compared(board).items()
    (found,) = [s for s in scores if s.row and s.published.metric_id == "accuracy"]
    assert (found.verdict, found.n_runs, found.n_planned) == ("agrees", 2, 2)


def test_remarks_say_which_cells_and_folds_are_there(part_of_the_folds, specs):
    (board,) = build_boards(part_of_the_folds, specs.values())
    (table,) = published_tables(board)
    assert "here: 5 folds; 500 cells, drawn from 2,127; not prepared" in table.caption
    planned = [
        run.model_copy(update={"split": run.split.model_copy(update={"options": {"n_splits": 5}})})
        for run in part_of_the_folds[:2]
    ]
    (board,) = build_boards(planned, specs.values())
    (table,) = published_tables(board)
    assert "here: 2 of 5 folds; " in table.caption


def test_the_studys_means_are_those_of_its_nine_metrics(five_folds):
    batch, bio = ((name, metrics) for name, (_, metrics) in STUDY_ASPECTS.items())
    scores = dict.fromkeys(batch[1], 0.9) | dict.fromkeys(bio[1], 0.6)
    board = five_folds(
        dataset_id="kidney", method={"method_id": "pca", "name": "PCA"}, values=[scores], task="integration"
    )
    ((_, found),) = compared(board).items()
    ours = {s.published.metric_id: s.ours.mean for s in found if s.row}
    assert ours["batch_correction"] == pytest.approx(0.9)
    assert ours["overall"] == pytest.approx(0.4 * 0.9 + 0.6 * 0.6)
    del scores["pcr_scib"]
    board = five_folds(
        dataset_id="kidney", method={"method_id": "pca", "name": "PCA"}, values=[scores], task="integration"
    )
    ((_, found),) = compared(board).items()
    assert {s.published.metric_id: s.ours.mean for s in found if s.row}["overall"] is None


def test_samples_are_judged_over_all_runs_with_all_types(five_folds):
    """With 14 types a highest probability of 0.3 is a likelihood of 0.246: below 0.25; 0.31 is 0.257."""
    values = [
        {"lowest_confidence_known": known, "lowest_confidence_novel": novel}
        for known, novel in ((0.9, 0.30), (0.30, 0.9), (0.9, 0.31), (0.9, 0.9))
    ]
    board = five_folds(
        dataset_id="baron_full",
        method={"method_id": "cellular", "name": "CELLULAR"},
        values=values,
        task="novelty",
        kind="unseen_label",
    )
    ((_, found),) = compared(board).items()
    ours = {s.published.metric_id: s.ours.mean for s in found}
    judged = [s for s in found if s.published.metric_id.startswith("sample_")]
    assert {s.n_runs for s in judged} == {s.n_planned for s in judged} == {4}
    assert ours["sample_precision_0.25"] == pytest.approx(1 / 2)
    assert ours["sample_coverage_0.25"] == pytest.approx(1 / 4)
    assert ours["sample_precision_0.26"] == pytest.approx(2 / 3)
    assert ours["sample_coverage_0.26"] == pytest.approx(2 / 4)


def test_the_files_hold_every_published_row_with_ours_and_the_difference(make_board):
    board = make_board(dataset_id="baron_full", method_id="cellular", accuracy=0.95)
    rows = list(csv.DictReader(published_csv([board]).splitlines()))
    (mine,) = [
        row for row in rows
        if (row["protocol"], row["method_id"], row["metric_id"]) == ("annotation", "cellular", "accuracy")
    ]  # fmt: skip
    assert float(mine["difference"]) == pytest.approx(0.95 - 0.986813, abs=1e-6)
    assert mine["verdict"] == "differs"
    assert mine["dataset_version"] == "baron_full-f00df00df0"
    assert {row["verdict"] for row in rows if row["method_id"] == "tosica"} == {"missing"}
    absent = Missing(kind="method", name="x", reason="Why.", remedy="Do.", rows=("row",))
    text = published_markdown(_report(board, absent))
    assert "| Any | 0.987 ± 0.002; 0.950; **−0.037** | 0.980 ± 0.011; – |" in text
    assert text.endswith("- missing method x. Why. Do.\n  - row\n")


def test_the_page_says_what_of_the_suite_is_missing(make, specs, tmp_path):
    item = Missing(
        kind="data set",
        name="kidney",
        reason="It is <not> here.",
        remedy="Fetch it.",
        rows=("integration: pca",),
    )
    write(build_report([make("PCA", 1, {"ilisi": 0.5})], specs, title="T", missing=[item]), tmp_path)
    page = (tmp_path / "leaderboard.html").read_text()
    assert "Missing from this suite" in page
    assert "It is &lt;not&gt; here." in page
    assert "integration: pca" in page
    write(build_report([make("PCA", 1, {"ilisi": 0.5})], specs, title="T"), tmp_path)
    assert "Missing from this suite" not in (tmp_path / "leaderboard.html").read_text()


def test_without_published_scores_there_is_nothing_to_write(make_board):
    assert published_markdown(_report(make_board(dataset_id="mine", method_id="mine", accuracy=0.9))) == ""
