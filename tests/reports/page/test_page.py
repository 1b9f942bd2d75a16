"""The page: what it says, in which order, and that nothing in it can run or load."""

import csv
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports import Figure, build_report, write
from cellular_bench.reports.page.templating import data_uri
from cellular_bench.reports.tables.formatting import doi_url

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
BOARD = "integration-toy-kfold"
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Collects tags, the text of table rows, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.table = ""
        self.feed(text)
        for table in self.rows.values():
            table[:] = [[" ".join(cell.split()) for cell in row] for row in table]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.table = given.get("id") or ""
            self.rows[self.table] = []
        elif tag == "tr":
            self.rows[self.table].append([])
        elif tag in ("td", "th"):
            self.rows[self.table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[self.table][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of that name."""
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    return (report / "leaderboard.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_element_is_closed_and_ids_are_unique(page: Page) -> None:
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_links_within_the_page_lead_somewhere(page: Page) -> None:
    ids = {attrs.get("id") for _, attrs in page.tags}
    inner = [href[1:] for attrs in page.all("a") if (href := attrs["href"] or "").startswith("#")]
    assert len(inner) > 5
    assert set(inner) <= ids


def test_ranking_lists_groups_ranks_and_numbers_in_order(page: Page) -> None:
    rows = page.rows[f"{BOARD}-ranking"]
    assert [row[0] for row in rows if len(row) == 1] == [
        "Unsupervised saw no labels",
        "Supervised saw the labels of training cells only",
        "Controls mark the ends of the scale; not ranked",
        "Incomplete not ranked; means are over the runs that have a value",
    ]
    methods = [row[:2] for row in rows[1:] if len(row) > 1]
    # The name with the tags in it is text like any other.
    assert [name.split(" control")[0] for _, name in methods][:4] == [
        "<script>alert('x')</script>|a*b",
        "Harmony transductive",
        "PCA",
        "CELLULAR",
    ]
    assert [rank for rank, _ in methods][:4] == ["1", "2", "3", "1"]


def test_overall_is_four_tenths_batch_and_six_tenths_bio(page: Page) -> None:
    rows = page.rows[f"{BOARD}-ranking"]
    harmony = next(row for row in rows if len(row) > 1 and row[1] == "Harmony transductive")
    # batch per split (.5 + .3) / 2 = .4 and (.7 + .5) / 2 = .6; bio ((.2 + 1) / 2 + .8) / 2 = .7
    # overall .4 * .4 + .6 * .7 = .58 and .66: mean .62; two splits tell nothing
    assert harmony[2] == "0.620 [0.000, 1.000]"
    assert harmony[3:5] == ["0.500 ± 0.141", "0.700 ± 0.000"]
    assert harmony[5] == "– 2 common splits: too few for a p value; the best is ahead on 100% of 2 splits"
    assert harmony[6:] == ["2 of 2", "10.5 ± 0.71", "8.00 ± 0.00", "1,500 ± 0.00"]


def test_metrics_show_raw_values_and_why_one_is_missing(page: Page, text: str) -> None:
    rows = {row[0]: row for row in page.rows[f"{BOARD}-metrics"] if len(row) > 2}
    harmony = rows["Harmony transductive"]
    assert harmony[1:] == [
        "0.600 ± 0.141",
        "0.400 ± 0.141",
        "0.200 ± 0.000",
        "0.800 ± 0.000",
    ]
    assert rows["<script>alert('x')</script>|a*b"][2] == "– missing, note 1"
    assert rows["Crasher unsupervised"][1] == "0.990 note 2 1 of 2"
    assert "2 of 2 runs: data only one batch" in text
    assert "1 of 2 runs: run failed: ValueError: &lt;b&gt;bad&lt;/b&gt; | input" in text


def test_incomplete_rows_say_why(page: Page) -> None:
    cells = [row[1] for row in page.rows[f"{BOARD}-ranking"] if len(row) > 1]
    assert "Crasher unsupervised 1 of 2 runs without scores (1 failed)".replace(" ", "") in [
        cell.replace(" ", "") for cell in cells
    ]
    assert any("2 of 2 runs without an overall score (no cLISI)" in cell for cell in cells)


def test_failures_have_reason_and_log(page: Page) -> None:
    (failure,) = page.rows[f"{BOARD}-failures"][1:]
    assert failure[:4] == ["Crasher", "fold-1", "3", "failed"]
    assert failure[4] == "ValueError: <b>bad</b> | inputLast lines of its loga < b last line"


def test_per_label_scores_and_undefined_ones(page: Page) -> None:
    head, _, scibet = page.rows["annotation-toy-kfold-labels"]
    assert head == ["Method", "alpha30", "rare <1>0"]
    assert scibet == ["SciBet", "0.850", "– missing, note 1"]


def test_overview_says_the_best_of_each_track_and_how_runs_ended(text: str) -> None:
    flat = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    assert "Best of 3 methods without labels &lt;script&gt;" in flat
    assert "Only 1 method with training labels CELLULAR 0.900 [0.900, 0.900]" in flat
    assert "13 of 14 runs succeeded; 1 failed. 2 methods not ranked." in flat
    assert "overall = 0.4 × batch correction + 0.6 × bio conservation" in flat


def test_what_was_used_is_told(text: str, page: Page) -> None:
    for reported in (
        "Toy &amp; co",
        "1,200",
        "c0ffeec0ffee",
        "with uncommitted changes",
        "numpy 2.1.0",
        "f00df00df00d",
    ):
        assert reported in text
    assert ["toy", "fold-0", "cross-validation over cells", "960", "240", "none", "7", "3"] in [
        row[:8] for row in page.rows["splits"]
    ]
    assert "<code>alpha=0.5</code>, <code>k=5</code>" in text
    assert page.rows["warnings"][1] == ["Toy & co", "slow | <i>", "1"]
    assert page.rows["metric-definitions"][3][:5] == [
        "ARI",
        "Bio conservation",
        "What <it> says.",
        "−1 to 1",
        "higher",
    ]


def test_text_from_users_cannot_become_markup(page: Page, text: str) -> None:
    assert "<script>alert" not in text
    assert len(page.all("script")) == 1
    assert "<title>Toy &lt;results&gt;</title>" in text


def test_nothing_is_loaded_from_anywhere(page: Page, text: str) -> None:
    for tag, attrs in page.tags:
        assert (attrs.get("src") or "data:").startswith("data:"), tag
        if tag != "a":
            assert not (attrs.get("href") or "data:").startswith(("http", "//")), tag
    assert not re.search(r"url\(|@import|\bfetch\(|XMLHttpRequest|WebSocket|import\(", text)
    outside = {href for a in page.all("a") if (href := a["href"] or "").startswith("http")}
    assert outside == {"https://doi.org/10.1000/xyz", "https://doi.org/10.1000/toy"}
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")


def test_tables_are_marked_up_for_screen_readers(page: Page, text: str) -> None:
    assert text.count("<caption>") == len(page.all("table"))
    assert all(attrs.get("scope") for attrs in page.all("th"))
    regions = [attrs for attrs in page.all("div") if attrs.get("role") == "region"]
    assert len(regions) == len(page.all("table"))
    assert all(region.get("aria-labelledby") and region.get("tabindex") == "0" for region in regions)


def test_figures_are_inside_with_their_text(
    records: list[RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    figure = Figure(
        kind="embedding",
        board_id=BOARD,
        method_id="harmony",
        caption="A <caption>",
        data=PNG,
        alt='14 "types"',
    )
    path, *_ = write(build_report(records, specs, title="t"), tmp_path, figures=[figure])
    images = Page(path.read_text(encoding="utf-8")).all("img")
    (image,) = [image for image in images if image["alt"] == '14 "types"']
    assert (image["src"] or "").startswith("data:image/png;base64,iVBORw0KGgo")


def test_a_figure_without_a_row_is_refused(
    records: list[RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    figure = Figure(kind="embedding", board_id=BOARD, method_id="nobody", caption="c", data=PNG)
    with pytest.raises(UserError, match="'nobody' for board"):
        write(build_report(records, specs, title="t"), tmp_path, figures=[figure])
    assert list(tmp_path.iterdir()) == []


def test_no_records_is_refused(specs: dict[str, MetricSpec], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one run record"):
        write(build_report([], specs, title="t"), tmp_path)


def test_a_method_with_other_parameters_is_told_apart(
    make: Callable[..., RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    values = {"ilisi": 0.5, "kbet": 0.5, "ari": 0.5, "clisi": 0.5}
    one = make("Harmony", 0, values)
    two = make("Harmony", 0, values, method={"params": {"k": 9}}).model_copy(update={"run_id": "two"})
    path, *_ = write(build_report([one, two], specs, title="t"), tmp_path)
    rows = Page(path.read_text(encoding="utf-8")).rows[f"{BOARD}-ranking"]
    assert sorted(row[1] for row in rows if len(row) > 2)[:2] == [
        "Harmonyalpha=0.5, k=5",
        "Harmonyalpha=default, k=9",
    ]


@pytest.mark.parametrize(
    "given", ["10.1/a", "doi:10.1/a", "https://doi.org/10.1/a", "http://dx.doi.org/10.1/a"]
)
def test_dois_become_links_however_they_are_written(given: str) -> None:
    assert doi_url(given) == "https://doi.org/10.1/a"


def test_pictures_are_recognised_by_their_content() -> None:
    assert data_uri(b"RIFF0000WEBPxx").startswith("data:image/webp;base64,")
    assert data_uri(b"<svg xmlns='x'/>").startswith("data:image/svg+xml;base64,")
    with pytest.raises(UserError, match="neither PNG, WebP nor SVG"):
        data_uri(b"GIF89a")


def test_a_value_that_rests_on_a_shortcut_is_marked_and_says_why(
    make: Callable[..., RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    shortcut = {
        "quantity": "silhouettes", "description": "Half of <the> cells.", "metric_ids": ["ari"],
        "figures": {"n_sampled": 600, "seed": 0},
    }  # fmt: skip
    values = {"ilisi": 0.5, "kbet": 0.3, "ari": 0.2, "clisi": 0.8}
    run = make("Harmony", 0, values, evaluation={"profile": "fast", "shortcuts": [shortcut]})
    scores = [
        s.model_copy(update={"standard_error": 0.0123}) if s.metric_id == "ari" else s for s in run.scores
    ]
    approximate = run.model_copy(update={"scores": tuple(scores)})
    write(build_report([approximate], specs, title="Shortcuts"), tmp_path)
    text = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    marks = [given for given in Page(text).all("abbr") if given.get("class") == "approximate"]
    assert [given["title"] for given in marks] == ["Half of <the> cells. Standard error 0.012."]
    assert (tmp_path / "leaderboard.md").read_text(encoding="utf-8").count("≈ 0.200") == 1
    rows = (tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert {row["standard_error"] for row in csv.DictReader(rows) if row["metric_id"] == "ari"} == {"0.0123"}
    assert [row["profile"] for row in csv.DictReader(rows)] == ["fast"] * 4
