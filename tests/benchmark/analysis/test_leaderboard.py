"""Boards: scaling, means, completeness and ranks, worked out by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cellular_bench.benchmark.analysis.across_datasets import across
from cellular_bench.benchmark.analysis.folder_comparison import compare
from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    Summary,
    aspect_scores,
    build_boards,
    method_key,
    overall_score,
    scaled,
    split_scores,
    track_of,
)
from cellular_bench.benchmark.analysis.rank_stability import against_best, between_controls, stability
from cellular_bench.benchmark.analysis.scales import overall, own_range
from cellular_bench.benchmark.analysis.statistics import interval
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import MetricSpec


def _spec(metric_id: str, aspect: Any, **changes: Any) -> MetricSpec:
    fields: dict[str, Any] = {"name": metric_id.upper(), "function": float, "definition": "d"}
    return MetricSpec(metric_id=metric_id, aspect=aspect, **(fields | changes))


SPECS = (
    _spec("mix", "batch_correction"),
    _spec("leak", "batch_correction", higher_is_better=False),
    _spec("asw", "bio_conservation", minimum=-1.0),
    _spec("extra", "bio_conservation", in_overall=False),
)


def make(method: str, split: int = 0, seed: int = 0, **values: Any) -> RunRecord:
    """Return a run; values of metrics by name, and fields of the record by theirs."""
    fields: dict[str, Any] = {
        "run_id": f"{values.get('dataset', 'd')}-{method}-{split}-{seed}",
        "suite_id": "s",
        "task": "integration",
        "method": {
            "method_id": method,
            "name": method,
            "version": 1,
            "labels": values.pop("labels", "none"),
            "is_control": values.pop("is_control", False),
            "params": values.pop("params", {}),
        },
        "dataset": {
            "dataset_id": values.pop("dataset", "d"), "title": "D", "digest": values.pop("digest", "dd"),
            "n_obs": 10, "n_vars": 5, "n_batches": 2, "n_labels": 2,
        },
        "split": {
            "split_id": f"fold-{split}", "kind": values.pop("kind", "kfold"),
            "scheme": values.pop("scheme", ""), "digest": f"split{split}",
            "n_train": 8, "n_test": 2,
        },
        "seed": seed,
        "status": "ok",
        "environment": {
            "python": "3.11", "platform": "p", "cpu": "c", "n_cpus": 1, "n_threads": 1, "packages": {},
        },
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "finished_at": datetime(2026, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    aspects = {spec.metric_id: spec.aspect for spec in SPECS}
    scores = []
    for metric_id in [key for key in values if key in aspects]:
        value = values.pop(metric_id)
        score: dict[str, Any] = {"metric_id": metric_id, "aspect": aspects[metric_id], "value": value}
        if isinstance(value, str):
            score |= {"value": None, "reason": value, "undefined_by": value.split()[0]}
        scores.append(score)
    return RunRecord(**(fields | {"scores": scores} | values))


def board(*records: RunRecord) -> Board:
    """Return the one board of these records."""
    (only,) = build_boards(records, SPECS)
    return only


def row(boarded: Board, method: str) -> BoardRow:
    """Return the row of a method."""
    return next(row for row in boarded.rows if row.method.method_id == method)


def test_a_value_is_scaled_by_the_range_and_direction_of_its_metric() -> None:
    assert scaled(SPECS[0], 0.25) == 0.25
    assert scaled(SPECS[1], 0.25) == 0.75
    assert scaled(SPECS[2], 0.0) == 0.5


def test_aspects_and_overall_as_worked_by_hand() -> None:
    record = make("a", mix=0.6, leak=0.2, asw=0.4, extra=0.0)
    aspects = aspect_scores(record, SPECS)
    # batch: (0.6 + (1 - 0.2)) / 2; bio: (0.4 + 1) / 2, the extra metric does not count
    assert aspects == pytest.approx({"batch_correction": 0.7, "bio_conservation": 0.7})
    aspects["batch_correction"] = 0.5
    weights = {"batch_correction": 0.4, "bio_conservation": 0.6}
    assert overall_score(weights, aspects) == pytest.approx(0.4 * 0.5 + 0.6 * 0.7)
    assert overall_score(weights, {"batch_correction": 0.5}) is None


def test_mean_and_sample_deviation_are_over_runs() -> None:
    only = row(board(make("a", 0, mix=0.2, leak=0.0, asw=1.0), make("a", 1, mix=0.6, leak=0.0, asw=1.0)), "a")
    assert only.metrics["mix"].mean == pytest.approx(0.4)
    assert only.metrics["mix"].std == pytest.approx(0.08**0.5)
    # batch per run: 0.6, 0.8; overall per run: 0.84, 0.92
    assert only.aspects["batch_correction"].mean == pytest.approx(0.7)
    assert only.overall.mean == pytest.approx(0.88)
    assert only.overall.std == pytest.approx(0.0032**0.5)


def test_one_run_has_no_deviation_and_no_run_no_mean() -> None:
    assert Summary.of([0.5]).std is None
    nothing = Summary.of([None, None], ["why", "why"])
    assert (nothing.mean, nothing.n, dict(nothing.reasons)) == (None, 0, {"why": 2})


def test_a_metric_that_the_data_forbid_is_left_out_and_the_row_stays_complete() -> None:
    only = row(board(make("a", mix=0.6, leak="data one batch", asw=0.0)), "a")
    assert only.aspects["batch_correction"].mean == pytest.approx(0.6)
    assert only.overall.mean == pytest.approx(0.4 * 0.6 + 0.6 * 0.5)
    assert (only.incomplete_because, only.rank) == (None, 1)


def test_a_metric_that_the_output_forbids_makes_the_row_incomplete_and_names_the_metric() -> None:
    only = row(board(make("a", mix=0.6, leak="output constant", asw=0.0)), "a")
    assert only.overall.mean is None
    assert only.aspects["bio_conservation"].mean == pytest.approx(0.5)
    assert only.rank is None
    assert only.incomplete_because == "1 of 1 runs without an overall score (no LEAK)"


def test_a_run_without_any_permitted_metric_is_said_so() -> None:
    forbidden = dict.fromkeys(("mix", "leak", "asw"), "data one cell")
    only = row(board(make("a", **forbidden)), "a")
    assert only.incomplete_because == (
        "1 of 1 runs without an overall score (undefined on these data: MIX, LEAK, ASW)"
    )


def test_a_failure_changes_no_number_of_another_row() -> None:
    good = [make("a", s, mix=0.5 + s / 10, leak=0.1, asw=0.3) for s in range(2)]
    other = [make("b", s, mix=0.2, leak=0.1, asw=0.3) for s in range(2)]
    broken = [other[0], make("b", 1, status="failed", reason="crashed")]
    before, after = board(*good, *other), board(*good, *broken)
    assert row(before, "a") == row(after, "a")
    assert row(after, "b").incomplete_because == "1 of 2 runs without scores (1 failed)"
    assert row(after, "b").metrics["mix"].reasons == {"run failed: crashed": 1}
    assert row(after, "b").coverage == (1, 2)
    assert [r.method.method_id for r in after.rows] == ["a", "b"]


def test_scores_of_a_run_that_did_not_end_well_do_not_count() -> None:
    records = [make("a", 0, mix=0.5, leak=0.5, asw=0.0)]
    records.append(make("a", 1, mix=0.9, leak=0.5, asw=0.0, status="timeout", reason="late"))
    assert row(board(*records), "a").metrics["mix"].mean == 0.5


def test_a_split_that_was_never_run_makes_a_row_incomplete() -> None:
    values = {"mix": 0.5, "leak": 0.5, "asw": 0.0}
    boarded = board(make("a", 0, **values), make("a", 1, **values), make("b", 0, mix=0.9, leak=0.5, asw=0.0))
    assert row(boarded, "b").incomplete_because == "never run on fold-1"
    assert (row(boarded, "b").rank, row(boarded, "b").coverage) == (None, (1, 2))
    assert row(boarded, "a").rank == 1


def test_ranks_are_per_track_and_shared_by_ties() -> None:
    def at(method: str, mix: float, **more: Any) -> RunRecord:
        return make(method, mix=mix, leak=0.5, asw=0.0, **more)

    boarded = board(
        at("low", 0.1), at("tie1", 0.5), at("tie2", 0.5), at("top", 0.7),
        at("taught", 0.2, labels="train"), at("peeks", 0.9, labels="all"), at("end", 1.0, is_control=True),
    )  # fmt: skip
    ranks = {r.method.method_id: r.rank for r in boarded.rows}
    assert ranks == {"end": None, "peeks": 1, "top": 1, "tie1": 2, "tie2": 2, "taught": 1, "low": 4}
    assert [r.method.method_id for r in boarded.rows][:3] == ["end", "peeks", "top"]


@pytest.mark.parametrize(
    ("changes", "track"),
    [
        ({}, "unsupervised"),
        ({"labels": "train"}, "supervised"),
        ({"labels": "train", "kind": "all"}, "sees scored labels"),
        ({"labels": "all"}, "sees scored labels"),
        ({"labels": "all", "is_control": True}, "control"),
    ],
)
def test_track_follows_the_labels_that_were_shown(changes: dict[str, Any], track: str) -> None:
    assert track_of(make("a", **changes)) == track


def test_other_parameters_are_another_row_whatever_their_order() -> None:
    first = make("a", 0, mix=0.5, params={"k": 5, "l": 1})
    same = make("a", 1, mix=0.5, params={"l": 1, "k": 5})
    other = make("a", 0, seed=1, mix=0.5, params={"k": 9, "l": 1})
    assert sorted(len(r.runs) for r in board(first, same, other).rows) == [1, 2]


def test_changed_data_of_the_same_name_are_another_board() -> None:
    boards = build_boards([make("a", mix=0.5), make("b", mix=0.5, digest="changed!!")], SPECS)
    assert [b.board_id for b in boards] == ["integration-d-kfold-changed!", "integration-d-kfold-dd"]


def test_data_of_one_name_have_titles_of_their_own_wherever_they_are_in_the_folder() -> None:
    small = make("a", mix=0.5)
    large = make("b", mix=0.5, digest="changed", kind="all")
    large = large.model_copy(update={"dataset": large.dataset.model_copy(update={"n_obs": 20})})
    titles = [b.dataset_title for b in build_boards([small, large], SPECS)]
    assert titles == ["D, 20 cells", "D, 10 cells"]
    assert board(small).dataset_title == "D"


def test_other_folds_are_another_board() -> None:
    three = [make("a", fold, mix=0.5, scheme="kfold-3-42") for fold in range(3)]
    five = [make("a", fold + 3, mix=0.7, scheme="kfold-5-42") for fold in range(5)]
    boards = build_boards([*three, *five], SPECS)
    assert [b.board_id for b in boards] == ["integration-d-kfold-3-42", "integration-d-kfold-5-42"]
    assert [b.rows[0].metrics["mix"].n for b in boards] == [3, 5]


def test_a_run_that_comes_twice_is_refused() -> None:
    with pytest.raises(UserError, match="d-a-0-0"):
        build_boards([make("a", mix=0.5), make("a", mix=0.5)], SPECS)


def test_the_order_of_records_does_not_matter() -> None:
    records = [make(m, s, mix=0.1 * s + 0.3, leak=0.2, asw=0.1) for m in "abc" for s in range(3)]
    assert build_boards(records, SPECS) == build_boards(records[::-1], SPECS)


def test_statistics_take_a_split_once_and_a_held_out_label_over_its_folds():
    def run(number: int, seed: int, value: float, unseen: tuple[str, ...] = ()) -> RunRecord:
        made = make("m", number, seed, mix=value, leak=1 - value, asw=2 * value - 1)
        split = made.split.model_copy(update={"unseen_labels": unseen})
        return made.model_copy(update={"split": split})

    def units(records: list[RunRecord]) -> list[tuple[str, float, float]]:
        ((row,),) = (board.rows for board in build_boards(records, SPECS))
        return [(unit.split_id, round(unit.value, 9), unit.overlap) for unit in split_scores(row)]

    by_fold = units([run(1, 0, 0.5), run(1, 1, 0.7), run(2, 0, 0.9)])
    assert by_fold == [("fold-1", 0.6, 0.25), ("fold-2", 0.9, 0.25)]
    held_out = units([run(1, 0, 0.5, ("mast",)), run(2, 0, 0.9, ("mast",)), run(3, 0, 0.4, ("beta",))])
    assert held_out == [("beta", 0.4, 0.0), ("mast", 0.7, 0.0)]


def test_every_split_counts_the_same_however_many_seeds_it_has() -> None:
    """Over runs the first has .627 and the second .587; over splits .560 and .570, as the test says."""
    seeds = (6, 1, 1, 1)
    scores = {"first": (0.9, 0.1, 0.1, 0.1), "second": (0.5, 0.3, 0.3, 0.3)}
    found = board(
        *(
            make(method, split, seed, mix=mix, leak=0.0, asw=0.0)
            for method, values in scores.items()
            for split, mix in enumerate(values)
            for seed in range(seeds[split])
        )
    )
    assert [(r.method.name, r.rank, round(r.overall.mean or 0.0, 9)) for r in found.rows] == [
        ("second", 1, 0.57),
        ("first", 2, 0.56),
    ]
    for each in found.rows:
        assert each.overall.mean == pytest.approx(interval(split_scores(each)).mean)
        assert each.overall.n == 9
    first = row(found, "first")
    assert first.metrics["mix"].mean == pytest.approx(0.3)
    assert first.aspects["batch_correction"].mean == pytest.approx((0.3 + 1) / 2)
    # The other ways to compute it agree.
    (tested,) = against_best(found, "unsupervised").values()
    assert tested.difference == pytest.approx(0.01)
    values = own_range(found, found.rows)
    means = overall(found, values.array, found.weights, values.units)
    assert means.tolist() == pytest.approx([0.57, 0.56])
    # Weighed by hand as by default, ranks are those of the board.
    second, first_too = stability(found, "unsupervised").values()
    by_hand = [found.by_weight[0.4, 0.6] for found in (second, first_too)]
    assert by_hand == [second.rank, first_too.rank] == [1, 2]


def test_between_controls_every_split_counts_the_same_too() -> None:
    ends = [
        make(name, split, mix=end, leak=1 - end, asw=2 * end - 1, is_control=True)
        for name, end in (("worst", 0.0), ("best", 1.0))
        for split in range(2)
    ]
    runs = [make("m", 0, seed, mix=0.8, leak=0.2, asw=0.6) for seed in range(3)]
    runs.append(make("m", 1, mix=0.4, leak=0.6, asw=-0.2))
    found = board(*ends, *runs)
    scores = between_controls(found)
    assert scores[method_key(row(found, "m").method)] == pytest.approx(0.6)


def test_every_held_out_label_counts_the_same_however_many_folds_it_has() -> None:
    records = []
    for number, (label, value) in enumerate([("a", 0.9), ("a", 0.9), ("a", 0.9), ("b", 0.3)]):
        made = make("m", number, mix=value, leak=1 - value, asw=2 * value - 1)
        split = made.split.model_copy(update={"unseen_labels": (label,)})
        records.append(made.model_copy(update={"split": split}))
    (only,) = board(*records).rows
    assert only.overall.mean == pytest.approx(0.6)
    assert only.overall.std == pytest.approx(0.3)  # of the runs


def test_over_data_sets_every_split_counts_the_same() -> None:
    values = {"a": (0.9, 0.1), "b": (0.4, 0.4)}
    boards = build_boards(
        [
            make(method, split, seed, mix=mix, leak=0.0, asw=0.0, dataset=dataset)
            for dataset in ("d", "e")
            for method, mixes in values.items()
            for split, mix in enumerate(mixes)
            for seed in range((3, 1)[split])
        ],
        SPECS,
    )
    (found,) = across(boards)
    for standing in found.standings:
        on_boards = [row(one, standing.row.method.method_id).overall.mean for one in boards]
        assert standing.by_dataset == pytest.approx(on_boards)
        assert standing.low < standing.mean < standing.high or standing.row.method.name == "b"
    assert [s.mean for s in found.standings] == pytest.approx([0.6, 0.58])  # a: .4 * .75 + .6 * .5


def test_a_comparison_averages_the_same_units_before_after_and_between() -> None:
    def runs(values: tuple[float, float]) -> list[RunRecord]:
        return [
            make("m", split, seed, mix=values[split]) for split in range(2) for seed in range((3, 1)[split])
        ]

    report = compare(runs((0.9, 0.1)), runs((0.8, 0.6)), {spec.metric_id: spec for spec in SPECS})
    (change,) = report.changes
    assert (change.before, change.after) == pytest.approx((0.5, 0.7))
    assert change.gain.mean == pytest.approx(change.after - change.before)


def test_a_change_by_rounding_alone_is_not_certain() -> None:
    before, after = ([make("m", split, mix=mix) for split in range(3)] for mix in (0.3, 0.1 + 0.2))
    (change,) = compare(before, after, {spec.metric_id: spec for spec in SPECS}).changes
    assert change.gain.low == change.gain.high != 0
    assert not change.is_certain
