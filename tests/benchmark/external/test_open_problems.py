"""Published results of Open Problems as records of ours, on lists small enough to work out by hand."""

import gzip
import json
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.external import open_problems
from cellular_bench.benchmark.external.rank_comparison import ways
from cellular_bench.benchmark.results.store import Store
from cellular_bench.cli.import_results import command
from cellular_bench.core.errors import UserError
from cellular_bench.reports import build_report, write

RESOURCES = {"submit": "2025-01-23 17:13:33", "duration_sec": 50, "cpu_pct": 200.0, "peak_memory_mb": 900}
METHODS = [
    {"method_id": name, "method_name": name.capitalize(), "is_baseline": name in ("low", "high")}
    for name in ("low", "high", "first", "second", "killed", "scanvi")
]
DATASETS = [{"dataset_id": "atlas/lung", "dataset_name": "Lung atlas"}]


def result(method, mean_score, *, code=0, dataset="atlas/lung", **metrics):
    values = {"ilisi": "NA", "ari": "NA", "hvg_overlap": "NA", "isolated_label_f1": "NA"} | metrics
    resources = RESOURCES | {"exit_code": code} | ({"duration_sec": "NA", "cpu_pct": "NA"} if code else {})
    return {
        "dataset_id": dataset,
        "method_id": method,
        "metric_values": values,
        "scaled_scores": {},
        "mean_score": mean_score,
        "resources": resources,
    }


#: First: iLISI (.4 - .1) / .5 = .6 and ARI .8. Second: ARI above the better control, and the overlap .2 / .4.
RESULTS = [
    result("low", 0.0, ilisi=0.1, ari=0.0, hvg_overlap=0.6),
    result("high", 0.75, ilisi=0.6, ari=0.9, hvg_overlap=1.0),
    result("first", (0.6 + 0.72 / 0.9) / 4, ilisi=0.4, ari=0.72),
    result("second", (0.5 + 1 + 0.5) / 4, ilisi=0.35, ari=0.99, hvg_overlap=0.8),
    result("killed", 0, code=143),
    result("scanvi", 0, code=99),
    result("first", 0, dataset=None),
]


@pytest.fixture
def files(tmp_path):
    """Result, method and data set lists as files, one of them compressed."""
    paths = []
    for name, entries in (("results", RESULTS), ("method_info", METHODS), ("dataset_info", DATASETS)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(entries))
    packed = tmp_path / "results.json.gz"
    packed.write_bytes(gzip.compress(paths[0].read_bytes()))
    return [packed, *paths[1:]]


@pytest.fixture
def published(files):
    return open_problems.read(files)


def test_a_result_becomes_a_record(published):
    runs = {run.method.method_id: run for run in open_problems.records(published)}
    assert len(runs) == 6  # the seventh names no data set
    first = runs["first"]
    assert (first.task, first.dataset.dataset_id, first.dataset.title) == (
        "integration",
        "lung",
        "Lung atlas",
    )
    assert first.value("leiden_ari") == 0.72
    assert first.cost is not None
    assert (first.cost.wall_time_s, first.cost.cpu_time_s, first.cost.peak_rss_mib) == (50, 100, 900)
    missing = {s.metric_id: s.undefined_by for s in first.scores if s.value is None}
    assert missing == {"hvg_overlap": "output", "isolated_label_f1": "data"}
    assert (runs["killed"].status, runs["scanvi"].status) == ("failed", "not_applicable")
    assert runs["low"].method.is_control
    assert runs["scanvi"].method.labels == "all"


@pytest.mark.parametrize("name", ["atlas/..", "atlas/", "Lung atlas"])
def test_a_data_set_whose_name_is_no_part_of_a_file_name_is_refused(published, name):
    odd = replace(published, results=(result("first", 0, dataset=name),))
    with pytest.raises(UserError, match="Data set names are made of"):
        open_problems.records(odd)


def test_their_rule_as_worked_by_hand(published):
    scores = open_problems.their_scores(open_problems.records(published))
    assert scores["first"]["lung"] == pytest.approx(0.35)
    assert scores["second"]["lung"] == pytest.approx(0.5)
    assert scores["killed"]["lung"] == 0.0
    assert open_problems.check(published, open_problems.records(published)) < 1e-12


def test_scores_that_their_rule_does_not_give_are_refused(published, files, tmp_path):
    changed = [dict(entry) for entry in RESULTS]
    changed[2]["mean_score"] = 0.36
    other = tmp_path / "other.json"
    other.write_text(json.dumps(changed))
    found = open_problems.read([other, *files[1:]])
    with pytest.raises(UserError, match=r"'first' on 'atlas/lung' scores 0\.0100 away"):
        open_problems.check(found, open_problems.records(found))


