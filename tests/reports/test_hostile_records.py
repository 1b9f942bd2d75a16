"""Records that once stopped a report, or made one that no browser opens: attacks one by one."""

import json

import numpy as np
import pytest

from cellular_bench.benchmark.schema.record_files import read_record
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.errors import UserError
from cellular_bench.reports import build_report, write
from cellular_bench.reports.figures.canvas import as_vectors, label_axes, new_canvas, plain
from cellular_bench.reports.figures.point_labels import place_names
from cellular_bench.reports.tables.model import MOST_CONTROLS, MOST_ROWS
from cellular_bench.reports.text.markdown_and_csv import inert

ALL = ("html", "csv", "md", "latex", "svg")
PLAIN = {"ilisi": 0.5, "kbet": 0.3, "ari": 0.2, "clisi": 0.8}


@pytest.mark.parametrize("name", ["\u200b", "\u200d", "\u00ad", "\ufeff", "\u3164", "\u0301", "", " ", "\n"])
def test_names_without_width_are_shown(make, specs, tmp_path, name):
    records = [
        make(name, 0, PLAIN),
        make("PCA", 0, PLAIN | {"ari": 0.4}).model_copy(update={"run_id": "other"}),
    ]
    for path in write(build_report(records, specs, title="t"), tmp_path, formats=ALL):
        assert path.stat().st_size


@pytest.mark.parametrize("corner", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5)])
def test_a_name_that_fits_nowhere_is_written_all_the_same(corner):
    canvas = new_canvas(1, 1, layout=None)
    ax = canvas.subplots()
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    place_names(ax, np.array([corner]), ["W" * 24], bold=[True])
    assert [text.get_text() for text in ax.texts] == ["W" * 24]


@pytest.mark.parametrize("status", ["failed", "timeout", "not_applicable"])
def test_a_board_without_a_scored_row_has_its_reasons(make, specs, tmp_path, status):
    records = [
        make(name, split, {}, status=status, reason=f"{name} has no graphics card", cost=None)
        for name in ("A", "B")
        for split in (0, 1)
    ]
    paths = {
        path.name: path for path in write(build_report(records, specs, title="t"), tmp_path, formats=ALL)
    }
    for name in ("leaderboard.html", "leaderboard.md", "leaderboard.tex", "scores.csv"):
        assert paths[name].read_text("utf-8").count("A has no graphics card") >= 2
    assert "No method has a complete set of runs." in paths["leaderboard.html"].read_text("utf-8")


@pytest.mark.parametrize(
    "field", ["reason", "log_tail", "notes", "name", "split_id", "title", "params", "label", "group"]
)
def test_a_text_of_megabytes_does_not_make_a_page_of_megabytes(make, specs, tmp_path, field):
    long = "ab " * 1_700_000
    run = make("A", 0, {"accuracy": 0.9}, task="annotation", per_label=[
        {"label": "a", "support": 3, "n_predicted": 3, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    ])  # fmt: skip
    fields = run.model_dump()
    if field in ("reason", "log_tail"):
        fields |= {"status": "failed", "reason": "ended", "scores": [], "per_label": [], field: long}
    elif field == "notes":
        fields["notes"] = [long] * 3
    elif field == "label":
        fields["per_label"][0]["label"] = long
    elif field == "group":
        fields["per_group"] = [
            {"by": by, "name": long, "n": 3, "values": {"batch_mixing": 0.5}} for by in ("label", "batch")
        ]
    else:
        part = {"split_id": "split", "title": "dataset"}.get(field, "method")
        fields[part][field] = {"x": long} if field == "params" else long
    records = [RunRecord(**fields), make("B", 1, {"accuracy": 0.9}, task="annotation")]
    for path in write(build_report(records, specs, title="t"), tmp_path):
        limit = 300_000 if path.suffix != ".csv" else 30_000_000
        assert path.stat().st_size < limit


def test_long_names_that_are_equal_once_cut_stay_two_rows(make, specs, tmp_path):
    names = ["x" * 500 + end for end in "ab"]
    records = [make(name, 0, PLAIN, method={"method_id": f"m{i}"}) for i, name in enumerate(names)]
    records = [r.model_copy(update={"run_id": f"r{i}"}) for i, r in enumerate(records)]
    report = build_report(records, specs, title="t")
    rows = report.board_reports[0].tables[0].rows
    assert len({row.full_name for row in rows}) == 2
    assert all(len(row.full_name) < 200 for row in rows)


@pytest.mark.parametrize(("n", "n_datasets", "most"), [(1200, 1, MOST_ROWS), (500, 6, 100)])
def test_many_methods_are_shown_in_part_and_counted(hostile, tmp_path, n, n_datasets, most):
    records = hostile.many_methods(n, n_datasets=n_datasets, n_splits=1)
    report = build_report(records, hostile.specs(), title="t")
    ranking = report.board_reports[0].tables[0]
    ranks = [row.cells[0].text for row in ranking.rows if row.track != "control"]
    assert ranks == [str(rank) for rank in range(1, most + 1)]
    assert sum(row.track == "control" for row in ranking.rows) == min(MOST_CONTROLS, n // 100)
    paths = write(report, tmp_path, formats=("html", "csv", "md"))
    for path in paths:
        assert path.suffix == ".csv" or path.stat().st_size < 8_000_000
    assert paths[1].read_text("utf-8").count("\n") == 1 + len(hostile.METRICS["integration"]) * len(records)
    left = f"{n - len(ranking.rows):,} more methods are left out here. scores.csv has every run"
    assert left in paths[0].read_text("utf-8")
    assert paths[2].read_text("utf-8").count("\n") == 1 + sum(len(board.rows) for board in report.boards)
    assert left in paths[3].read_text("utf-8")


def test_dollars_in_names_are_no_mathematics():
    canvas = new_canvas(3, 2)
    ax = canvas.subplots()
    bad = r"$\frac{$ $x_1$"
    ax.plot([0, 1], [0, 1], label=plain(bad))
    ax.legend()
    label_axes(ax, bad, bad, title=bad)
    canvas.suptitle(bad)
    place_names(ax, np.array([(0.5, 0.5)]), [bad], bold=[True])
    assert as_vectors(canvas).decode().count(r"$\frac{$ $x_1$") >= 5


@pytest.mark.parametrize(
    "when", ["2026-01-02T03:04:05", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
def test_a_time_without_a_zone_or_out_of_range_is_refused(make, tmp_path, when):
    fields = json.loads(make("A", 0, PLAIN).model_dump_json())
    path = tmp_path / "record.json"
    path.write_text(json.dumps(fields | {"started_at": when}), encoding="utf-8")
    with pytest.raises(UserError, match="started_at"):
        read_record(path)


def test_times_are_kept_in_utc(make):
    fields = make("A", 0, PLAIN).model_dump() | {"started_at": "2026-01-02T03:04:05+02:00"}
    assert RunRecord(**fields).started_at.isoformat() == "2026-01-02T01:04:05+00:00"


@pytest.mark.parametrize("number", [-0.5, 3, "-0.123456", "+1e-5", "0.5", "", None])
def test_numbers_stay_numbers_in_csv(number):
    assert inert(number) == number


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@x", "\t=1", "\r=1", "\n=1", "--1", "-", "＝1"])
def test_formulas_are_text_in_csv(text):
    assert inert(text).startswith("'")
