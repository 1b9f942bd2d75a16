"""Different data under one name in one result folder: listed separately, never averaged."""

import csv
import re
from datetime import timedelta

import pytest

from cellular_bench.reports import build_report, write
from cellular_bench.reports.page.site import write_site_pages

METRICS = ("ilisi", "kbet", "ari", "clisi")
SIZES = {"a": ("toy", 1200), "b": ("toy", 300), "c": ("other", 500)}


def runs(make, sizes, *, later=""):
    """Good and Poor on data by the digit of their digest; those on ``later`` end an hour later."""
    found = []
    for i, (digit, (name, n_obs)) in enumerate(sizes.items()):
        data = {
            "dataset_id": name, "title": f"{name}.h5ad", "digest": digit * 64, "n_obs": n_obs,
            "n_vars": 10, "n_batches": 2, "n_labels": 2,
        }  # fmt: skip
        for method, score in {"Good": 0.8, "Poor": 0.4}.items():
            run = make(method, 0, dict.fromkeys(METRICS, score + i / 100), dataset=data, warnings=["odd"])
            end = run.finished_at + timedelta(hours=digit == later)
            found.append(run.model_copy(update={"run_id": f"{digit}-{method}", "finished_at": end}))
    return found


@pytest.fixture(scope="module")
def folder(make, specs, tmp_path_factory):
    out = tmp_path_factory.mktemp("versions")
    write(build_report(runs(make, SIZES), specs, title="t"), out)
    return out


def test_titles_tell_what_differs_and_other_data_keep_theirs(folder):
    text = (folder / "leaderboard.md").read_text("utf-8")
    heads = [line for line in text.splitlines() if line.startswith("## Integration")]
    assert heads == [
        "## Integration · other.h5ad (cross-validation over cells)",
        "## Integration · toy.h5ad, 1,200 cells (cross-validation over cells)",
        "## Integration · toy.h5ad, 300 cells (cross-validation over cells)",
    ]


def test_scores_have_a_column_to_group_by(folder):
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-2:] == ["dataset_version", "setting"]
    assert {(row["run_id"][0], row["dataset_version"]) for row in rows} == {
        ("a", "toy-aaaaaaaaaa"), ("b", "toy-bbbbbbbbbb"), ("c", "other-cccccccccc"),
    }  # fmt: skip


def test_provenance_tells_splits_and_warnings_apart(folder):
    page = (folder / "leaderboard.html").read_text("utf-8")
    for size in ("300", "1,200"):
        assert re.search(rf'name">toy, {size} cells</th>\s*<td><span class="val">fold-0</span></td>', page)
        assert re.search(
            rf'name">toy.h5ad, {size} cells</th>\s*<td class="wide"><span class="val">odd<', page
        )
        assert f"Integration · toy.h5ad, {size} cells</a></th>" in page, "places of a method"


def test_across_data_sets_the_largest_counts_and_the_page_says_so(folder):
    page = (folder / "leaderboard.html").read_text("utf-8")
    assert "<li>toy.h5ad, 1,200 cells counts, not toy.h5ad, 300 cells</li>" in page
    assert "Integration over 2 data sets" in page


@pytest.mark.parametrize(("later", "first", "second"), [("a", "a", "b"), ("b", "b", "a")])
def test_of_equally_large_ones_the_one_run_last_counts(make, specs, tmp_path, later, first, second):
    same = SIZES | {"a": ("toy", 300)}
    write(build_report(runs(make, same, later=later), specs, title="t"), tmp_path)
    reported = f"toy.h5ad, digest {first * 10} counts, not toy.h5ad, digest {second * 10}"
    assert reported in (tmp_path / "leaderboard.html").read_text("utf-8")


def test_nothing_is_said_of_versions_where_there_are_none(make, specs, tmp_path):
    write(build_report(runs(make, {"a": ("toy", 1200), "c": ("other", 500)}), specs, title="t"), tmp_path)
    page = (tmp_path / "leaderboard.html").read_text("utf-8")
    assert 'id="across"' in page and "Versions of a data set" not in page
    assert "toy.h5ad, 1,200 cells" not in page


def test_pages_of_a_site_use_the_titles_of_the_whole_folder(make, specs, tmp_path):
    records = runs(make, {"a": ("toy", 1200)})
    small = records[0].dataset.model_copy(update={"digest": "b" * 64, "n_obs": 300})
    other = make("Kind", 0, {"accuracy": 0.5}, task="annotation", dataset=small.model_dump())
    write_site_pages(build_report([*records, other], specs, title="t"), tmp_path)
    for task, size in (("integration", "1,200"), ("annotation", "300")):
        assert f" · toy.h5ad, {size} cells</" in (tmp_path / f"{task}.html").read_text("utf-8")
