"""What holds for a report of any folder, whatever stands in its names: attacks through records."""

import base64
import csv
import hashlib
import io
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellular_bench.benchmark.analysis.folder_comparison import compare
from cellular_bench.benchmark.results.progress import Overview, Running
from cellular_bench.benchmark.results.store import Damaged
from cellular_bench.core.text import MOST_NAME, one_line, visible
from cellular_bench.reports import build_report
from cellular_bench.reports.figures.for_papers import write_figures
from cellular_bench.reports.page.live import live_page
from cellular_bench.reports.page.page import page
from cellular_bench.reports.page.site import write_site_pages
from cellular_bench.reports.text.latex import latex
from cellular_bench.reports.text.markdown_and_csv import markdown, scores_csv
from cellular_bench.reports.text.published import published_markdown

MOST_BYTES = 8_000_000
seeds = st.integers(0, 10_000)
few = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
many = settings(few, max_examples=30)


class Parts(HTMLParser):
    """The elements and attributes of a page, its scripts, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.kinds: set[tuple[str, str]] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.inside: dict[str, str] = {"script": "", "style": ""}
        self.text = ""
        self.at = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at = tag
        self.kinds |= {(tag, ""), *((tag, name) for name, _ in attrs)}
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.at = ""

    def handle_data(self, data: str) -> None:
        if self.at in self.inside:
            self.inside[self.at] += data
        else:
            self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:80]}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data[:80]}")


def _check_page(text: str) -> Parts:
    """Check that a page runs its own script only, asks for nothing, and hides nothing."""
    parts = Parts(text)
    assert len(text.encode()) < MOST_BYTES
    (policy,) = (v for tag, name, v in parts.attributes if (tag, name) == ("meta", "content") and "-src" in v)
    assert policy.startswith("default-src 'none'; ")
    assert "script-src 'unsafe" not in policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(parts.inside[kind].encode()).digest()).decode()
        assert not parts.inside[kind] or f"'sha256-{digest}'" in policy
    assert text.count("<script") == (1 if parts.inside["script"] else 0)
    for tag, name, value in parts.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "action", "formaction", "data", "poster", "background"):
            ours = r"#|data:(image/|,$)|\.\./|https://doi\.org/|boards/|(integration|annotation|novelty|harm)[.-]"
            assert re.match(ours, value), (tag, name, value[:80])
            assert tag == "a" or value.startswith("data:")
        if name == "style":
            assert re.fullmatch(r"--v:\d\.\d{4}", value)
    ids = Counter(value for _, name, value in parts.attributes if name == "id")
    assert ids.most_common(1)[0][1] == 1
    targets = {value[1:] for _, name, value in parts.attributes if name == "href" and value.startswith("#")}
    assert targets <= ids.keys()
    assert visible(text) == text
    return parts


@given(seeds)
@few
def test_a_page_has_the_elements_of_a_harmless_one_and_every_name_as_text(hostile, seed):
    def made(records):
        return page(build_report(records, hostile.specs(), title=records[0].suite_id))

    records = hostile.records(seed)
    parts = _check_page(made(records))
    plain = Parts(made(hostile.records(seed, name=lambda text: f"t{hostile.NAMES.index(text)}")))
    assert parts.kinds <= plain.kinds | {("a", ""), ("a", "href"), ("a", "rel")}
    assert parts.inside == plain.inside
    shown = " ".join(parts.text.split())
    for record in records:
        assert " ".join(one_line(record.method.base_name, MOST_NAME).split()) in shown


@given(seeds)
@few
def test_a_site_is_harmless_too_and_its_numbers_are_json(hostile, tmp_path_factory, seed):
    out = tmp_path_factory.mktemp("site")
    report = build_report(hostile.records(seed), hostile.specs(), title="t", missing=hostile.missing(seed))
    for path in write_site_pages(report, out):
        text = path.read_text("utf-8")
        if path.suffix == ".html":
            _check_page(text)
        else:
            json.loads(text, parse_constant=lambda name: pytest.fail(name))


@given(seeds)
@many
def test_markdown_has_whole_tables_and_no_html(hostile, seed):
    report = build_report(hostile.records(seed), hostile.specs(), title="t", missing=hostile.missing(seed))
    for text in (markdown(report), published_markdown(report)):
        assert visible(text) == text
        assert "<" not in text
        assert not re.search(r"(?<!\\)`", text)
        links = re.findall(r"(?<!\\)\]\(([^)]*)\)", text)
        assert all(link.startswith("https://doi.org/") for link in links)
        width = 0
        for line in text.splitlines():
            n_cells = len(re.split(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            assert n_cells in (0, width) or not width
            width = n_cells


@given(seeds)
@many
def test_csv_has_a_line_per_score_and_no_formula(hostile, seed):
    records = hostile.records(seed)
    assert visible(scores_csv(records)) == scores_csv(records)
    rows = list(csv.DictReader(io.StringIO(scores_csv(records), newline="")))
    means = [value for record in records for one in record.per_group for value in one.values.values()]
    assert len(rows) == sum(max(1, len(record.scores)) for record in records) + len(means)
    of_groups = [row for row in rows if row["group_by"]]
    assert len(of_groups) == len(means)
    assert {row["metric_id"] for row in of_groups}.isdisjoint(s.metric_id for r in records for s in r.scores)
    for row in rows:
        assert None not in row and None not in row.values()
        for name, cell in row.items():
            is_number = bool(re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell))
            assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (name, cell)
    values = [s.value for record in records for s in record.scores if s.value is not None]
    assert [float(row["value"]) for row in rows if row["value"] and not row["group_by"]] == values
    assert [float(row["value"]) for row in of_groups] == means
    assert {row["run_id"].removeprefix("'") for row in rows} == {visible(record.run_id) for record in records}


#: Every command of ``leaderboard.tex``, and its special characters as text.
LATEX = re.compile(
    r"\\(begin|end)\{(table|tabular)\}|\\begin\{tabular\}\{[lrp{}\dcm]+\}|\\label\{tab:[\w-]+\}"
    r"|\\(caption|usepackage|textbf|textit|multicolumn|midrule|toprule|bottomrule|par|footnotesize)(?![a-z])"
    r"|\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|ldots)\{\}"
    r"|\$\\?(pm|-|downarrow|times|cdot|approx)\$|\\[&%$#_{}]|\\\\$",
    re.MULTILINE,
)


@given(seeds)
@many
def test_latex_has_our_commands_only_and_its_braces_close(hostile, seed):
    report = build_report(hostile.records(seed), hostile.specs(), title="t")
    text = latex(report)
    assert visible(text) == text
    rest = LATEX.sub("", text.partition("\n")[2])
    assert not re.search(r"[\\$#%_~^]", rest), re.search(r".{0,60}[\\$#%_~^].{0,60}", rest)
    depth = 0
    for char in rest:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"\\\\\n[\[*]", text)


@given(seeds)
@settings(few, max_examples=4)
def test_figures_for_papers_are_whole_and_run_nothing(hostile, tmp_path_factory, seed):
    report = build_report(hostile.records(seed), hostile.specs(), title="t")
    for path in write_figures(report, tmp_path_factory.mktemp("paper"), ["svg"]):
        tags = {element.tag.rpartition("}")[2] for element in ET.parse(path).iter()}
        assert not tags & {"script", "foreignObject", "a", "image", "iframe"}


@given(seeds)
@many
def test_two_folders_can_be_compared(hostile, seed):
    before, after = hostile.records(seed), hostile.records(seed, name=lambda text: text)
    found = compare(before, after, hostile.specs())
    assert found.lost == ()
    assert all(change.gain.mean == 0 for change in found.changes)


@given(seeds)
@few
def test_the_page_of_a_running_benchmark_is_harmless(hostile, seed):
    names = hostile.NAMES[seed % 7 :]
    now = datetime(2026, 3, 1, tzinfo=UTC)
    seen = Overview(
        n_planned=1000,
        statuses=Counter(ok=7, failed=len(names)),
        failures={("failed", name): 1 for name in names},
        running={name: Running(host="h", pid=1, started_at=now - timedelta(seconds=7)) for name in names},
        interrupted=tuple(names),
        damaged=tuple(Damaged(run_id="r", reason=name) for name in names),
        n_other=0,
        seconds_left=None,
        is_active=True,
    )
    _check_page(live_page(seen, title=names[0], interval=10, now=now))
