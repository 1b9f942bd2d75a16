"""``scores.csv`` and ``leaderboard.md``: every run is there, and no text breaks a table."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports import build_report, write
from cellular_bench.reports.tables.formatting import bounds, number, ordinal, p_value, plural, quantity
from cellular_bench.reports.text.markdown_and_csv import CSV_COLUMNS, escape


@pytest.fixture(scope="module")
def rows(report: Path) -> list[dict[str, str]]:
    with (report / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def markdown(report: Path) -> str:
    return (report / "leaderboard.md").read_text(encoding="utf-8")


def test_csv_has_one_row_per_run_and_metric_and_one_for_a_failed_run(
    rows: list[dict[str, str]], records: list[RunRecord]
) -> None:
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == sum(max(1, len(record.scores)) for record in records) == 13 * 4 + 1 + 2
    assert {row["run_id"] for row in rows} == {record.run_id for record in records}


def test_csv_row_of_a_score(rows: list[dict[str, str]]) -> None:
    row = next(r for r in rows if r["run_id"] == "integration-harmony-1" and r["metric_id"] == "ilisi")
    assert float(row["value"]) == pytest.approx(0.7)
    assert json.loads(row["method_params"]) == {"k": 5, "alpha": 0.5}
    picked = ("suite_id", "task", "dataset_id", "split_id", "split_kind", "method_id", "seed", "status")
    assert [row[key] for key in picked] == [
        "core", "integration", "toy", "fold-1", "kfold", "harmony", "3", "ok",
    ]  # fmt: skip
    assert [row[key] for key in ("aspect", "wall_time_s", "cpu_time_s", "peak_rss_mib", "reason")] == [
        "batch_correction", "11.0", "8.0", "1500.0", "",
    ]  # fmt: skip


def test_csv_row_of_a_missing_score_and_of_a_failed_run(rows: list[dict[str, str]]) -> None:
    missing = next(r for r in rows if r["method_id"] == "flat" and r["metric_id"] == "clisi")
    assert (missing["value"], missing["value_reason"]) == ("", "output all cells coincide")
    (failed,) = [r for r in rows if r["status"] == "failed"]
    assert (failed["metric_id"], failed["value"], failed["wall_time_s"]) == ("", "", "")
    assert failed["reason"] == "ValueError: <b>bad</b> | input"


def test_markdown_tables_are_rectangular_whatever_is_in_a_name(markdown: str) -> None:
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(tables) > 20
    blocks: dict[str, set[int]] = {}
    for block in markdown.split("\n\n"):
        if block.startswith("|"):
            blocks[block] = {line.replace("\\|", "").count("|") for line in block.splitlines()}
    assert all(len(widths) == 1 for widths in blocks.values())


def test_markdown_rows_and_words(markdown: str) -> None:
    assert markdown.startswith("# Toy &lt;results&gt;\n\n15 of 16 runs succeeded; 1 failed.\n")
    assert (
        "| Harmony (transductive) | unsupervised | 2 | 0.620 [0.000, 1.000] | 0.500 ± 0.141 | 0.700 ± 0.000 "
        "| – | 2 of 2 | 10.5 ± 0.71 | 8.00 ± 0.00 | 1,500 ± 0.00 |"
    ) in markdown
    assert "| &lt;script&gt;alert('x')&lt;/script&gt;\\|a\\*b | unsupervised | 1 |" in markdown
    assert "Only 1 method with training labels: **CELLULAR**, " in markdown
    assert "| Crasher | fold-1 | 3 | **failed** | ValueError: &lt;b&gt;bad&lt;/b&gt; \\| input |" in markdown
    assert "Overall = the mean of Accuracy: mean with its 95 % confidence interval over splits." in markdown
    assert "[10.1000/xyz](https://doi.org/10.1000/xyz)" in markdown
    assert "<script" not in markdown


def test_files_are_the_same_each_time_and_replace_older_ones(
    records: list[RunRecord], specs: dict[str, MetricSpec], report: Path, tmp_path: Path
) -> None:
    (tmp_path / "scores.csv").write_text("old", encoding="utf-8")
    paths = write(build_report(records, specs, title="Toy <results>"), tmp_path)
    names = [path.name for path in paths]
    assert names == ["leaderboard.html", "scores.csv", "leaderboard.csv", "leaderboard.md"]
    for path in paths:
        assert path.read_bytes() == (report / path.name).read_bytes()


@pytest.mark.parametrize(
    ("text", "safe"),
    [("a|b", r"a\|b"), ("x\ny", "x y"), ("<b> & `c`", r"&lt;b&gt; &amp; \`c\`"), ("a\\|b", "a\\\\\\|b")],
)
def test_markdown_escapes(text: str, safe: str) -> None:
    assert escape(text) == safe


def test_numbers_are_written_for_people() -> None:
    assert [number(v) for v in (0.12345, -0.5, -0.0001, 1)] == ["0.123", "−0.500", "0.000", "1.000"]
    assert [quantity(v) for v in (0.004, 9.99, 12.34, 99.96, 1234.5)] == [
        "0.00",
        "9.99",
        "12.3",
        "100.0",
        "1,234",
    ]
    assert [ordinal(place) for place in (1, 2, 3, 4, 11, 22)] == ["1st", "2nd", "3rd", "4th", "11th", "22nd"]
    assert [bounds(0.51, 1.02), bounds(-0.1, 0.5)] == ["[0.510, 1.000]", "[0.000, 0.500]"]
    assert [p_value(p) for p in (0.0004, 0.0126, 1.0)] == ["p < 0.001", "p = 0.013", "p = 1.000"]
    assert [plural(n, w) for n, w in ((1, "batch"), (3, "batch"), (2, "run"))] == [
        "1 batch",
        "3 batches",
        "2 runs",
    ]


def test_methods_that_embed_the_scored_cells_alone_are_marked_where_others_learn_first(
    make: Callable[..., RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    values = {"ilisi": 0.5, "kbet": 0.5, "ari": 0.5, "clisi": 0.5}
    runs = [
        make("Harmony", 0, values, method={"inductive": False}),
        make("Symphony", 0, values | {"ilisi": 0.4}),
        make("Shuffled", 0, values, method={"inductive": False, "is_control": True}),
    ]
    split = runs[0].split.model_copy(update={"kind": "all"})
    at_once = [run.model_copy(update={"split": split}) for run in runs]
    write(build_report(runs, specs, title="Toy"), tmp_path / "apart")
    write(build_report(at_once, specs, title="Toy"), tmp_path / "at once")
    apart = (tmp_path / "apart" / "leaderboard.md").read_text(encoding="utf-8")
    assert "Best of 2 methods without labels: **Harmony (transductive)**" in apart
    assert "Transductive methods embed the scored cells alone; others learn from training" in apart
    assert "Symphony (transductive)" not in apart and "Shuffled (transductive)" not in apart
    # Where all cells are given at once, every method sees the cells that it embeds.
    at_once_text = (tmp_path / "at once" / "leaderboard.md").read_text(encoding="utf-8")
    assert "Harmony" in at_once_text and "ransductive" not in at_once_text


def test_intervals_are_over_held_out_labels_where_labels_were_held_out(
    make: Callable[..., RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    runs = []
    for name, value in (("Good", 0.9), ("Fair", 0.6)):
        for i, label in enumerate(("a", "b", "c")):
            run = make(name, i, {"auroc": value - 0.1 * i * (name == "Good")}, task="novelty")
            changed = {"kind": "unseen_label", "unseen_labels": (label,)}
            runs.append(run.model_copy(update={"split": run.split.model_copy(update=changed)}))
    write(build_report(runs, specs, title="Toy"), tmp_path)
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "Overall = the mean of AUROC: mean with its 95 % confidence interval over held-out labels." in text
    assert "95 % confidence interval over held-out labels" in page
    assert "t test over the same held-out labels, corrected for the number of methods" in page
