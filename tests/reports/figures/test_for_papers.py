"""Figures for a paper."""

import pytest
from PIL import Image

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports import build_report, write
from cellular_bench.reports.figures.for_papers import boxes_canvas, heat_canvas, ranking_canvas

BOARD = "integration-toy-kfold"


@pytest.fixture(scope="module")
def boards(records, specs):
    return build_boards(records, specs.values())


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_ranking_has_the_mean_and_the_interval_of_every_complete_row(boards):
    board = boards[0]
    (ax,) = ranking_canvas(board).axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[1:4] == ["Harmony", "PCA", "CELLULAR"]
    points = {round(float(line.get_xdata()[0]), 6) for line in ax.lines if line.get_marker() == "o"}
    assert points == {round(row.overall.mean, 6) for row in board.rows if row.incomplete_because is None}
    spans = [line for line in ax.lines if line.get_marker() != "o"]
    assert len(spans) == len(names)
    assert all(0 <= value <= 1 for line in spans for value in line.get_xdata())


def test_the_dots_carry_the_means_and_missing_ones_a_dash(boards):
    (ax,) = heat_canvas(boards[0]).axes
    found = texts(ax)
    # the first row lacks kBET; Harmony: iLISI .5 and .7, kBET .3 and .5, ARI .2, cLISI .8
    assert found[:8] == [".60", "–", ".20", ".80", ".60", ".40", ".20", ".80"]


def test_boxes_need_three_runs(boards, make, specs):
    assert boxes_canvas(boards[0]) is None
    values = {"ilisi": 0.5, "kbet": 0.4, "ari": 0.2, "clisi": 0.9}
    runs = [make("PCA", split, values | {"ilisi": 0.1 * split}) for split in range(5)]
    (board,) = build_boards(runs, specs.values())
    first = boxes_canvas(board).axes[0]
    assert first.get_title() == "iLISI"
    median = next(line for line in first.lines if line.get_color() == "#1b2026")
    assert median.get_xdata()[0] == pytest.approx(0.2)


def test_only_the_formats_asked_for_are_written(records, specs, tmp_path):
    written = write(build_report(records, specs, title="t"), tmp_path, formats=("latex", "png", "csv"))
    names = sorted(str(path.relative_to(tmp_path)) for path in written)
    assert names[:4] == [
        "leaderboard.csv",
        "leaderboard.tex",
        "paper/annotation-toy-kfold-metrics.png",
        "paper/annotation-toy-kfold-ranking.png",
    ]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)
    with Image.open(tmp_path / "paper" / f"{BOARD}-ranking.png") as image:
        # 3.5 inches at 300 to the inch, give or take what the margins are cut
        assert 850 < image.width < 1200


def test_vectors_are_vectors(records, specs, tmp_path):
    write(build_report(records, specs, title="t"), tmp_path, formats=("svg", "pdf"))
    assert (tmp_path / "paper" / f"{BOARD}-ranking.pdf").read_bytes().startswith(b"%PDF-")
    assert "Harmony" in (tmp_path / "paper" / f"{BOARD}-metrics.svg").read_text(encoding="utf-8")
