"""The simulator does what it says: means, variances, batches, markers, composition."""

import numpy as np
import pytest

from cellular_bench.core.errors import UserError
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.datasets.simulator import simulate


def mean_f_ratio(batch_strength: float) -> float:
    """Mean over genes of variance between batches / variance within; 1 where there is no effect."""
    adata = simulate(n_obs=600, n_vars=300, n_labels=1, batch_strength=batch_strength, seed=3)
    values = normalise(adata.X).toarray()
    groups = [values[(adata.obs["batch"] == batch).to_numpy()] for batch in adata.obs["batch"].cat.categories]
    between = sum(len(g) * (g.mean(axis=0) - values.mean(axis=0)) ** 2 for g in groups) / (len(groups) - 1)
    within = sum(((g - g.mean(axis=0)) ** 2).sum(axis=0) for g in groups) / (len(values) - len(groups))
    expressed = within > 0
    return float(np.mean(between[expressed] / within[expressed]))


def test_without_strength_batches_are_indistinguishable():
    # F with 2 and 597 degrees of freedom has mean 1.003 and, over 300 genes, a standard error of 0.058.
    assert mean_f_ratio(0.0) == pytest.approx(1.0, abs=0.2)


def test_batch_variance_grows_with_strength():
    ratios = [mean_f_ratio(strength) for strength in (0.0, 0.2, 0.4, 0.8, 1.6)]
    assert ratios == sorted(ratios)
    assert ratios[1] > 2
    assert ratios[-1] > 20 * ratios[1]


@pytest.mark.parametrize("dispersion", [0.0, 0.5])
def test_mean_and_variance_are_negative_binomial(dispersion):
    adata = simulate(
        n_obs=20_000,
        n_vars=20,
        n_labels=1,
        n_batches=1,
        batch_strength=0,
        library_spread=0,
        dispersion=dispersion,
        seed=5,
    )
    counts = adata.X.toarray().astype(np.float64)
    mean = 2000 * np.expm1(adata.obsm["X_truth"][0].astype(np.float64)) / 1e4
    np.testing.assert_allclose(counts.mean(axis=0), mean, rtol=0.05)
    np.testing.assert_allclose(counts.var(axis=0), mean + dispersion * mean**2, rtol=0.1)


def test_library_sizes_vary_as_asked():
    adata = simulate(n_obs=3000, n_vars=2000, n_labels=1, n_batches=1, library_spread=0.5, median_counts=5000)
    logarithms = np.log(np.asarray(adata.X.sum(axis=1)).ravel())
    assert np.exp(np.median(logarithms)) == pytest.approx(5000, rel=0.03)
    assert logarithms.std() == pytest.approx(0.5, rel=0.05)


def test_markers_mark_their_type_and_only_it():
    adata = simulate(n_obs=900, n_vars=200, n_labels=3, batch_strength=0, marker_fraction=0.1, seed=2)
    assert adata.var["marks"].value_counts().to_dict() == {"": 140, "type1": 20, "type2": 20, "type3": 20}
    truth = adata.obsm["X_truth"]
    for name in ("type1", "type2", "type3"):
        own = (adata.obs["label"] == name).to_numpy()
        marked = (adata.var["marks"] == name).to_numpy()
        assert (truth[own][0, marked] > truth[~own].max(axis=0)[marked]).all()
    ratio = np.expm1(truth[(adata.obs["label"] == "type1").to_numpy()][0]) / np.expm1(
        truth[(adata.obs["label"] == "type2").to_numpy()][0]
    )
    # Raised by exp(2) against a gene that marks neither, whatever the totals of the types.
    marked, neither = (adata.var["marks"] == "type1").to_numpy(), (adata.var["marks"] == "").to_numpy()
    np.testing.assert_allclose(ratio[marked] / ratio[neither][0], np.exp(2), rtol=1e-3)


def test_truth_has_no_batch_in_it():
    weak, strong = (simulate(n_obs=100, n_vars=50, batch_strength=strength, seed=4) for strength in (0, 2))
    np.testing.assert_array_equal(weak.obsm["X_truth"], strong.obsm["X_truth"])
    assert (weak.obs == strong.obs).all(axis=None)
    np.testing.assert_array_equal(weak.uns["truth"]["batch_shift"], np.zeros((3, 50)))
    assert strong.uns["truth"]["batch_shift"].std() == pytest.approx(2, rel=0.2)


def test_numbers_of_cells_are_exact():
    adata = simulate(
        n_obs=300,
        n_vars=30,
        n_labels=3,
        n_batches=2,
        label_proportions=[70, 20, 10],
        missing={"batch2": ["type3"]},
    )
    table = adata.obs.groupby(["batch", "label"], observed=False).size().unstack()
    assert table.loc["batch1"].tolist() == [105, 30, 15]
    assert table.loc["batch2"].tolist() == [117, 33, 0]


def test_same_seed_same_data():
    first, again, other = (simulate(n_obs=80, n_vars=40, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.X.toarray(), again.X.toarray())
    assert first.obs.equals(again.obs)
    assert (first.X != other.X).nnz > 0


def test_global_random_state_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    simulate(n_obs=30, n_vars=20)
    after = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert np.random.random() == after  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_obs": 0}, "n_obs must be a whole number of at least 1, got: 0."),
        ({"n_vars": 2.5}, "n_vars must be a whole number of at least 1, got: 2.5."),
        ({"seed": -1}, "seed must be a whole number of at least 0, got: -1."),
        ({"batch_strength": -0.1}, "batch_strength must be a number of at least 0, got: -0.1."),
        ({"dispersion": float("nan")}, "dispersion must be a number of at least 0, got: nan."),
        ({"marker_strength": float("inf")}, "marker_strength must be a finite number, got: inf."),
        ({"median_counts": 0}, "median_counts must be a number above 0, got: 0."),
        ({"marker_fraction": 0.3}, "marker_fraction must lie between 0 and 1/n_labels = 0.2, got: 0.3."),
        (
            {"label_proportions": [1, 2]},
            "label_proportions must be 5 numbers above 0, one per label, got: [1, 2].",
        ),
        (
            {"missing": {"batch9": ["type1"]}},
            "Unknown batch 'batch9'. Did you mean 'batch3'? Known: batch1, batch2, batch3.",
        ),
        (
            {"missing": {"batch1": ["typ1"]}},
            "Unknown label 'typ1'. Did you mean 'type1'? Known: type1, type2, type3, type4, type5.",
        ),
        (
            {"missing": {"batch2": [f"type{i}" for i in range(1, 6)]}},
            "missing takes every label out of batch2; leave at least one.",
        ),
        (
            {"n_obs": 4},
            "No cell is left for type3, type4, type5: ask for more cells (n_obs), larger "
            "label_proportions, or take it out of fewer batches (missing).",
        ),
    ],
)
def test_impossible_arguments_say_why(arguments, message):
    with pytest.raises(UserError) as caught:
        simulate(**arguments)
    assert str(caught.value) == message
