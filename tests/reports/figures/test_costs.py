"""Score against cost: who is beaten in both."""

import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports.figures.canvas import as_vectors, new_canvas
from cellular_bench.reports.figures.costs import cost_canvas, cost_figure, points
from cellular_bench.reports.figures.point_labels import place_names

METRICS = ("ilisi", "kbet", "ari", "clisi")


def run(make, name, score, seconds, **changes):
    cost = {"wall_time_s": seconds, "cpu_time_s": seconds, "peak_rss_mib": 100.0}
    return make(name, 0, {**dict.fromkeys(METRICS, score), "ari": 2 * score - 1}, cost=cost, **changes)


@pytest.fixture(scope="module")
def board(make, specs):
    trained = {"method": {"labels": "train"}}
    runs = [run(make, "Quick", 0.4, 1.0), run(make, "Slow $x^2$", 0.8, 100.0)]
    runs += [run(make, "Beaten", 0.4, 50.0), run(make, "Labelled", 0.3, 60.0, **trained)]
    (only,) = build_boards(runs, specs.values())
    return only


def test_a_method_is_efficient_unless_another_of_its_track_is_as_good_and_as_quick(board):
    found = {point.name: (point.seconds, point.score, point.is_efficient) for point in points(board)}
    assert list(found) == ["Quick", "Beaten", "Labelled", "Slow $x^2$"]
    assert found["Quick"] == (1.0, pytest.approx(0.4), True)
    assert [found[name][2] for name in ("Beaten", "Labelled", "Slow $x^2$")] == [False, True, True]


def test_the_picture_is_the_same_vectors_each_time_and_names_every_method(board):
    picture = as_vectors(cost_canvas(board))
    assert picture == as_vectors(cost_canvas(board))
    texts = {
        "".join(element.itertext())
        for element in ET.fromstring(picture).iter()
        if element.tag.endswith("text")
    }
    assert {"Quick", "Beaten", "Labelled", "Slow $x^2$", "overall score"} <= texts


def test_words_say_what_the_picture_shows(board):
    assert cost_figure(board).caption == (
        "Overall score against CPU time. No other method of the track is better in both: Quick "
        "(unsupervised): 0.400 in 1.00 s; Labelled (supervised): 0.300 in 60.0 s; Slow $x^2$ "
        "(unsupervised): 0.800 in 100 s."
    )


def test_one_method_makes_no_picture(make, specs):
    (board,) = build_boards([run(make, "Only", 0.5, 1.0)], specs.values())
    assert cost_canvas(board) is None


def test_names_cover_neither_each_other_nor_points():
    canvas = new_canvas(6.4, 3.6, layout=None)
    ax = canvas.subplots()
    rng = np.random.default_rng(0)
    xy = 10 ** rng.normal(scale=[0.5, 0.03], size=(20, 2))
    ax.plot(*xy.T, "o", markersize=5)
    ax.set_xscale("log")
    ax.margins(x=0.15)
    names = [f"Method {i} of twenty" for i in range(20)]
    place_names(ax, xy, names, bold=[i % 5 == 0 for i in range(20)])
    assert sorted(text.get_text() for text in ax.texts) == sorted(names)
    canvas.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    assert [(i, j) for i, j in combinations(range(20), 2) if boxes[i].overlaps(boxes[j])] == []
    points_on_screen = ax.transData.transform(xy)
    assert [i for i, box in enumerate(boxes) if box.count_contains(points_on_screen)] == []
