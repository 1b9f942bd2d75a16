"""How far ranks hang on choices, worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cellular_bench.benchmark.analysis.leaderboard import build_boards, method_key
from cellular_bench.benchmark.analysis.rank_stability import (
    against_best,
    aspect_leaders,
    between_controls,
    ranks,
    stability,
)
from cellular_bench.benchmark.analysis.scales import on_scales
from cellular_bench.reports.tables.overview import summary_of
from cellular_bench.reports.tables.rank_stability import stability_table
from cellular_bench.reports.tables.ranking import ranking_table

#: batch correction .7 and .5, bio conservation .7 and .8 (ARI from -1 to 1): overall .70 and .68
FIRST = {"ilisi": 0.8, "kbet": 0.6, "ari": 0.0, "clisi": 0.9}
SECOND = {"ilisi": 0.2, "kbet": 0.8, "ari": 0.6, "clisi": 0.8}
#: kBET of the controls is too close to mark a scale.
WORST = {"ilisi": 0.0, "kbet": 0.40, "ari": 0.0, "clisi": 0.5}
BEST = {"ilisi": 1.0, "kbet": 0.42, "ari": 1.0, "clisi": 1.0}
CONTROL = {"is_control": True}


@pytest.fixture(scope="module")
def board(make, specs):
    """Two methods and two controls on one split."""
    runs = [make("First", 0, FIRST), make("Second", 0, SECOND)]
    runs += [make("Worst", 0, WORST, method=CONTROL), make("Best", 0, BEST, method=CONTROL)]
    (only,) = build_boards(runs, specs.values())
    return only


@pytest.fixture(scope="module")
def key(board):
    """Map the name of a method to the key of its row."""
    return {row.method.name: method_key(row.method) for row in board.rows}


def test_leaving_a_metric_out_moves_ranks_as_worked_by_hand(board, key):
    found = stability(board, "unsupervised")
    # without iLISI .66 to .80, without kBET .74 to .56, without ARI .82 to .68, without cLISI .58 to .68
    assert found[key["First"]].by_metric == {"iLISI": 2, "kBET": 1, "ARI": 1, "cLISI": 2}
    assert found[key["Second"]].by_metric == {"iLISI": 1, "kBET": 2, "ARI": 2, "cLISI": 1}


def test_the_weight_at_which_ranks_change_is_a_third(board, key):
    # .7 for every weight w against .8 - .3 w
    by_weight = stability(board, "unsupervised")[key["First"]].by_weight
    assert {batch for (batch, _), rank in by_weight.items() if rank == 2} == {0.0, 0.1, 0.2, 0.3}
    assert by_weight.keys() == {(w / 10, (10 - w) / 10) for w in range(11)}


def test_between_controls_is_worked_out_per_metric(board, key):
    found = between_controls(board)
    # First: batch .8; bio (0 + .8) / 2. Second: batch .2; bio (.6 + .6) / 2. kBET is left out for all.
    assert found[key["First"]] == pytest.approx(0.4 * 0.8 + 0.6 * 0.4)
    assert found[key["Second"]] == pytest.approx(0.4 * 0.2 + 0.6 * 0.6)
    assert (found[key["Worst"]], found[key["Best"]]) == pytest.approx((0.0, 1.0))


def test_every_scale_gives_the_aspects_of_each_split_as_worked_by_hand(board, key):
    found = on_scales(board)[key["First"]]
    assert {scale: units[0].aspects for scale, units in found.items()} == {
        "own": pytest.approx((0.7, 0.7)),  # ARI of 0 lies half way from -1 to 1
        "raw": pytest.approx((0.7, 0.45)),
        "controls": pytest.approx((0.8, 0.4)),  # without kBET, on which the controls lie too close
    }
    assert (found["own"][0].unit, found["own"][0].overlap) == ("fold-0", 0.25)


def test_raw_values_of_a_metric_that_should_be_low_are_turned_round(make, specs):
    lower = replace(specs["kbet"], maximum=2.0, higher_is_better=False)
    (board,) = build_boards([make("First", 0, FIRST)], (specs | {"kbet": lower}).values())
    (found,) = on_scales(board).values()
    assert found["raw"][0].aspects[0] == pytest.approx((0.8 + (2.0 - 0.6)) / 2)
    assert found.keys() == {"own", "raw"}


def test_a_run_without_an_overall_score_is_on_no_scale(make, specs):
    runs = [make("Flat", 0, FIRST | {"clisi": "output all cells coincide"}), make("Flat", 1, FIRST)]
    (board,) = build_boards(runs, specs.values())
    (found,) = on_scales(board).values()
    assert [one.unit for one in found["own"]] == ["fold-1"]


def test_the_leader_of_each_aspect_is_told_from_the_others(make, specs):
    wobble = [0.0, 0.02, 0.04]
    runs = [make("Mixes", split, FIRST | {"ilisi": 0.9 + w}) for split, w in enumerate(wobble)]
    runs += [make("Keeps", split, SECOND | {"ari": 0.9 + w}) for split, w in enumerate(wobble)]
    (board,) = build_boards(runs, specs.values())
    names = {method_key(row.method): row.method.name for row in board.rows}
    leaders = aspect_leaders(board, "unsupervised")
    assert {aspect: names[best] for aspect, (best, _) in leaders.items()} == {
        "batch_correction": "Mixes",
        "bio_conservation": "Keeps",
    }
    ((found,),) = (reported for aspect, (_, reported) in leaders.items() if aspect == "bio_conservation")
    # (.95 + .8) / 2 and a quarter of the wobble against (.5 + .9) / 2
    assert found.difference == pytest.approx(0.88 - 0.7)
    sentence = summary_of(board).winners[0].verdicts[-1]
    assert sentence == "Bio conservation: Keeps leads, significantly better than all others."


def test_what_was_varied_is_counted(board, key):
    first = stability(board, "unsupervised")[key["First"]]
    assert (first.rank, first.by_scale, first.by_split, first.resampled) == (1, 1, {}, None)
    # 2 of 4 metrics, 7 of 11 weights and the scale leave it first
    assert first.share_unchanged == pytest.approx(10 / 16)


def test_one_control_marks_no_scale(make, specs):
    runs = [make("First", 0, FIRST), make("Second", 0, SECOND), make("Worst", 0, WORST, method=CONTROL)]
    (board,) = build_boards(runs, specs.values())
    assert between_controls(board) == {}
    assert all(found.by_scale is None for found in stability(board, "unsupervised").values())


def test_splits_left_out_and_drawn_again(make, specs):
    lead = [0.02, 0.02, -0.1]
    runs = [make("Steady", split, dict.fromkeys(FIRST, 0.5)) for split in range(3)]
    runs += [make("Swinging", split, dict.fromkeys(FIRST, 0.5 + up)) for split, up in enumerate(lead)]
    (board,) = build_boards(runs, specs.values())
    steady, swinging = stability(board, "unsupervised").values()
    assert (steady.rank, swinging.rank) == (1, 2)
    assert steady.by_split == {"fold-0": 1, "fold-1": 1, "fold-2": 2}
    # Only draws without the third split, (2/3)^3 = 30 % of them, turn the order around.
    assert steady.resampled == swinging.resampled == (1, 2)


def test_differences_from_the_best_are_tested_with_the_correction_for_folds(make, specs):
    lead = np.array([0.05, 0.03, 0.01])
    runs = [make("Low", split, dict.fromkeys(FIRST, 0.5)) for split in range(3)]
    runs += [make("High", split, dict.fromkeys(FIRST, 0.5 + up)) for split, up in enumerate(lead)]
    (board,) = build_boards(runs, specs.values())
    (found,) = against_best(board, "unsupervised").values()
    # ARI is scaled from -1 to 1, so that it counts half: .4 + .6 * .75 of the lead.
    difference = 0.85 * lead
    error = math.sqrt((1 / 3 + 240 / 960) * difference.var(ddof=1))
    assert found.difference == pytest.approx(difference.mean())
    assert found.p_value == pytest.approx(2 * stats.t.sf(difference.mean() / error, 2))
    assert found.wins == 1.0


def test_ranks_share_places_and_put_missing_scores_last():
    assert ranks(np.array([0.5, 0.7, np.nan, 0.7])).tolist() == [3, 1, 4, 1]


def test_the_table_says_which_choices_move_a_rank(board):
    table = stability_table(board)
    assert table is not None
    cells = {row.name: row.cells for row in table.rows}
    assert cells.keys() == {"First", "Second"}
    texts = [cell.text for cell in cells["First"]]
    assert texts == ["1", "–", "1–2", "–", "1–2", "1", "62%"]
    assert cells["First"][2].reason == "2 without iLISI; 2 without cLISI"


def test_the_ranking_shows_the_scale_of_the_controls(board):
    table = ranking_table(board)
    titles = [column.title for column in table.columns]
    place = titles.index("Between controls")
    cells = {row.name: row.cells[place] for row in table.rows}
    assert {name: cell.text for name, cell in cells.items()} == {
        "First": "0.560", "Second": "0.440", "Worst": "0.000", "Best": "1.000",
    }  # fmt: skip
