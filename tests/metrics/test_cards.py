"""Every metric has a card, the card tells the truth, and its example runs."""

import doctest

import numpy as np
import pytest

from cellular_bench import metrics
from cellular_bench.core.errors import UnknownNameError
from cellular_bench.metrics import METRICS, card, metric
from cellular_bench.metrics.cards import render, render_all


@pytest.mark.parametrize("metric_id", METRICS)
def test_every_card_is_complete(metric_id):
    assert card(metric_id).missing == ()


@pytest.mark.parametrize("metric_id", METRICS)
def test_the_example_of_every_card_runs(metric_id):
    names = {**{name: getattr(metrics, name) for name in metrics.__all__}, "np": np}
    example = doctest.DocTestParser().get_doctest(card(metric_id).example, names, metric_id, None, 0)
    assert len(example.examples) > 0
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.fixture
def registered():
    known = dict(METRICS)
    yield metric(metric_id="mine", name="Mine", aspect="novelty", definition="Counts.", maximum=2.0)
    METRICS.clear()
    METRICS.update(known)


def test_parts_are_read_from_the_docstring(registered):
    @registered
    def mine(novelty):
        """Count.

        Notes
        -----
        Anything.

        Formula: a +
        b.

        Fooled by: ties.

        Examples
        --------
        >>> 1 + 1
        2

        References
        ----------
        doi:10.1
        """

    found = card("mine")
    assert (found.formula, found.fooled_by, found.example) == ("a + b.", "ties.", ">>> 1 + 1\n2")
    assert "- Range: 0 to 2; higher is better" in render(found)
    assert "- Needs: `novelty`" in render(found)


def test_missing_parts_are_named(registered):
    @registered
    def mine(novelty):
        """Count."""

    assert card("mine").missing == ("formula", "fooled_by", "example")
    assert "- Formula: (not written yet)" in render(card("mine"))


def test_an_unknown_metric_is_explained():
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        card("acuracy")


def test_the_document_is_up_to_date(repo):
    assert (repo / "docs" / "metrics.md").read_text(encoding="utf-8") == render_all(), (
        "write it with: run-benchmark list metrics --format markdown > docs/metrics.md"
    )


def test_the_document_has_every_metric_once():
    text = render_all()
    for metric_id, spec in METRICS.items():
        assert text.count(f"### {spec.name} (`{metric_id}`)") == 1
