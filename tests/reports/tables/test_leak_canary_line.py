"""What a board says of its leak canary."""

from datetime import timedelta

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports.tables.board import board_tables
from cellular_bench.reports.tables.overview import canary_in_words

TRAINED = {"labels": "train"}
CONTROL = {"labels": "all", "is_control": True}
BY_CHANCE = {"a": {"a": 30, "b": 30}, "b": {"a": 30, "b": 30}}
KNOWN = {"a": {"a": 59, "b": 1}, "b": {"a": 1, "b": 59}}
FEW = {"a": {"a": 5}, "b": {"b": 5}}


@pytest.fixture
def board(make, specs):
    """Return a function: a board of annotators, and the confusion of each on its canary or its failure."""

    def board_of(**found):
        records = []
        for place, (name, confusion) in enumerate(found.items()):
            method = CONTROL if name == "Truth" else TRAINED
            common = {"task": "annotation", "method": method}
            run = make(name, 0, {"accuracy": 0.9}, **common)
            of = {"dataset_digest": run.dataset.digest, "scheme": "kfold", "params": {"k": 1}}
            params = run.method.params | (of["params"] if name != "Truth" else {})
            dataset = run.dataset.model_copy(update={"digest": "canary" * 10})
            tested = make(name, 0, {}, **common | {"method": method | {"params": params}}, canary_of=of)
            update = {"dataset": dataset, "run_id": f"canary-{place}", "scores": ()}
            if isinstance(confusion, str):
                update |= {"status": "failed", "reason": confusion}
            else:
                update |= {"confusion": confusion}
            records += [run, tested.model_copy(update=update)]
        (one,) = build_boards(records, specs.values())
        return one

    return board_of


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            {"Knn": BY_CHANCE, "Svm": BY_CHANCE, "Truth": KNOWN},
            "2 methods agree with permuted labels by chance.",
        ),
        (
            {"Knn": BY_CHANCE, "Spy": KNOWN, "Truth": KNOWN},
            "1 method agrees with permuted labels by chance; Spy agrees in 98% (chance 50%): flagged.",
        ),
        (
            {"Knn": FEW, "Truth": FEW},
            "no power, as on 10 cells even a control that is shown the labels agrees in 100% (chance 50%).",
        ),
        ({"Knn": BY_CHANCE}, "no power, as no control that is shown the labels ended well."),
        (
            {"Knn": BY_CHANCE, "Crash": "ValueError", "Truth": KNOWN},
            "1 method agrees with permuted labels by chance; no answer from Crash.",
        ),
    ],
)
def test_a_board_says_what_its_canary_found(board, found, expected):
    assert canary_in_words(board(**found)) == f"Leak canary: {expected}"


def test_a_flagged_method_is_marked_in_every_table_and_no_other(board):
    tables = board_tables(board(Knn=BY_CHANCE, Spy=KNOWN, Truth=KNOWN))
    of_methods = [table for table in tables if table.is_of_methods]
    assert of_methods
    for table in of_methods:
        assert {row.name: "knows hidden labels" in row.full_name for row in table.rows} == {
            row.name: row.name == "Spy" for row in table.rows
        }


def test_no_canary_is_no_line_and_no_row(make, specs):
    (board,) = build_boards([make("Knn", 0, {"accuracy": 0.9}, task="annotation")], specs.values())
    assert board.canary is None and canary_in_words(board) == ""


def test_of_two_runs_of_a_method_the_last_counts(board, make, specs):
    first = board(Spy=KNOWN, Truth=KNOWN)
    (row,) = [row for row in first.rows if row.method.name == "Spy"]
    records = [run for one in first.rows for run in one.runs]
    of = {"dataset_digest": first.dataset.digest, "scheme": "kfold"}
    old = make("Spy", 0, {}, task="annotation", method=TRAINED, canary_of=of, confusion=KNOWN)
    new = old.model_copy(
        update={
            "run_id": "new",
            "confusion": BY_CHANCE,
            "finished_at": old.finished_at + timedelta(days=1),
        }
    )
    old = old.model_copy(update={"run_id": "old"})
    (again,) = build_boards([*records, new, old], specs.values())
    assert again.canary.flagged == ()
    assert row.run_scores
