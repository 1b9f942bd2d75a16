"""Autoencoders give their libraries' numbers, embed unseen batches or say why not, and leave no trace."""

import importlib.util
import json
import logging

import numpy as np
import pandas as pd
import pytest

from cellular_bench.benchmark.conformance.data import neighbor_accuracy
from cellular_bench.core.errors import ContractError, NotApplicableError, UnknownNameError
from cellular_bench.methods._scvi import LEAST_GAIN, WINDOW, has_converged, split_options
from cellular_bench.methods._session import session
from cellular_bench.methods.concord import CONCORD
from cellular_bench.methods.drvi import DRVI
from cellular_bench.methods.scvi import SCANVI, SCVI, SCANVISurgery, SCVISurgery
from cellular_bench.methods.sysvi import SysVI

SHORT = {"max_epochs": 4}
EXTRAS = {name: importlib.util.find_spec(name) is not None for name in ("concord", "drvi")}
ANY_BATCH = [
    SCVI(**SHORT),
    pytest.param(DRVI(**SHORT), marks=pytest.mark.skipif(not EXTRAS["drvi"], reason="needs drvi")),
    pytest.param(
        CONCORD(n_epochs=2), marks=pytest.mark.skipif(not EXTRAS["concord"], reason="needs concord")
    ),
]


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def in_new_batch(adata):
    adata = adata.copy()
    adata.obs["batch"] = pd.Categorical(["donor9"] * adata.n_obs)
    return adata


@pytest.fixture(scope="module")
def named(_example):
    """scANVI that learned for a while."""
    return SCANVI(max_epochs=30, label_epochs=20, seed=3).fit(_example.train.copy())


def test_scvi_equals_the_library_called_directly(train, query):
    options = split_options(train.n_obs, seed=5)
    with session(5):
        import scvi

        data = train.copy()
        data.X = data.layers["counts"]
        scvi.model.SCVI.setup_anndata(data, batch_key="batch")
        model = scvi.model.SCVI(data, n_latent=30, n_layers=2, gene_likelihood="nb")
        model.train(4, accelerator="cpu", logger=False, enable_checkpointing=False, **options)
        expected = model.get_latent_representation(data)
    fitted = SCVI(seed=5, **SHORT).fit(train)
    np.testing.assert_allclose(fitted.embed(train), expected, atol=1e-6)
    assert fitted.embed(query).shape == (120, 30)


@pytest.mark.parametrize("method", ANY_BATCH, ids=lambda method: method.spec.method_id)
def test_an_encoder_that_does_not_read_the_batch_embeds_any(method, train, query):
    fitted = method.fit(train)
    np.testing.assert_allclose(fitted.embed(in_new_batch(query)), fitted.embed(query), atol=1e-6)


def test_sysvi_embeds_known_batches_only_and_needs_two(train, query):
    fitted = SysVI(max_epochs=1).fit(train)
    assert fitted.embed(query).shape == (120, 15)
    with pytest.raises(NotApplicableError, match="reads the batch, and was not trained on donor9"):
        fitted.embed(in_new_batch(query))
    with pytest.raises(NotApplicableError, match="all 240 cells that it sees come from one batch"):
        SysVI().fit(in_new_batch(train))


