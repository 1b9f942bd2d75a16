"""Figures of curves and samples: what they say to those who do not see them, and that they stay small."""

import io

import numpy as np
import pytest
from PIL import Image

from cellular_bench.benchmark.analysis.curves import PLACES, Curve, Sample, precision_recall, roc
from cellular_bench.core.errors import UserError
from cellular_bench.reports.figures.novelty_curves import novelty_curves_figure, risk_figure, samples_figure


def _curves(n_methods):
    rng = np.random.default_rng(0)
    is_novel = rng.random(50_000) < 0.2
    found = {f"Method {i:02d}": rng.normal(size=is_novel.size) + is_novel * i * 0.2 for i in range(n_methods)}
    return tuple({n: curve(x, is_novel) for n, x in found.items()} for curve in (roc, precision_recall))


def test_the_best_curves_are_drawn_and_the_rest_is_counted():
    figure = novelty_curves_figure(*_curves(20))
    assert figure.kind == "curves"
    assert figure.caption.endswith("The 14 best of 20 are drawn.")
    assert "Largest areas under the ROC curve: Method 19 0.996, Method 18 " in figure.alt
    with Image.open(io.BytesIO(figure.data)) as image:
        assert image.format == "WEBP"
    assert len(figure.data) < 80_000


def test_the_risk_of_the_surer_half_is_told():
    curves = {"Sure": Curve(x=PLACES, y=0.1 * PLACES), "Blind": Curve(x=PLACES, y=np.full(201, 0.4))}
    figure = risk_figure(curves)
    assert figure.alt.endswith("Wrong in the surer half: Sure 5.0%, Blind 40.0%.")
    assert len(figure.data) < 60_000


def test_samples_are_counted_at_the_threshold_of_the_study():
    samples = [Sample(held_out=f"type {i % 7}", known=0.1 * i, novel=0.05 * i) for i in range(10)]
    figure = samples_figure(samples, threshold=0.26, title="CELLULAR, 10 runs")
    assert figure.alt == (
        "At 0.26, CELLULAR, 10 runs calls 6 of 10 samples with a held-out label novel, and 3 of 10 without."
    )
    assert len(figure.data) < 60_000


def test_nothing_to_draw_is_said():
    with pytest.raises(UserError, match="No method has a curve"):
        risk_figure({})
