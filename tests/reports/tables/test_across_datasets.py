"""What a report says of several data sets."""

import pytest

from cellular_bench.reports import build_report, write
from cellular_bench.reports.figures.rank_diagram import rank_figure

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


def across_table(make, specs, n_datasets):
    report = build_report(records(make, n_datasets), specs, title="t")
    (section,) = report.comparisons
    (table,), (group,) = section.tables, report.across
    return table, group


@pytest.fixture(scope="module")
def made(make, specs):
    """The table of eight data sets, and what it is of."""
    return across_table(make, specs, 8)


def texts(table):
    return {row.full_name: [cell.text for cell in row.cells] for row in table.rows}


def test_means_ranks_and_draws_are_those_of_the_records(made):
    table, _ = made
    heads = [column.title for column in table.columns]
    assert heads[:7] == ["Mean", "95 % interval", "Average rank", "Best", "Wins", "Places", "Versus best"]
    assert heads[7:] == [f"Data {i}" for i in range(8)]
    rows = texts(table)
    assert list(rows) == ["Good", "Fair", "Poor (transductive)"]
    good, fair, poor = rows.values()
    assert [good[0], *good[2:4]] == ["0.735", "1.00", "100%"]
    # .4 + .005 - .02 * 3.5
    assert [poor[0], *poor[2:4]] == ["0.335", "3.00", "0%"]
    assert fair[7:] == [f"{0.605 - 0.02 * i:.3f}" for i in range(8)]
    low, high = map(float, good[1].strip("[]").split(", "))
    assert 0.69 < low < 0.735 < high < 0.78
    assert [row[4] for row in rows.values()] == ["100%", "50%", "0%"]
    assert [row[5] for row in rows.values()] == ["1st × 8", "2nd × 8", "3rd × 8"]


def test_a_method_that_was_not_run_everywhere_is_left_out_and_named(made):
    (remarks,) = made[0].remarks
    (item,) = remarks.items
    assert remarks.title == "Left out"
    assert item.startswith("Partial: not run on Data 1, Data 2, Data 3")


def test_the_verdict_names_the_test_and_its_critical_difference(made):
    table, group = made
    # chi2 = 16 with 2 degrees of freedom; CD = 2.3437 * sqrt(3 * 4 / (6 * 8))
    assert table.lead == (
        "Cross-validation over cells, overall scores with scIB weights. "
        "Average ranks differ significantly (Friedman test, p < 0.001): two "
        "methods do, at 5 %, if their ranks differ by 1.17 or more (Nemenyi). Pair by pair, Good differs "
        "significantly from 2 of 2 others (Wilcoxon signed-rank test, Holm, 5 %)."
    )
    assert rank_figure(group) is not None


def test_few_data_sets_get_a_table_without_a_test(make, specs):
    table, group = across_table(make, specs, 2)
    assert table.lead == (
        "Cross-validation over cells, overall scores with scIB weights. "
        "No test of ranks: a test of ranks needs 5 data sets and 3 methods; "
        "there are 2 and 3. No test of pairs: 2 data sets; a significant difference among so many methods "
        "needs 7."
    )
    assert [row[6] for row in texts(table).values()] == ["best", "–", "–"]
    assert rank_figure(group) is None


def test_every_format_has_the_table_and_the_page_leads_to_the_boards(make, specs, tmp_path):
    report = build_report(records(make, 2), specs, title="t")
    paths = write(report, tmp_path, formats=["html", "md", "latex"])
    page, markdown, latex = (path.read_text(encoding="utf-8") for path in paths)
    assert 'id="across"' in page
    assert '<a href="#integration-d1-kfold">Data 1</a>' in page
    assert "\n### Integration over 2 data sets, methods without labels\n" in markdown
    assert "| Good | 0.795 |" in markdown
    assert r"\caption{Across data sets: Integration over 2 data sets, methods without labels}" in latex


def test_one_data_set_has_no_such_section(report):
    assert 'id="across"' not in (report / "leaderboard.html").read_text(encoding="utf-8")