def test_scanvi_gives_the_probabilities_of_its_classifier(named, query):
    prediction = named.predict(query)
    assert prediction.labels == ("acinar", "beta", "delta")
    np.testing.assert_allclose(prediction.label_proba.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(prediction.novelty, 1 - prediction.label_proba.max(axis=1))
    np.testing.assert_array_equal(
        np.asarray(prediction.labels)[prediction.label_proba.argmax(axis=1)], prediction.label_pred
    )
    assert np.mean(prediction.label_pred == labels(query)) > 0.95
    assert neighbor_accuracy(named.embed(query), labels(query)) > 0.95


def test_scanvi_names_cells_alike_in_any_batch(named, query):
    first, second = named.predict(query), named.predict(in_new_batch(query))
    np.testing.assert_allclose(first.label_proba, second.label_proba, atol=1e-6)


def test_surgery_trains_weights_of_the_new_batch_and_no_others(train, query):
    method = SCVISurgery(max_epochs=4, query_epochs=3).fit(train)
    before = {name: value.clone() for name, value in method._model.module.state_dict().items()}
    model, _ = method.model_for(in_new_batch(query))
    told_the_batch = []
    for name, after in model.module.state_dict().items():
        kept = before[name]
        if after.shape != kept.shape:  # a third column for the third batch
            n_inputs = kept.shape[1] - 2
            assert after.shape[1] == n_inputs + 3, name
            after, kept = after[:, :n_inputs], kept[:, :n_inputs]
            told_the_batch.append(name)
        np.testing.assert_array_equal(after, kept, err_msg=name)
    assert "z_encoder.encoder.fc_layers.Layer 0.0.weight" in told_the_batch


def test_surgery_leaves_the_reference_as_it_was(train, query):
    method = SCVISurgery(max_epochs=4, query_epochs=2).fit(train)
    first = method.embed(in_new_batch(query))
    np.testing.assert_array_equal(method.embed(in_new_batch(query)), first)
    assert method._model.summary_stats.n_batch == 2


def test_surgery_keeps_cells_in_their_rows(train, query):
    method = SCANVISurgery(max_epochs=30, label_epochs=20, query_epochs=3).fit(train)
    order = np.random.default_rng(0).permutation(query.n_obs)
    plain, moved = method.predict(in_new_batch(query)), method.predict(in_new_batch(query[order]))
    assert np.mean(plain.label_pred == labels(query)) > 0.9
    assert np.mean(moved.label_pred == labels(query)[order]) > 0.9


def test_the_split_leaves_no_tiny_mini_batch():
    for n_obs in range(130, 700):
        options = split_options(n_obs, seed=0)
        train, held_out = options["datasplitter_kwargs"]["external_indexing"]
        assert len(train) == int(np.ceil(0.9 * n_obs))
        assert sorted([*train, *held_out]) == list(range(n_obs))
        assert len(train) % options["batch_size"] not in (1, 2)
        assert 128 <= options["batch_size"] <= 134


def test_the_split_looks_at_the_cells_drawn_of_each_label():
    # 1000 cells: 900 = 7 x 128 + 4 are learned from. Of each of two labels 65 are drawn: 130 = 128 + 2.
    label = np.repeat(["a", "b"], 500)
    assert split_options(1000, seed=0)["batch_size"] == 128
    assert split_options(1000, seed=0, label=label, per_label=65)["batch_size"] == 130
    with pytest.raises(NotApplicableError, match="Needs 3 cells to learn from; there are 2"):
        split_options(2, seed=0)


def test_a_loss_has_converged_once_a_window_gains_little():
    # An exponential fall of rate r: a window of w epochs gains 1 - exp(-r w) of what is left to gain.
    losses = (5.0 + 100 * np.exp(-0.1 * np.arange(200))).tolist()
    ended = next(n for n in range(1, 200) if has_converged(losses[:n]))
    before, last = (
        np.mean(losses[ended - 2 * WINDOW : ended - WINDOW]),
        np.mean(losses[ended - WINDOW : ended]),
    )
    assert (before - last) / (losses[0] - last) <= LEAST_GAIN
    assert ended == 81
    # A factor and a constant change nothing; noise around a plateau ends the training as well.
    moved = [3.0 * loss - 1000.0 for loss in losses]
    assert next(n for n in range(1, 200) if has_converged(moved[:n])) == ended
    assert has_converged([9.0, *np.resize([1.0, 1.1], 29)])


def test_a_loss_that_rises_or_stays_has_converged_and_a_broken_one_has_not():
    assert has_converged([1.0 + 0.1 * epoch for epoch in range(20)])
    assert has_converged([1.0] * 20)
    assert not has_converged([1.0] * 19)
    assert not has_converged([float("nan")] * 30)


def test_training_stops_by_the_rule_and_keeps_its_losses(tmp_path, train):
    method = SCVI(max_epochs="converged", n_layers=1, seed=1)
    method.artifacts = tmp_path
    method.fit(train[:60].copy())
    held_out = json.loads((tmp_path / "history.json").read_text())["elbo_validation"]
    assert 2 * WINDOW <= len(held_out) < 400
    assert has_converged(held_out)
    assert not has_converged(held_out[:-1])
    with pytest.raises(UnknownNameError, match="max_epochs"):
        SCVI(max_epochs="enough")


def test_training_says_nothing_and_changes_nothing(train, capfd, caplog):
    import torch

    torch.set_num_threads(2)
    levels = logging.getLogger("scvi").level, logging.getLogger("lightning").level
    SCVI(max_epochs=1).fit(train)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert (logging.getLogger("scvi").level, logging.getLogger("lightning").level) == levels
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("method", [SCVI, SCANVI, DRVI])
def test_counts_are_needed(method, train):
    del train.layers["counts"]
    with pytest.raises(NotApplicableError, match='no layer "counts"'):
        method().fit(train)


@pytest.mark.parametrize("method", [SCVI, SCVISurgery, SysVI, DRVI, CONCORD])
def test_embed_before_fit_says_so(method, query):
    with pytest.raises(ContractError, match="before fit"):
        method().embed(query)
