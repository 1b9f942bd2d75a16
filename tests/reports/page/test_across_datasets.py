"""What the page says of several data sets."""

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports import write
from cellular_bench.reports.page.across_datasets import across_views

METRICS = ("ilisi", "kbet", "ari", "clisi")


def records(make, n_datasets):
    """Good, Fair and Poor on every data set, Partial on the first only; two splits each."""
    found = []
    for i in range(n_datasets):
        data = {
            "dataset_id": f"d{i}", "title": f"Data {i}", "digest": f"{i}" * 64, "n_obs": 100,
            "n_vars": 10, "n_batches": 2, "n_labels": 2,
        }  # fmt: skip
        for name, score in {"Good": 0.8, "Fair": 0.6, "Poor": 0.4, "Partial": 0.9}.items():
            if name == "Partial" and i:
                continue
            for split in range(2):
                value = score + 0.01 * split - 0.02 * i
                scores = {**dict.fromkeys(METRICS, value), "ari": 2 * value - 1}
                run = make(name, split, scores, dataset=data, method={"inductive": name != "Poor"})
                found.append(run.model_copy(update={"run_id": f"{i}-{run.run_id}"}))
    return found


@pytest.fixture(scope="module")
def view(make, specs):
    (only,) = across_views(build_boards(records(make, 8), specs.values()))
    return only


def test_means_ranks_and_draws_are_those_of_the_records(view):
    good, fair, poor = view.lines
    assert (good.name, good.mean, good.mean_rank, good.share_best) == ("Good", "0.735", "1.00", "100%")
    # .4 + .005 - .02 * 3.5
    assert (poor.mean, poor.mean_rank, poor.share_best) == ("0.335", "3.00", "0%")
    assert poor.name == "Poor (transductive)"
    assert fair.by_dataset == tuple(f"{0.605 - 0.02 * i:.3f}" for i in range(8))
    low, high = map(float, good.interval.strip("[]").split(", "))
    assert 0.69 < low < 0.735 < high < 0.78
    assert [line.win_rate for line in view.lines] == ["100%", "50%", "0%"]
    assert [line.places for line in view.lines] == ["1st × 8", "2nd × 8", "3rd × 8"]


def test_a_method_that_was_not_run_everywhere_is_left_out_and_named(view):
    ((name, reason),) = view.left_out
    assert name == "Partial"
    assert reason.startswith("not run on Data 1, Data 2, Data 3")


def test_the_verdict_tells_the_test_and_its_critical_difference(view):
    # chi2 = 16 with 2 degrees of freedom; CD = 2.3437 * sqrt(3 * 4 / (6 * 8))
    assert view.verdict == (
        "Average ranks differ (Friedman test, p < 0.001); two methods are told apart at 5 % where their "
        "ranks differ by 1.17 or more (Nemenyi). Pair by pair, Good is told apart at 5 % from 2 of 2 others "
        "(Wilcoxon signed-rank test, Holm)."
    )
    assert view.picture is not None


def test_few_data_sets_get_a_table_without_a_test(make, specs):
    (view,) = across_views(build_boards(records(make, 2), specs.values()))
    assert view.verdict == (
        "No test: a test of ranks needs 5 data sets and 3 methods; there are 2 and 3. No test pair by "
        "pair: 2 data sets: signed ranks need 7 to tell any of so many methods apart at 5 %."
    )
    assert [line.told_from_best for line in view.lines] == ["best", "–", "–"]
    assert view.picture is None


def test_the_page_shows_the_section_and_leads_to_the_boards(make, specs, tmp_path):
    page = write(records(make, 2), specs, tmp_path, title="t")[0].read_text(encoding="utf-8")
    assert 'id="across"' in page
    assert 'href="#integration-d1-kfold">0.785</a>' in page


def test_one_data_set_has_no_such_section(report):
    assert 'id="across"' not in (report / "leaderboard.html").read_text(encoding="utf-8")
