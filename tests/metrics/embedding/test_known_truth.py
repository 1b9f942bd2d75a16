"""Where the truth is known, metrics of batch correction say it: simulated cells, weak to strong effects."""

from functools import cache
from statistics import fmean

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.datasets.simulator import simulate
from cellular_bench.methods._components import pca_scores as principal_components
from cellular_bench.methods.controls import PerfectLabels
from cellular_bench.metrics import evaluate

STRENGTHS = (0.0, 0.1, 0.2, 0.4)
#: Graph connectivity is about types in one piece, not about batches: in the components of noisy cells it
#: stays where it is at every strength.
METRICS = ("kbet_per_label", "ilisi", "bras", "pcr_comparison")
EQUAL, UNEQUAL = (0.25,) * 4, (0.7, 0.15, 0.1, 0.05)


@cache
def cells(strength, proportions):
    adata = simulate(
        n_obs=600, n_vars=500, n_labels=4, n_batches=3, batch_strength=strength, marker_fraction=0.05,
        marker_strength=3.0, label_proportions=list(proportions), seed=0,
    )  # fmt: skip
    adata.X = normalise(adata.X)
    return adata, principal_components(adata.X, n_components=50, seed=0)


def scores(strength, proportions, X_emb=None):
    adata, X_pre = cells(strength, proportions)
    inputs = {
        "X_emb": X_pre if X_emb is None else X_emb,
        "X_pre": X_pre,
        "batch": np.asarray(adata.obs["batch"], dtype=str),
        "label": np.asarray(adata.obs["label"], dtype=str),
    }
    return evaluate(METRICS, inputs)


@pytest.mark.parametrize("proportions", [EQUAL, UNEQUAL])
def test_a_stronger_batch_effect_scores_lower(proportions):
    found = [scores(strength, proportions) for strength in STRENGTHS]
    for name in METRICS[:3]:
        values = [one[name] for one in found]
        assert all(np.diff(values) < 0), (name, values)
    assert found[0]["kbet_per_label"] > 0.9
    assert found[-1]["kbet_per_label"] < 0.05
    # At first batches explain no more than chance. Nothing was corrected, so nothing was removed later.
    none, *some = (one["pcr_comparison"] for one in found)
    assert isinstance(none, UndefinedError)
    assert some == [0, 0, 0]


@pytest.mark.parametrize("proportions", [EQUAL, UNEQUAL])
@pytest.mark.parametrize("of_genes", [True, False])
def test_batch_correction_of_uncorrected_cells_falls(proportions, of_genes):
    """Genes as they are, or their components: the mean of the metrics that have a value."""
    means = []
    for strength in STRENGTHS:
        adata, X_pre = cells(strength, proportions)
        found = scores(strength, proportions, X_emb=adata.X.toarray() if of_genes else X_pre)
        means.append(fmean(value for value in found.values() if not isinstance(value, UndefinedError)))
    assert all(np.diff(means) < 0), means


@pytest.mark.parametrize("proportions", [EQUAL, UNEQUAL])
def test_shuffled_cells_have_no_batch_effect_left(proportions):
    """Where batches explain much more than chance, chance hardly lowers the value of PCR comparison."""
    for strength in STRENGTHS[2:]:
        _, X_pre = cells(strength, proportions)
        shuffled = np.random.default_rng(0).permutation(X_pre)
        assert scores(strength, proportions, X_emb=shuffled)["pcr_comparison"] > 0.8


@pytest.mark.parametrize("proportions", [EQUAL, UNEQUAL])
def test_perfect_correction_is_near_the_positive_control(proportions):
    """The same cells drawn without a batch effect are what a perfect method would make of those with one."""
    (strong, _), (none, corrected) = cells(0.4, proportions), cells(0.0, proportions)
    assert (strong.obs == none.obs).all(axis=None)
    perfect = scores(0.4, proportions, X_emb=corrected)
    control = scores(0.4, proportions, X_emb=PerfectLabels(seed=0).fit_embed(strong))
    for name in METRICS:
        assert perfect[name] == pytest.approx(control[name], abs=0.1), name
    uncorrected = scores(0.4, proportions)
    assert all(perfect[name] > uncorrected[name] + 0.2 for name in METRICS)
