"""Rows at other settings of the preprocessing: never ranked, and what of a gap remains at equal settings."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards, under
from cellular_bench.benchmark.analysis.preprocessing import at_settings, effective, gaps, in_words
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec, Preprocessing
from cellular_bench.reports import build_report
from cellular_bench.reports.figures.settings import settings_figure
from cellular_bench.reports.page.page import page
from cellular_bench.reports.tables.method_rows import full_names
from cellular_bench.reports.tables.preprocessing import gap_in_words
from cellular_bench.reports.text.board_json import boards_json
from cellular_bench.reports.text.latex import latex
from cellular_bench.reports.text.markdown_and_csv import leaderboard_csv, markdown, scores_csv

START = datetime(2026, 1, 1, tzinfo=UTC)
SCALED = Preprocessing(scale=True)
FEW = Preprocessing(genes=500)
FEW_SCALED = Preprocessing(genes=500, scale=True)


def run(method, value, setting=None, *, scaling="given", split=0, **changes):
    name = f"{method.title()}, {setting.name}" if setting else method.title()
    fields = {
        "run_id": f"{method}-{setting.name if setting else ''}-{split}",
        "suite_id": "s",
        "task": "harm",
        "method": {
            "method_id": method,
            "name": name,
            "version": 1,
            "features": "hvg",
            "scaling": scaling,
            "preprocessing": setting,
        },
        "dataset": {
            "dataset_id": "toy",
            "title": "Toy",
            "digest": "dd",
            "n_obs": 10,
            "n_vars": 5000,
            "n_batches": 2,
            "n_labels": 2,
        },
        "split": {
            "split_id": f"s{split}",
            "kind": "kfold",
            "digest": f"s{split}",
            "n_train": 8,
            "n_test": 2,
        },
        "seed": 0,
        "status": "ok" if value is not None else "failed",
        "reason": None if value is not None else "broke",
        "scores": [{"metric_id": "asw", "aspect": "harm", "value": value}] if value is not None else [],
        "environment": {
            "python": "3.11",
            "platform": "p",
            "cpu": "c",
            "n_cpus": 1,
            "n_threads": 1,
            "packages": {},
        },
        "started_at": START,
        "finished_at": START + timedelta(seconds=1),
    }
    return RunRecord(**(fields | changes))


SPEC = MetricSpec(metric_id="asw", name="ASW", aspect="harm", function=float, definition="d")
#: Symphony scales genes itself: by default it leads by 0.3, at equal settings by 0.02 and 0.04.
RECORDS = (
    run("harmony", 0.5),
    run("harmony", 0.78, SCALED),
    run("harmony", 0.45, FEW),
    run("harmony", 0.7, FEW_SCALED),
    run("symphony", 0.8, scaling="own"),
    run("symphony", 0.74, FEW, scaling="own"),
    run("pca", 0.3),
    run("pca", 0.4, SCALED),
    run("pca", None, FEW),
)


@pytest.fixture(scope="module")
def board():
    (only,) = build_boards(RECORDS, [SPEC])
    return only


@pytest.fixture(scope="module")
def report():
    return build_report(RECORDS, {"asw": SPEC}, title="Toy")


def test_rows_at_other_settings_have_no_rank_and_change_none(board):
    (bare,) = build_boards([one for one in RECORDS if one.method.preprocessing is None], [SPEC])
    assert [(row.method.name, row.rank) for row in board.rows] == [
        ("Symphony", 1),
        ("Harmony", 2),
        ("Pca", 3),
    ]
    assert board.rows == bare.rows
    assert len(board.settings) == 6
    assert {row.rank for row in board.settings} == {None}
    again = under(board, {"harm": 1.0})
    assert (len(again.rows), len(again.settings)) == (3, 6)


def test_the_best_setting_is_among_complete_rows(board):
    found = {one.default.method.name: one for one in at_settings(board)}
    assert list(found) == ["Symphony", "Harmony", "Pca"]
    assert {name: one.best.method.name for name, one in found.items()} == {
        "Symphony": "Symphony",
        "Harmony": "Harmony, scaled",
        "Pca": "Pca, scaled",
    }
    assert list(found["Harmony"].scores.values()) == [0.5, 0.78, 0.7, 0.45]
    assert list(found["Pca"].scores.values()) == [0.3, 0.4]


def test_what_a_method_works_on_is_what_it_is_given_or_does_itself(board):
    words = {
        row.method.name: in_words(effective(row.method, board.dataset))
        for row in (*board.rows, *board.settings)
    }
    assert words["Symphony"] == words["Harmony, scaled"] == "2000 cell_ranger scaled"
    assert words["Symphony, 500 genes"] == words["Harmony, 500 genes scaled"] == "500 cell_ranger scaled"
    assert words["Harmony"] == words["Pca"] == "2000 cell_ranger"
    old = board.rows[0].method.model_copy(update={"scaling": None})
    assert effective(old, board.dataset) is None


def test_the_gap_at_equal_settings(board):
    first, second = gaps(board)  # Harmony and PCA have the same default setting
    assert (first.better.method.name, first.other.method.name) == ("Symphony", "Pca")
    assert (second.better.method.name, second.other.method.name) == ("Symphony", "Harmony")
    assert second.at_default == pytest.approx(0.3)
    assert {in_words(one): round(gap, 6) for one, gap in second.at_equal.items()} == {
        "2000 cell_ranger scaled": 0.02,
        "500 cell_ranger scaled": 0.04,
    }
    assert second.mean_at_equal == pytest.approx(0.03)
    assert second.share_remaining == pytest.approx(0.1)
    assert gap_in_words(board, second, full_names(board)) == (
        "Of the gap of Symphony (2000 cell_ranger scaled) to Harmony (2000 cell_ranger), 0.300, +0.030 "
        "remains on average at 2 equal settings: 2000 cell_ranger scaled +0.020, 500 cell_ranger scaled "
        "+0.040."
    )


def test_the_page_has_a_fold_with_every_setting_and_the_spread(report):
    text = page(report)
    fold = text[text.index('<details class="fold part">') :]
    fold = fold[: fold.index("</article>")]
    for words in (
        "<summary>Preprocessing</summary>",
        "Default and best setting",
        "it is exploratory",
        "Every setting",
        "500 genes scaled",
        "Gaps at equal settings",
        "Of the gap of Symphony",
        'class="settings"',
        "The widest spread is that of Harmony: 0.330.",
        "1 of 1 runs without scores",
    ):
        assert words in fold, words
    assert "Harmony, scaled" not in text[: text.index('<details class="fold part">')]
    bare = build_report(
        [one for one in RECORDS if one.method.preprocessing is None], {"asw": SPEC}, title="T"
    )
    assert "Preprocessing</summary>" not in page(bare)


def test_files_say_the_setting_of_each_row(report):
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(report.boards))))
    assert [(row["method_id"], row["setting"], row["rank"]) for row in rows[:4]] == [
        ("symphony", "default", "1"),
        ("harmony", "default", "2"),
        ("pca", "default", "3"),
        ("harmony", "scaled", ""),
    ]
    scores = list(csv.DictReader(io.StringIO(scores_csv(report.records))))
    assert {row["setting"] for row in scores if row["method_id"] == "harmony"} == {
        "default",
        "scaled",
        "500 genes",
        "500 genes scaled",
    }
    (found,) = json.loads(boards_json(report))
    assert [row["method"]["preprocessing"] for row in found["rows"]] == [None] * 3
    assert {row["method"]["name"] for row in found["settings"]} >= {"Harmony, scaled", "Pca, 500 genes"}
    titles = [table["title"] for table in found["tables"]]
    assert titles[-3:] == ["Default and best setting", "Every setting", "Gaps at equal settings"]
    assert "fold_title" not in found["tables"][-1]
    assert "### Gaps at equal settings" in markdown(report)
    assert "500 genes scaled" in latex(report)


def test_the_figure_is_the_same_for_the_same_scores(board):
    figure = settings_figure(board)
    assert figure.data == settings_figure(board).data
    assert b"Symphony" in figure.data
    (bare,) = build_boards(RECORDS[:1], [SPEC])
    assert settings_figure(bare) is None


def test_without_a_row_at_the_default_setting_the_others_are_ranked():
    (board,) = build_boards([RECORDS[1], RECORDS[7]], [SPEC])
    assert [(row.method.name, row.rank) for row in board.rows] == [("Harmony, scaled", 1), ("Pca, scaled", 2)]
    assert board.settings == ()


def test_records_of_older_versions_stay_in_their_row():
    old = run("harmony", 0.6, split=1)
    old = old.model_copy(update={"method": old.method.model_copy(update={"scaling": None})})
    (board,) = build_boards([RECORDS[0], old], [SPEC])
    assert [len(row.runs) for row in board.rows] == [2]
