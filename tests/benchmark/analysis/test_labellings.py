"""Rankings under other labels of the same cells, worked out by hand."""

import pytest

from cellular_bench.benchmark.analysis.labellings import under_other_labels, verdict
from cellular_bench.benchmark.analysis.leaderboard import build_boards, method_key
from cellular_bench.reports.tables.labellings import labellings_table

MIX = {"ilisi": 0.5, "kbet": 0.5}


@pytest.fixture
def board(make, specs):
    """Return a function: a board of methods with ARI and cLISI under the first labels, and under others."""

    def board_of(n_splits=1, *, track=None, digests=None, **methods):
        records = []
        for name, (first, *others) in methods.items():
            for split in range(n_splits):
                change = {"method": track} if track else {}
                run = make(name, split, MIX | {"ari": first + split / 1000, "clisi": first}, **change)
                relabelled = []
                for place, value in enumerate(others):
                    if value is None:
                        continue
                    scores = [
                        score.model_copy(update={"value": value + split / 1000})
                        for score in run.scores
                        if score.metric_id in ("ari", "clisi")
                    ]
                    digest = (digests or {}).get(name, "d")
                    relabelled.append(
                        {"labelling": f"level{place}", "digest": digest, "n_labels": 7, "scores": scores}
                    )
                again = run.model_dump() | {"relabelled": relabelled}
                records.append(type(run).model_validate(again))
        (one,) = build_boards(records, specs.values(), weights="scib")
        return one

    return board_of


def places(board):
    return {row.method.name: row.rank for row in board.rows}


def names(board, keys):
    of = {method_key(row.method): row.method.name for row in board.rows}
    return tuple(of[key] for key in keys)


def test_the_same_outputs_are_ranked_by_the_other_scores(board):
    made = board(One=(0.9, 0.2), Two=(0.5, 0.4), Three=(0.1, 0.6))
    (other,) = under_other_labels(made)
    assert places(made) == {"One": 1, "Two": 2, "Three": 3}
    assert places(other.board) == {"One": 3, "Two": 2, "Three": 1}
    assert (other.name, other.n_labels) == ("level0", (7, 7))
    # 0.4 x mixing 0.5 + 0.6 x the mean of cLISI 0.6 and ARI 0.6, which goes from -1 to 1
    (best,) = [row for row in other.board.rows if row.rank == 1]
    assert best.overall.mean == pytest.approx(0.4 * 0.5 + 0.6 * (0.6 + 0.8) / 2)
    found = verdict(made, other.board, "unsupervised")
    assert (found.survives, found.tau, found.n) == (False, -1.0, 3)
    assert names(made, found.best) == ("One",)
    assert names(made, found.best_there) == ("Three",)


@pytest.mark.parametrize("shift", [0.0, 0.05, -0.05])
def test_the_verdict_survives_where_the_order_stays(board, shift):
    made = board(One=(0.9, 0.7 + shift), Two=(0.5, 0.6 + shift), Three=(0.1, 0.5 + shift))
    (other,) = under_other_labels(made)
    found = verdict(made, other.board, "unsupervised")
    assert found.survives
    assert found.tau == 1.0


def test_equal_scores_are_a_tie_of_the_best(board):
    made = board(One=(0.9, 0.4), Two=(0.5, 0.4))
    (other,) = under_other_labels(made)
    found = verdict(made, other.board, "unsupervised")
    assert found.survives
    assert set(names(made, found.best_there)) == {"One", "Two"}
    assert found.tau is None, "a ranking of equals agrees with none"


def test_a_difference_that_is_not_significant_is_a_tie(board):
    # On each split the order under the other labels is another: no test can distinguish the two.
    made = board(n_splits=3, One=(0.9, 0.5), Two=(0.5, 0.5))
    runs = []
    for row in made.rows:
        for run in row.runs:
            up = {"One": (0.00, 0.08, 0.00), "Two": (0.07, 0.00, 0.07)}[row.method.name]
            up = up[int(run.split.split_id[-1])]
            (one,) = run.relabelled
            scores = tuple(s.model_copy(update={"value": 0.5 + up}) for s in one.scores)
            runs.append(run.model_copy(update={"relabelled": (one.model_copy(update={"scores": scores}),)}))
    (made,) = build_boards(runs, made.metrics, weights="scib")
    (other,) = under_other_labels(made)
    found = verdict(made, other.board, "unsupervised")
    assert names(made, found.best_there) == ("Two",)
    assert names(made, found.tied_there) == ("One",)
    assert found.survives


def test_one_split_has_no_ties_but_equal_scores(board):
    made = board(One=(0.9, 0.50), Two=(0.5, 0.51))
    (other,) = under_other_labels(made)
    found = verdict(made, other.board, "unsupervised")
    assert found.tied_there == ()
    assert not found.survives


def test_a_run_without_scores_under_other_labels_is_incomplete_there(board):
    made = board(One=(0.9, 0.4), Two=(0.5, None), Three=(0.4, 0.3))
    (other,) = under_other_labels(made)
    assert places(other.board) == {"One": 1, "Three": 2, "Two": None}
    assert verdict(made, other.board, "unsupervised").n == 2
    table = labellings_table(made)
    (two,) = [row for row in table.rows if row.name == "Two"]
    assert [cell.is_missing for cell in two.cells] == [False, False, True, True]


def test_labels_that_were_changed_under_their_name_are_not_mixed(board):
    made = board(
        One=(0.9, 0.4), Two=(0.5, 0.6), Three=(0.4, 0.3), digests={"One": "new", "Two": "old", "Three": "new"}
    )
    (other,) = under_other_labels(made)
    assert places(other.board) == {"One": 1, "Three": 2, "Two": None}


def test_the_table_says_what_becomes_of_the_verdict(board):
    made = board(One=(0.9, 0.8, 0.1), Two=(0.5, 0.4, 0.6))
    table = labellings_table(made)
    assert [column.title for column in table.columns] == [
        "Overall, first labels (3)", "Rank, first labels (3)",
        "Overall, level0 (7)", "Rank, level0 (7)",
        "Overall, level1 (7)", "Rank, level1 (7)",
    ]  # fmt: skip
    ranks = {row.name: [cell.text for cell in row.cells[1::2]] for row in table.rows}
    assert ranks == {"One": ["1", "1", "2"], "Two": ["2", "2", "1"]}
    assert table.lead == "Unsupervised: the verdict depends on the labels: One is not the best under level1."
    (agreement,) = table.remarks
    assert agreement.items == (
        "level0, unsupervised: best One; Kendall's tau 1.000 over 2 methods.",
        "level1, unsupervised: best Two; Kendall's tau −1.000 over 2 methods.",
    )
    kept = labellings_table(board(One=(0.9, 0.8), Two=(0.5, 0.4)))
    assert kept.lead == (
        "Unsupervised: the verdict survives the other labels: One is the best under each, or not "
        "significantly different from the best."
    )


def test_a_board_under_one_labelling_has_no_such_table(board):
    assert labellings_table(board(One=(0.9,), Two=(0.5,))) is None


def test_tracks_are_compared_apart(board, make, specs):
    seen = board(track={"labels": "train"}, Three=(0.5, 0.9), Four=(0.9, 0.5))
    unseen = board(One=(0.9, 0.8), Two=(0.5, 0.4))
    runs = [run for made in (seen, unseen) for row in made.rows for run in row.runs]
    (made,) = build_boards(runs, specs.values(), weights="scib")
    (other,) = under_other_labels(made)
    assert verdict(made, other.board, "unsupervised").survives
    assert not verdict(made, other.board, "supervised").survives
    assert verdict(made, other.board, "sees scored labels") is None
