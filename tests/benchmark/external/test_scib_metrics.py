"""Tables of scib-metrics' Benchmarker become records that say what the table tells, and no more."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from cellular_bench import UserError
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.external import scib_metrics as scib_results
from cellular_bench.benchmark.external.ranges import range_of
from cellular_bench.cli import group
from cellular_bench.results import Results

METRICS = {
    "Isolated labels": [0.61, 0.55],
    "KMeans NMI": [0.80, 0.70],
    "KMeans ARI": [0.70, 0.60],
    "Silhouette label": [0.58, 0.52],
    "cLISI": [1.0, 0.99],
    "BRAS": [0.85, 0.90],
    "iLISI": [0.20, 0.40],
    "KBET": [0.30, 0.50],
    "Graph connectivity": [0.90, 0.95],
    "PCR comparison": [0.60, 0.80],
}
BIO, BATCH = list(METRICS)[:5], list(METRICS)[5:]


def table(**changes) -> pd.DataFrame:
    """As get_results writes it: means behind the metrics, and their types in the last row."""
    made = pd.DataFrame({**METRICS, **changes}, index=pd.Index(["X_scVI", "X_scANVI"], name="Embedding"))
    made["Batch correction"], made["Bio conservation"] = made[BATCH].mean(axis=1), made[BIO].mean(axis=1)
    made["Total"] = 0.4 * made["Batch correction"] + 0.6 * made["Bio conservation"]
    made = made.astype(object)
    made.loc["Metric Type"] = ["Bio conservation"] * 5 + ["Batch correction"] * 5 + ["Aggregate score"] * 3
    return made


def test_a_table_becomes_a_folder_with_the_totals_that_it_states(tmp_path, capsys) -> None:
    table().to_csv(tmp_path / "scib.csv")
    arguments = ["import", "scib-metrics", str(tmp_path / "scib.csv"), "--dataset-id", "lung"]
    arguments += ["--saw-labels", "X_scANVI"]
    group.main([*arguments, "--out", str(tmp_path / "out")], standalone_mode=False)
    assert "Taken as made without labels: X_scVI;" in capsys.readouterr().out
    group.main(["merge", str(tmp_path / "out"), "--out", str(tmp_path / "merged")], standalone_mode=False)
    assert "2 records in" in capsys.readouterr().out, "what was imported has no outputs to miss"
    board = Results(tmp_path / "merged").leaderboard().set_index("method")
    stated = table()
    for name, track in (("X_scVI", "unsupervised"), ("X_scANVI", "sees scored labels")):
        assert board.overall[name] == pytest.approx(stated.loc[name, "Total"])
        assert board.bio_conservation[name] == pytest.approx(stated.loc[name, "Bio conservation"])
        assert board.batch_correction[name] == pytest.approx(stated.loc[name, "Batch correction"])
        assert board.track[name] == track
        assert board["rank"][name] == 1
    (record, _) = Results(tmp_path / "out").records
    assert (record.environment.python, record.dataset.n_obs, record.cost) == ("not stated", 0, None)


def made(numbers: pd.DataFrame):
    return scib_results.records(numbers, dataset_id="d", finished_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_names_of_code_mean_the_same_metrics() -> None:
    core = pytest.importorskip("scib_metrics.benchmark._core")
    theirs = {clean: raw for raw, clean in core.metric_name_cleaner.items()}
    raw = scib_results.checked(table().rename(columns=theirs), where="it")
    clean = scib_results.checked(table(), where="it")
    assert [run.scores for run in made(raw)] == [run.scores for run in made(clean)]
    # We have no sBEE, which their tables of 0.6 hold only where it was asked for.
    known = set(core.metric_name_cleaner) | set(theirs)
    assert known - {"sBEE", "sbee"} == set(scib_results.METRICS)


def test_every_metric_is_one_of_ours_with_its_aspect() -> None:
    known = registry.metrics()
    for metric_id, aspect in scib_results.METRICS.values():
        assert known[metric_id].aspect == aspect


def test_a_missing_value_stays_missing() -> None:
    holed = scib_results.checked(table(KBET=[np.nan, 0.5]), where="it")
    (first, second) = made(holed)
    (score,) = [score for score in first.scores if score.metric_id == "kbet_per_label"]
    assert (score.value, score.reason) == (None, "the table has no value")
    (board,) = build_boards([first, second], registry.metrics().values())
    assert [row.incomplete_because is None for row in board.rows] == [True, False]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.rename(columns={"KBET": "kBETT"}), "Unknown metric of scib-metrics in it 'kBETT'"),
        (lambda t: t.assign(**{"Bio conservation": 0.9}), "away from the mean of its metrics"),
        (lambda t: t.drop(columns="KMeans NMI"), "away from the mean of its metrics"),
        (lambda t: t.assign(KBET="high"), "other values than numbers"),
        (lambda t: t.iloc[[0, 0]], "names an embedding twice"),
        (lambda t: t[[]], "holds no score"),
    ],
)
def test_other_tables_are_refused(change, problem) -> None:
    with pytest.raises(UserError, match=problem):
        scib_results.checked(change(table().drop(index="Metric Type")), where="it")


def test_a_scaled_table_is_refused() -> None:
    raw = table().drop(index="Metric Type")[list(METRICS)].astype(float)
    scaled = (raw - raw.min()) / (raw.max() - raw.min())
    with pytest.raises(UserError, match="scaled between its rows"):
        scib_results.checked(scaled, where="it")


@pytest.mark.parametrize("theirs", scib_results.METRICS)
@pytest.mark.parametrize("outside", [1.01, 66.9, -0.51, 1.00001, np.inf, -np.inf, 1e9])
def test_a_value_outside_the_range_of_its_metric_is_refused(theirs, outside) -> None:
    values = pd.DataFrame({theirs: [0.5, outside]}, index=["a", "b"])
    with pytest.raises(UserError) as caught:
        scib_results.checked(values, where="t.csv")
    own = scib_results.METRICS[theirs][0]
    low, high = range_of(own)
    assert str(caught.value).startswith(
        f"t.csv: '{theirs}' of 'b' is {outside:.6g}; '{own}' ranges from {low:g} to {high:g}."
    )
    assert ("divide them by 100" in str(caught.value)) == (1 < outside <= 100)


@pytest.mark.parametrize("theirs", scib_results.METRICS)
@pytest.mark.parametrize("inside", [0.0, 1.0, 1 + 5e-7, -5e-7, 0.3, np.nan])
def test_the_ends_of_the_range_rounding_and_nothing_are_accepted(theirs, inside) -> None:
    values = pd.DataFrame({theirs: [0.5, inside], "BRAS": [0.1, 0.2]}, index=["a", "b"])
    assert len(made(scib_results.checked(values, where="it"))) == 2


def test_agreement_below_chance_is_in_the_range_of_rand_indices_alone() -> None:
    below = {theirs for theirs, (own, _) in scib_results.METRICS.items() if range_of(own)[0] < 0}
    assert {scib_results.METRICS[theirs][0] for theirs in below} == {"kmeans_ari", "leiden_ari"}


def test_names_of_embeddings_are_text(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("Embedding,BRAS,iLISI\n007,0.1,0.3\nNA,0.2,0.4\n7,0.5,0.6\n")
    assert scib_results.read(tmp_path / "t.csv").index.tolist() == ["007", "NA", "7"]


@pytest.mark.parametrize("name", ["lung/atlas", "../../../evil", "Lung", ""])
def test_a_name_that_is_no_part_of_a_file_name_is_refused(name, tmp_path) -> None:
    table().to_csv(tmp_path / "scib.csv")
    arguments = ["import", "scib-metrics", str(tmp_path / "scib.csv"), "--dataset-id", name]
    with pytest.raises(UserError, match="lower-case letters, digits and underscores, got: "):
        group.main([*arguments, "--out", str(tmp_path / "out")], standalone_mode=False)
    assert not (tmp_path / "out").exists()


def test_only_embeddings_of_the_table_can_have_seen_labels(tmp_path) -> None:
    numbers = scib_results.checked(table(), where="it")
    with pytest.raises(UserError, match="Did you mean 'X_scANVI'"):
        scib_results.records(numbers, dataset_id="d", finished_at=datetime.now(UTC), saw_labels=["X_scANV"])
