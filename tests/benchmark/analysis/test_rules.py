"""Rules of weights: laws of the overall score under each, what is left out, and two rules side by side."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellular_bench.benchmark.analysis.across_datasets import across
from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    aspect_scores,
    build_boards,
    overall_score,
    scaled,
    under,
)
from cellular_bench.benchmark.analysis.rank_stability import aspect_leaders, other_weights, stability
from cellular_bench.benchmark.analysis.scales import by_controls, overall, own_range
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import RunRecord, Score
from cellular_bench.benchmark.schema.weights import read_weights, weights_text
from cellular_bench.benchmark.tasks import INTEGRATION, TASKS, check_weights
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.types import MetricSpec
from cellular_bench.metrics import METRICS
from cellular_bench.reports.tables.overview import formula, weights_notes
from cellular_bench.reports.tables.ranking import ranking_table

OLD = Path(__file__).parents[2] / "data" / "results-0.1.0" / "results"
ASPECTS = tuple(INTEGRATION.weights)
SCIB = {"batch_correction": 0.4, "bio_conservation": 0.6}
PLAIN = {"ilisi": 0.6, "kbet": 0.4, "clisi": 0.8, "shape": 0.1, "states": 0.3}


@pytest.fixture(scope="module")
def specs(specs: dict[str, MetricSpec]) -> dict[str, MetricSpec]:
    """Metrics of three aspects."""
    made = {
        name: replace(specs["ilisi"], metric_id=name, name=name.capitalize(), aspect="structure")
        for name in ("shape", "states")
    }
    return {**specs, **made}


@pytest.fixture(scope="module")
def scored(make, specs):
    """Return a function that makes a run with values of metrics; a text is a reason, as in ``make``."""

    def record(name: str, values: dict[str, Any], split: int = 0, **changes: Any) -> RunRecord:
        scores = []
        for metric_id, value in values.items():
            fields: dict[str, Any] = {
                "metric_id": metric_id,
                "aspect": specs[metric_id].aspect,
                "value": value,
            }
            if isinstance(value, str):
                fields |= {"value": None, "reason": value, "undefined_by": value.split()[0]}
            scores.append(Score(**fields))
        return make(name, split, {}, **changes).model_copy(update={"scores": tuple(scores)})

    return record


@pytest.fixture(scope="module")
def boarded(specs):
    """Return a function that makes the one board of some records."""

    def board(*records: RunRecord, weights: Any = None) -> Board:
        (only,) = build_boards(records, specs.values(), weights=weights)
        return only

    return board


def row(board: Board, name: str) -> BoardRow:
    return next(row for row in board.rows if row.method.name == name)


shares = st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any)


@st.composite
def weights_of_aspects(draw: st.DrawFn) -> dict[str, float]:
    parts = draw(shares)
    return {aspect: part / sum(parts) for aspect, part in zip(ASPECTS, parts, strict=True)}


@given(
    weights=weights_of_aspects(),
    scores=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_an_overall_score_is_the_mean_of_the_aspects_that_have_one(weights, scores) -> None:
    aspects = dict(zip(ASPECTS, scores, strict=True))
    known = {aspect: score for aspect, score in aspects.items() if score is not None and weights[aspect] > 0}
    found = overall_score(weights, aspects)
    if not known:
        assert found is None
        return
    total = sum(weights[aspect] for aspect in known)
    assert found == pytest.approx(sum(weights[aspect] / total * score for aspect, score in known.items()))
    assert min(known.values()) - 1e-12 <= found <= max(known.values()) + 1e-12
    for absent in (aspect for aspect, weight in weights.items() if weight > 0):
        assert overall_score(weights, {a: s for a, s in aspects.items() if a != absent}) is None


@given(weights=weights_of_aspects())
@settings(max_examples=40, deadline=None)
def test_weights_are_read_from_what_they_are_written_as(weights) -> None:
    read = read_weights(weights_text(weights))
    assert read == pytest.approx(weights)
    assert read_weights(json.loads(json.dumps(read))) == read
    assert INTEGRATION.rule(read).weights == pytest.approx(weights)


@pytest.mark.parametrize("weights", [None, "default", "scib", "scIB", {"structure": 1.0}])
def test_a_board_weighs_the_aspects_of_each_run(scored, boarded, specs, weights) -> None:
    runs = [scored("A", PLAIN, split) for split in range(2)] + [scored("B", PLAIN | {"shape": 0.9}, 0)]
    board = boarded(*runs, weights=weights if weights is None else read_weights(weights))
    for found in board.rows:
        for run, score in zip(found.done, found.run_scores, strict=True):
            aspects = aspect_scores(run, board.metrics)
            assert score == pytest.approx(sum(w * aspects[a] for a, w in board.weights.items()))
    assert board.aspects == ASPECTS, "also those that do not count are shown"
    again = under(under(board, "scib"), board.rule.name if weights is None else read_weights(weights))
    assert again == board


def test_by_default_structure_counts_and_scib_stands_beside_it(scored, boarded) -> None:
    # batch .5, bio .8, structure .2 and .8
    board = boarded(
        scored("A", PLAIN | {"shape": 0.1}), scored("B", PLAIN | {"clisi": 0.5, "states": 1.0, "shape": 0.6})
    )
    a, b = row(board, "A"), row(board, "B")
    assert (a.overall.mean, b.overall.mean) == pytest.approx((0.15 + 0.32 + 0.06, 0.15 + 0.2 + 0.24))
    assert (a.other.overall.mean, b.other.overall.mean) == pytest.approx((0.2 + 0.48, 0.2 + 0.3))
    assert (a.rank, b.rank, a.other.rank, b.other.rank) == (2, 1, 1, 2)
    reverse = boarded(*a.runs, *b.runs, weights="scib")
    assert reverse.other_rule == INTEGRATION.rule()
    for name, other in (("A", a), ("B", b)):
        found = row(reverse, name)
        assert (found.overall, found.rank) == (other.other.overall, other.other.rank)
        assert (found.other.overall, found.other.rank) == (other.overall, other.rank)


def test_both_rules_are_named_wherever_the_ranking_is(scored, boarded) -> None:
    board = boarded(scored("A", PLAIN))
    words = "0.3 × batch correction + 0.4 × bio conservation + 0.3 × structure"
    scib = "0.4 × batch correction + 0.6 × bio conservation"
    assert formula(board) == f"{words}; scIB overall = {scib}"
    assert formula(under(board, "scib")) == f"{scib} (scIB weights); Default overall = {words}"
    own = under(board, {"batch_correction": 0.5, "structure": 0.5})
    assert formula(own).startswith("0.5 × batch correction + 0.5 × structure (Custom weights); scIB overall")
    table = ranking_table(board)
    place = [column.title for column in table.columns].index("scIB overall")
    assert (table.rows[0].cells[place].text, table.rows[0].cells[place].detail) == ("0.680", "rank 1")


FORBIDDEN = {"shape": "data too few types", "states": "data too few cells"}


def test_what_the_data_forbid_is_left_out_alike_and_said(scored, boarded, specs) -> None:
    runs = [scored(name, PLAIN | FORBIDDEN | {"ilisi": x}) for name, x in (("A", 0.6), ("B", 0.2))]
    board = boarded(*runs)
    a = row(board, "A")
    assert a.overall.mean == pytest.approx((0.3 * 0.5 + 0.4 * 0.8) / 0.7)
    assert [r.rank for r in board.rows] == [1, 2]
    assert (a.aspects["structure"].mean, board.left_out) == (None, {"structure": ("fold-0",)})
    (note,) = weights_notes(board)
    assert note.startswith("Structure is left out of the overall score on these data, for every method")
    assert note in ranking_table(board).caption
    assert row(boarded(*runs, weights="scib"), "A").overall.mean == a.other.overall.mean
    assert weights_notes(boarded(*runs, weights="scib")) == (), "it does not count"
    # A score depends on its own run alone, and every way to compute it agrees.
    assert row(boarded(runs[0]), "A").overall == a.overall
    values = own_range(board, board.rows)
    means = overall(board, values.array, board.weights, values.units)
    assert means.tolist() == pytest.approx([r.overall.mean for r in board.rows])
    assert all(
        found.by_weight[0.4, 0.6, 0.0] == found.rank for found in stability(board, "unsupervised").values()
    )
    assert "structure" not in aspect_leaders(board, "unsupervised")


def test_on_one_split_of_two_it_is_left_out_there(scored, boarded) -> None:
    board = boarded(*(scored(n, PLAIN, 0) for n in "AB"), *(scored(n, PLAIN | FORBIDDEN, 1) for n in "AB"))
    whole = 0.3 * 0.5 + 0.4 * 0.8 + 0.3 * 0.2
    assert board.rows[0].overall.mean == pytest.approx((whole + 0.47 / 0.7) / 2)
    assert "on fold-1, for every method" in weights_notes(board)[0]


def test_an_aspect_that_the_output_lacks_makes_a_row_incomplete_where_it_counts(scored, boarded) -> None:
    broken = PLAIN | FORBIDDEN | {"states": "output no embedding"}
    board = boarded(scored("A", PLAIN), scored("B", broken))
    b = row(board, "B")
    assert (b.rank, b.overall.mean) == (None, None)
    assert b.incomplete_because == "1 of 1 runs without an overall score (no States)"
    assert (b.other.rank, b.other.incomplete_because) == (1, None)
    assert b.other.overall.mean == pytest.approx(0.4 * 0.5 + 0.6 * 0.8)
    assert row(under(board, "scib"), "B").rank == 1


def test_runs_from_before_an_aspect_are_ranked_without_it_or_else_incomplete(scored, boarded) -> None:
    before = {name: value for name, value in PLAIN.items() if name not in FORBIDDEN}
    board = boarded(scored("A", before), scored("B", before))
    assert (board.rule, board.instead_of) == (INTEGRATION.rule("scib"), INTEGRATION.rule())
    assert (board.other_rule, board.aspects, board.rows[0].rank) == (None, ASPECTS[:2], 1)
    (note,) = weights_notes(board)
    assert "No run has been scored for structure" in note
    assert "run-benchmark rescore FOLDER adds" in note
    assert weights_notes(under(board, "scib")) == (), "as was asked for"
    mixed = boarded(scored("A", before), scored("B", PLAIN))
    assert (mixed.rule, mixed.instead_of) == (INTEGRATION.rule(), None)
    a = row(mixed, "A")
    assert a.rank is None
    assert a.incomplete_because == (
        "1 of 1 runs without an overall score (not scored for structure, which run-benchmark rescore adds to "
        "kept outputs)"
    )
    assert a.other.overall.mean == row(board, "A").overall.mean


def test_boards_under_different_rules_are_not_averaged(make, scored, specs) -> None:
    def runs(dataset_id: str, values: dict[str, Any]) -> list[RunRecord]:
        found = [scored(name, values) for name in ("A", "B")]
        data = found[0].dataset.model_copy(update={"dataset_id": dataset_id, "digest": dataset_id * 8})
        return [
            run.model_copy(update={"dataset": data, "run_id": f"{dataset_id}-{run.run_id}"}) for run in found
        ]

    before = {name: value for name, value in PLAIN.items() if name not in FORBIDDEN}
    groups = across(
        build_boards(
            [run for i in range(4) for run in runs(f"d{i}", PLAIN if i < 2 else before)], specs.values()
        )
    )
    assert sorted(tuple(b.dataset.dataset_id for b in group.boards) for group in groups) == [
        ("d0", "d1"),
        ("d2", "d3"),
    ]


def test_old_results_are_ranked_as_they_were_and_scib_stays_once_structure_is_there() -> None:
    """Version 0.1 had 0.4 and 0.6, and no structure."""
    old = [run for run in Store.open(OLD).every_record() if run.task == "integration"]
    known = {name: spec for name, spec in METRICS.items() if spec.aspect != "structure"}
    before = build_boards(old, known.values())
    scores = {}
    for board in before:
        assert (board.rule.name, board.other_rule) == ("scib", None)
        for found in board.rows:
            for run, score in zip(found.done, found.run_scores, strict=True):
                aspects: dict[str, list[float]] = {aspect: [] for aspect in SCIB}
                for one in run.scores:
                    if one.value is not None and known[one.metric_id].in_overall:
                        aspects[one.aspect].append(scaled(known[one.metric_id], one.value))
                by_hand = sum(w * math.fsum(aspects[a]) / len(aspects[a]) for a, w in SCIB.items())
                assert score == pytest.approx(by_hand, abs=1e-12)
                scores[run.run_id] = score, found.rank
    assert len(scores) == 4
    spec = replace(next(iter(known.values())), metric_id="shape", name="Shape", aspect="structure")
    added = Score(metric_id="shape", aspect="structure", value=0.5)
    now = [
        run.model_copy(update={"scores": (*run.scores, added)}) if run.status == "ok" else run for run in old
    ]
    for board in build_boards(now, [*known.values(), spec]):
        assert board.rule == INTEGRATION.rule()
        for found in board.rows:
            for run in found.done:
                score, rank = scores[run.run_id]
                assert found.other.rank == rank
                if len(found.done) == 1:
                    assert found.other.overall.mean == pytest.approx(score, abs=1e-12)


def test_ways_to_weigh_are_a_grid_with_the_named_rules(scored, boarded) -> None:
    three = boarded(scored("A", PLAIN))
    found = other_weights(three)
    assert len(found) == len(set(found)) == 21 + 1  # 5 parts over 3 aspects, and the default
    assert all(math.isclose(sum(weights), 1) and min(weights) >= 0 for weights in found)
    assert {(0.3, 0.4, 0.3), (0.4, 0.6, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)} <= set(found)


@pytest.mark.parametrize("value", [-0.5, -0.01, 1.01, 7.0])
def test_values_beyond_the_range_of_a_metric_count_as_its_end(specs, value) -> None:
    for spec in (specs["shape"], replace(specs["shape"], higher_is_better=False)):
        end = (value > 0) == spec.higher_is_better
        assert scaled(spec, value) == float(end)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("batch_correction=.3,bio_conservation=.4", "do not add up to 1, but to 0.7"),
        ("batch_correction=1.5,bio_conservation=-.5", "weight of bio_conservation is -0.5"),
        ("batch_correction=x,bio_conservation=1", "weight of batch_correction is 'x', which is no number"),
        ("batch_correction=nan,bio_conservation=1", "is no number"),
        ("batch_correction=.5,batch_correction=.5", "names batch_correction twice"),
        (".3,.4,.3", "nor of the form ASPECT=NUMBER"),
        ("", "nor of the form ASPECT=NUMBER"),
        ({"structure": True}, "is no number"),
        ({}, "do not add up to 1"),
        (0.3, "neither the name of a rule nor a number for each aspect"),
    ],
)
def test_weights_that_make_no_score_are_refused(given_, message) -> None:
    with pytest.raises(UserError, match=message):
        read_weights(given_)


def test_names_that_no_task_has_are_refused_with_a_close_one() -> None:
    tasks = list(TASKS.values())
    check_weights("scib", tasks)
    check_weights({"structure": 1.0}, tasks)
    with pytest.raises(UnknownNameError, match=r"Unknown rule of weights 'scip'\. Did you mean 'scib'\?"):
        check_weights("scip", tasks)
    with pytest.raises(UnknownNameError, match=r"Unknown aspect 'strukture'\. Did you mean 'structure'\?"):
        check_weights({"strukture": 1.0}, tasks)
    with pytest.raises(UserError, match="No task has all of the aspects annotation, structure"):
        check_weights({"annotation": 0.5, "structure": 0.5}, tasks)
    with pytest.raises(UnknownNameError):
        check_weights("scib", [TASKS["annotation"]])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"half": {"batch_correction": 0.5}}, "do not add up to 1"),
        ({"other": {"annotation": 1.0}}, "weighs annotation, which is not in weights"),
        ({"default": {"structure": 1.0}}, "cannot be the name of a rule"),
        ({"My rule": {"structure": 1.0}}, "cannot be the name of a rule"),
    ],
)
def test_a_task_with_a_rule_that_would_mislead_is_refused(rules, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(INTEGRATION, rules=rules)


def test_structure_keeps_its_range_between_controls_which_are_not_made_to_score_high_there(
    scored, boarded
) -> None:
    ends = {"Worst": dict.fromkeys(PLAIN, 0.1), "Best": dict.fromkeys(PLAIN, 0.9)}
    controls = [scored(name, values, method={"is_control": True}) for name, values in ends.items()]
    board = boarded(scored("First", PLAIN), *controls)
    between = by_controls(board, own_range(board, [row(board, "First")]))
    assert between is not None
    found = dict(zip((spec.metric_id for spec in board.metrics), between[0, 0].tolist(), strict=True))
    assert found == pytest.approx(
        {"ilisi": 0.625, "kbet": 0.375, "clisi": 0.875, "shape": 0.1, "states": 0.3}
    )
    above = ranking_table(boarded(scored("First", dict.fromkeys(PLAIN, 0.95)), *controls))
    assert not any("above every control" in one.remark for one in above.rows)
    only = boarded(scored("First", PLAIN), *controls, weights={"structure": 1.0})
    assert by_controls(only, own_range(only, list(only.rows))) is None
