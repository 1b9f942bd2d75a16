"""Resampled scores: their spread is the known one, and the quick way is the slow way."""

import inspect

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError, UnknownNameError
from cellular_bench.metrics import METRICS, accuracy, bootstrap, interval, parse_obo
from cellular_bench.metrics.annotation.uncertainty import COUNTING

RNG = np.random.default_rng(5)
LABEL = np.repeat(["T", "B", "NK", "mast"], [240, 120, 35, 5])
PRED = np.where(RNG.random(400) < 0.8, LABEL, RNG.permutation(LABEL))
REJECTED = RNG.random(400) < 0.1
INPUTS = {"label": LABEL, "label_pred": PRED, "rejected": REJECTED}
#: 4 of 400 is not under 1 %, 5 of 600 is.
WITH_RARE = {
    "label": np.append(LABEL, ["T"] * 200),
    "label_pred": np.append(PRED, ["T"] * 200),
    "rejected": np.append(REJECTED, np.zeros(200, dtype=bool)),
}


def _one_by_one(metric_id, inputs, *, n_resamples, seed, label=None):
    """Draw cells and call the metric: what the quick way must be equal to in distribution."""
    rng = np.random.default_rng(seed)
    n_obs = len(inputs["label_pred"])
    scores = []
    for _ in range(n_resamples):
        if label is None:
            cells = rng.integers(n_obs, size=n_obs)
        else:
            own = [np.flatnonzero(label == name) for name in np.unique(label)]
            cells = np.concatenate([rng.choice(part, len(part)) for part in own])
        scores.append(METRICS[metric_id].function(**{name: x[cells] for name, x in inputs.items()}))
    return np.array(scores)


@pytest.mark.parametrize("metric_id", sorted(set(COUNTING) - {"rare_recall"}))
@pytest.mark.parametrize("stratify", [False, True])
def test_counted_resamples_have_the_distribution_of_drawn_cells(metric_id, stratify):
    used = {name: INPUTS[name] for name in inspect.signature(METRICS[metric_id].function).parameters}
    found = bootstrap([metric_id], INPUTS, n_resamples=4000, seed=1, stratify=stratify)[metric_id]
    slow = _one_by_one(metric_id, used, n_resamples=500, seed=2, label=LABEL if stratify else None)
    spread = np.nanstd(slow)
    assert np.nanmean(found) == pytest.approx(slow.mean(), abs=4.5 * spread / np.sqrt(500))
    assert np.nanstd(found) == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("metric_id", ["ontology_accuracy", "ontology_f1"])
def test_near_misses_are_resampled_by_pairs_of_labels(metric_id):
    ontology = parse_obo(
        "\n".join(
            f"[Term]\nid: X:{i}\nname: {name}\n{up}"
            for i, (name, up) in enumerate(
                [("lymphocyte", ""), ("T", "is_a: X:0"), ("B", "is_a: X:0"), ("NK", "is_a: X:1")]
            )
        )
    )
    found = bootstrap([metric_id], {**INPUTS, "ontology": ontology}, n_resamples=3000, seed=1)[metric_id]

    rng = np.random.default_rng(2)
    slow = []
    for _ in range(200):
        cells = rng.integers(400, size=400)
        drawn = {name: array[cells] for name, array in INPUTS.items()}
        slow.append(METRICS[metric_id].function(**drawn, ontology=ontology))
    assert found.mean() == pytest.approx(np.mean(slow), abs=4.5 * np.std(slow) / np.sqrt(200))
    assert found.std() == pytest.approx(np.std(slow), rel=0.25)


def test_the_spread_of_accuracy_is_that_of_a_share():
    share = accuracy(LABEL, PRED)
    found = bootstrap(["accuracy"], {"label": LABEL, "label_pred": PRED}, n_resamples=5000)["accuracy"]
    assert np.mean(found) == pytest.approx(share, abs=0.002)
    assert np.std(found) == pytest.approx(np.sqrt(share * (1 - share) / 400), rel=0.05)


def test_rare_labels_stay_those_of_the_data():
    found = bootstrap(["rare_recall"], WITH_RARE, n_resamples=2000, stratify=True)["rare_recall"]
    recall = METRICS["rare_recall"].function(**WITH_RARE)
    assert np.mean(found) == pytest.approx(recall, abs=0.03)
    assert np.std(found) == pytest.approx(np.sqrt(recall * (1 - recall) / 5), rel=0.1)


def test_a_resample_without_rare_cells_has_no_recall_of_them():
    inputs = {"label": ["a"] * 199 + ["b"], "label_pred": ["a"] * 199 + ["b"]}
    found = bootstrap(["rare_recall"], inputs, n_resamples=2000)["rare_recall"]
    assert np.isnan(found).mean() == pytest.approx((1 - 1 / 200) ** 200, abs=0.05)
    with pytest.raises(UndefinedError, match=r"has no value in [0-9]+ of 2000 resamples"):
        interval(found)


def test_equal_seeds_draw_equal_cells_and_others_do_not():
    ids = ["accuracy", "known_accuracy"]
    inputs = {**INPUTS, "is_novel": LABEL == "mast"}
    first, second, third = (bootstrap(ids, inputs, n_resamples=20, seed=seed) for seed in (3, 3, 4))
    for name in ids:
        assert first[name].tolist() == second[name].tolist()
        assert first[name].tolist() != third[name].tolist()


def test_every_resample_of_a_stratum_keeps_its_size():
    inputs = {"label": LABEL, "label_pred": LABEL, "novelty": np.ones(400), "is_novel": LABEL == "mast"}
    found = bootstrap(["novelty_average_precision"], inputs, n_resamples=10, stratify=True)
    assert found["novelty_average_precision"] == pytest.approx(5 / 400)


def test_probabilities_are_drawn_with_their_cells():
    labels = np.unique(LABEL)
    proba = (labels[None, :] == LABEL[:, None]).astype(float)
    inputs = {**INPUTS, "label_proba": proba, "labels": labels}
    found = bootstrap(["log_loss", "brier", "top3_accuracy"], inputs, n_resamples=5)
    assert found["log_loss"].tolist() == found["brier"].tolist() == [0.0] * 5
    assert found["top3_accuracy"].tolist() == [1.0] * 5


def test_numpys_global_generator_is_left_alone():
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    bootstrap(["accuracy", "known_accuracy"], {**INPUTS, "is_novel": LABEL == "T"}, n_resamples=3)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_scores_of_embeddings_are_refused_and_missing_ones_keep_their_reason():
    X = np.random.default_rng(0).normal(size=(400, 2))
    found = bootstrap(["silhouette_label", "log_loss"], {**INPUTS, "X_emb": X}, n_resamples=2)
    assert "silhouette_label compares cells with each other" in str(found["silhouette_label"])
    assert "did not return 'label_proba'" in str(found["log_loss"])


def test_wrong_requests_are_explained():
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        bootstrap(["acuracy"], INPUTS)
    with pytest.raises(ValueError, match="n_resamples is 0"):
        bootstrap(["accuracy"], INPUTS, n_resamples=0)


def test_interval_takes_quantiles_and_tells_what_is_left_out():
    scores = np.append(np.linspace(0, 1, 41), [np.nan])
    assert interval(scores) == pytest.approx((0.025, 0.975, 42, 1))
