"""Heavy figures go to pages beside the page; light ones stay in it."""

import re
from dataclasses import replace

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports import Figure, build_report, write
from cellular_bench.reports.page.figure_pages import (
    MOST_FIGURE_BYTES,
    figure_page,
    too_heavy,
    write_figure_pages,
)

PNG = b"\x89PNG\r\n\x1a\n"
BOARD = "integration-toy-kfold"


def _figures(n_bytes):
    kinds = (("curves", ""), ("embedding", "pca"), ("embedding", "cellular"), ("history", "cellular"))
    return [
        Figure(
            kind=kind,
            board_id=BOARD,
            method_id=method,
            caption=f"{kind} of {method}",
            data=PNG + bytes(n_bytes),
        )
        for kind, method in kinds
    ]


@pytest.fixture(scope="module")
def heavy(records, specs, tmp_path_factory):
    """Folder with the report of four figures of half a megabyte."""
    out = tmp_path_factory.mktemp("heavy")
    write(build_report(records, specs, title="Toy"), out, figures=_figures(500_000), formats=["html"])
    return out


def test_light_figures_stay_in_the_page(records, specs, tmp_path):
    report = build_report(records, specs, title="Toy")
    (path,) = write(report, tmp_path, figures=_figures(100), formats=["html"])
    text = path.read_text("utf-8")
    assert len(re.findall(r"<figcaption>(?:curves|embedding|history) of", text)) == 4
    assert not (tmp_path / "boards").exists()


def test_heavy_figures_are_in_a_page_of_their_board_the_best_method_first(heavy):
    text = (heavy / "leaderboard.html").read_text("utf-8")
    assert len(text) < 1_500_000
    assert re.findall(r"<figcaption>((?:curves|embedding|history) of \w*)", text) == ["curves of "]
    assert f'<a href="boards/{BOARD}.html">3 figures of single methods' in text
    figures_page = (heavy / "boards" / f"{BOARD}.html").read_text("utf-8")
    captions = re.findall(r"<figcaption>([^<]+)", figures_page)
    assert captions == ["embedding of cellular", "embedding of pca", "history of cellular"]
    assert f'href="../leaderboard.html#{BOARD}"' in figures_page
    assert "http" not in re.sub(r"http-equiv", "", figures_page)


def test_the_page_of_a_board_with_a_long_name_has_a_name_that_fits(records, specs, tmp_path):
    boards = []
    for last in "ab":  # they differ behind what is cut
        scheme = "ref." + "+".join(f"donor_{i:03d}_hospital" for i in range(20)) + last
        made = [
            record.model_copy(update={"split": record.split.model_copy(update={"scheme": scheme})})
            for record in records
        ]
        boards.append(build_boards(made, specs.values())[0])
    figures = [replace(_figures(100)[1], board_id=board.board_id) for board in boards]
    paths = write_figure_pages(boards, figures, tmp_path, back="leaderboard.html")
    assert len(set(paths)) == 2
    assert paths == [tmp_path / figure_page(board) for board in boards]


def test_what_is_too_heavy_depends_on_all_figures_together():
    assert too_heavy(_figures(MOST_FIGURE_BYTES // 4 - 8)) == ()
    assert [figure.kind for figure in too_heavy(_figures(MOST_FIGURE_BYTES // 4))] == [
        "embedding",
        "embedding",
        "history",
    ]


def test_an_overall_score_leads_to_the_runs_behind_it(heavy):
    text = (heavy / "leaderboard.html").read_text("utf-8")
    (row,) = re.findall(r'data-method="harmony".*?</tr>', text, re.DOTALL)[:1]
    (target,) = re.findall(r'<a class="val" href="#([^"]+)"', row)
    place = text[text.index(f'<tr id="{target}">') :]
    assert "fold-0, seed 3: 0.580; 8.00 CPU s, 1,500 MiB" in place[: place.index("</tr>")]