@pytest.mark.parametrize(
    ("task", "theirs"), [(task, name) for task, own in open_problems.METRICS.items() for name in own]
)
@pytest.mark.parametrize("outside", [1.01, 72.5, -0.51, "high", float("inf")])
def test_a_value_outside_the_range_of_its_metric_is_refused(files, tmp_path, task, theirs, outside):
    del task  # it follows from the name of a metric
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{**RESULTS[0], "metric_values": {theirs: outside}}]))
    with pytest.raises(UserError) as caught:
        open_problems.read([other, *files[1:]])
    assert str(caught.value).startswith(f"{other}: '{theirs}' of 'low' on 'atlas/lung' is ")
    assert ("divide them by 100" in str(caught.value)) == (outside in (1.01, 72.5))


@pytest.mark.parametrize("nothing", ["NA", None, float("nan")])
def test_a_value_that_is_missing_is_missing_however_it_is_written(files, tmp_path, nothing):
    other = tmp_path / "other.json"
    other.write_text(json.dumps([result("first", 0.5, ilisi=nothing, ari=-0.0002)]))
    (record,) = open_problems.records(open_problems.read([other, *files[1:]]))
    assert record.values == {"leiden_ari": -0.0002}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((0,), "list of methods is missing"),
        ((0, 0, 1), "second list of results"),
        ((2,), "results is missing"),
    ],
)
def test_lists_that_are_missing_or_come_twice_are_named(files, chosen, message):
    with pytest.raises(UserError, match=message):
        open_problems.read([files[i] for i in chosen])


def test_each_step_to_our_rule_changes_one_thing(published):
    runs = open_problems.records(published)
    boards = build_boards(runs, registry.metrics().values())
    found = {way.method_id: way for way in ways(boards, runs)}
    first, second = found["first"], found["second"]
    assert (first.ranks, second.ranks) == ((2, 1, 2, 2), (1, 2, 1, 1))
    # without zeros for what is missing: (.6 + .8) / 2, and (.5 + 1 + .5) / 3
    assert first.scores[1] == pytest.approx(0.7)
    assert second.scores[1] == pytest.approx(2 / 3)
    # .4 iLISI and .6 ARI; the overlap of variable genes is not part of our overall score
    assert first.scores[2] == pytest.approx(0.4 * 0.6 + 0.6 * 0.8)
    assert second.scores[2] == pytest.approx(0.4 * 0.5 + 0.6 * 1.1)
    assert second.scores[3] == pytest.approx(0.4 * 0.35 + 0.6 * 0.99)
    assert found["killed"].scores == (0.0, None, None, None)
    assert found["low"].ranks == (None,) * 4


def test_the_command_writes_a_folder_that_makes_a_leaderboard(files, tmp_path, capsys):
    out = tmp_path / "op"
    command.main(["open-problems", *map(str, files), "--out", str(out)], standalone_mode=False)
    reported = capsys.readouterr().out
    assert "6 results of 1 data sets" in reported
    assert "Left out: 1 results that name no data set." in reported
    lines = (out / "open-problems.md").read_text("utf-8").splitlines()
    (second,) = (line for line in lines if line.startswith("| Second |"))
    assert "| 1 (0.500) | 2 (0.667) | 1 (0.860) | 1 (0.734) |" in second
    records = list(Store.open(out).records())
    report = build_report(records, registry.metrics(), title="Theirs")
    page = write(report, out, formats=["html"])[0].read_text("utf-8")
    assert "size not stated" in page
    assert "its process was ended from outside, as for time or memory (exit code 143)" in page


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("NA"),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["ari", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_attack_by_any_value_is_refused_in_words(tmp_path, data):
    """Whatever stands in the place of one value, the lists are read or refused."""
    lists = json.loads(json.dumps([RESULTS, METHODS, DATASETS]))
    entry = data.draw(st.sampled_from([entry for entries in lists for entry in entries]))
    for _ in range(data.draw(st.integers(0, 1))):
        entry = data.draw(
            st.sampled_from([value for value in entry.values() if isinstance(value, dict)] or [entry])
        )
    if entry:
        entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(JSON)
    paths = [tmp_path / f"{i}.json" for i in range(3)]
    for path, entries in zip(paths, lists, strict=True):
        path.write_text(json.dumps(entries))
    try:
        open_problems.records(open_problems.read(paths))
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 10**5,
        b"[{}]",
        b"[1]",
        b"{}",
        b"",
        b"\xff",
        gzip.compress(b"[]", mtime=0)[:-4],
        b"\x1f\x8b",
        b"[" + b"1" * 9999 + b"]",
    ],
)
def test_attacks_by_json_are_refused_in_words(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json"):
        open_problems.read([tmp_path / "a.json"])


def test_attacks_by_a_pipe_and_a_bomb_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        open_problems.read([tmp_path / "pipe"])
    (tmp_path / "bomb").write_bytes(gzip.compress(b"[" + b" " * 10**6 + b"]"))
    monkeypatch.setattr(open_problems, "MOST_BYTES", 10**5)
    with pytest.raises(UserError, match="more than 100000 bytes"):
        open_problems.read([tmp_path / "bomb"])
