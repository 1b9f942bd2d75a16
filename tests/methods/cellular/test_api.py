"""The public class: it learns, repeats itself, survives the disk, aligns genes and explains failures."""

import json
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse

from cellular_bench.core.errors import NotApplicableError, UnknownNameError, UserError
from cellular_bench.methods.cellular import Cellular
from cellular_bench.methods.cellular.novelty import SCORES
from cellular_bench.methods.cellular.settings import ClassifierSettings

QUICK = {
    "max_epochs": 3,
    "classifier_max_epochs": 3,
    "batch_size": 64,
    "classifier": ClassifierSettings(hidden=(64, 64)),
    "n_trials": 0,
}


def _fit(adata, **arguments) -> Cellular:
    batch_key = arguments.pop("batch_key", "batch")
    return Cellular(**{**QUICK, **arguments}).fit(adata, label_key="label", batch_key=batch_key)


def _thinned(adata):
    """Keep every eighth value of the expression: sparse enough for sparse products."""
    thin = adata.copy()
    thin.X = sparse.csr_matrix(thin.X.multiply(np.arange(thin.n_vars) % 8 == 0), dtype=np.float32)
    thin.X.eliminate_zeros()
    return thin


def test_unseen_cells_are_named_right(fitted, query):
    accuracy = (fitted.predict(query) == query.obs["label"]).mean()
    assert accuracy > 0.95  # chance is 0.2


def test_types_are_apart_and_batches_mixed(fitted, query):
    from sklearn.metrics import silhouette_score

    X_emb = fitted.embed(query)
    assert silhouette_score(X_emb, query.obs["label"]) > 0.5
    assert abs(silhouette_score(X_emb, query.obs["batch"])) < 0.1


def test_probabilities_and_predictions_agree(fitted, query):
    proba = fitted.predict_proba(query)
    assert proba.shape == (200, 5)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-9)
    np.testing.assert_array_equal(fitted.label_names[proba.argmax(axis=1)], fitted.predict(query))
    assert fitted.label_names.tolist() == [f"type{i}" for i in range(5)]


def test_a_type_left_out_is_novel_by_every_score(train, query):
    from sklearn.metrics import roc_auc_score

    model = _fit(train[train.obs["label"] != "type4"].copy(), max_epochs=12, classifier_max_epochs=20)
    is_novel = query.obs["label"] == "type4"
    aurocs = {kind: roc_auc_score(is_novel, model.novelty(query, kind=kind)) for kind in SCORES}
    assert set(aurocs) == {"likelihood", "max_logit", "energy", "centroid", "knn"}
    assert min(aurocs.values()) > 0.8, aurocs


def test_history_holds_every_term_of_every_epoch(fitted):
    history = fitted.history
    assert [epoch.epoch for epoch in history.epochs] == list(range(12))
    assert set(history.epochs[0].train) == {"type", "batch", "centroid", "total"}
    totals = [epoch.validation["total"] for epoch in history.epochs]
    assert history.best_epoch == int(np.argmin(totals))
    assert totals[history.best_epoch] < 0.5 * totals[0]
    assert history.stopped_because == "all 12 epochs done"


def test_patience_ends_training(train):
    model = _fit(train, max_epochs=20, learning_rate=1.0, patience=1)
    totals = [epoch.validation["total"] for epoch in model.history.epochs]
    assert len(totals) < 20
    assert model.history.best_epoch == len(totals) - 2 == int(np.argmin(totals))
    assert model.history.stopped_because == "no better validation loss in 1 epochs"


def test_same_seed_same_result_other_seed_another(train, query):
    first, again, other = (_fit(train, seed=seed).embed(query) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_fitting_leaves_global_generators_alone(train, query):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    _fit(train).predict(query)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_fitting_does_not_change_the_data(train):
    before = train.copy()
    _fit(train, n_top_genes=50)
    assert (train.X != before.X).nnz == 0
    assert train.obs.equals(before.obs)
    assert list(train.var_names) == list(before.var_names)


def test_the_classifier_is_the_same_whenever_it_is_trained(train, query):
    lazy = Cellular(**QUICK).fit(train, label_key="label", batch_key="batch", with_classifier=False)
    assert lazy.classifier_history is None
    np.testing.assert_array_equal(lazy.predict_proba(query), _fit(train).predict_proba(query))


def test_save_and_load_give_the_same_model(fitted, query, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = Cellular.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.embed(query), fitted.embed(query))
    np.testing.assert_array_equal(loaded.predict_proba(query), fitted.predict_proba(query))
    np.testing.assert_array_equal(loaded.novelty(query, kind="knn"), fitted.novelty(query, kind="knn"))
    assert loaded.representations("median").equals(fitted.representations("median"))
    assert loaded.settings == fitted.settings
    assert loaded.history == fitted.history


def test_load_says_what_is_wrong(fitted, tmp_path):
    with pytest.raises(UserError, match=r"not a saved model: model\.json and weights\.pt not found"):
        Cellular.load(tmp_path / "nothing")
    fitted.save(tmp_path / "model")
    description = tmp_path / "model" / "model.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "format_version": 99}))
    with pytest.raises(UserError, match="has format version 99"):
        Cellular.load(tmp_path / "model")
    with pytest.raises(UserError, match="not an empty folder"):
        fitted.save(tmp_path / "model")


def test_representations_are_means_of_the_embedded_training_cells(fitted, train):
    X_emb = fitted.embed(train)
    expected = X_emb[(train.obs["label"] == "type2").to_numpy()].astype(float).mean(axis=0)
    np.testing.assert_allclose(fitted.representations().loc["type2"], expected, rtol=1e-6, atol=1e-7)


def test_order_of_genes_and_extra_genes_do_not_matter(fitted, query, simulate):
    import anndata as ad

    extra = simulate(n_cells=200, seed=9)
    extra.var_names = [f"other{i}" for i in range(extra.n_vars)]
    extra.obs_names = query.obs_names
    wider = ad.concat([extra, query], axis=1)
    shuffled = wider[:, np.random.default_rng(0).permutation(wider.n_vars)].copy()
    np.testing.assert_allclose(fitted.embed(shuffled), fitted.embed(query), rtol=1e-5, atol=1e-6)


def test_missing_genes_are_zero_with_a_warning(fitted, query):
    cut = query[:, 20:].copy()
    zeroed = query.copy()
    zeroed.X = zeroed.X @ sparse.diags_array(np.arange(200) >= 20, dtype=np.float32)
    with pytest.warns(UserWarning, match=r"180 of the model's 200 genes \(90%\).*gene0, gene1, gene2"):
        got = fitted.embed(cut)
    np.testing.assert_allclose(got, fitted.embed(zeroed), rtol=1e-5, atol=1e-6)


def test_dense_and_sparse_queries_agree(fitted, query):
    dense = query[:, 10:].copy()
    dense.X = dense.X.toarray()
    with pytest.warns(UserWarning, match="190 of the model's 200 genes"):
        from_dense = fitted.embed(dense)
    with pytest.warns(UserWarning, match="190 of the model's 200 genes"):
        from_sparse = fitted.embed(query[:, 10:].copy())
    np.testing.assert_allclose(from_dense, from_sparse, rtol=1e-5, atol=1e-6)


def test_sparse_training_cells_give_the_model_of_dense_ones(train, query):
    assert train.X.nnz < 0.9 * train.n_obs * train.n_vars
    from_sparse = _fit(_thinned(train))
    thin = _thinned(train)
    thin.X = thin.X.toarray()
    from_dense = _fit(thin)
    for ours, theirs in zip(from_sparse.history.epochs, from_dense.history.epochs, strict=True):
        assert ours.train == pytest.approx(dict(theirs.train), rel=1e-3)
    np.testing.assert_allclose(from_sparse.embed(query), from_dense.embed(query), rtol=0.02, atol=0.02)


def test_values_given_twice_are_added_up(train, query):
    thin = _thinned(train)
    twice = thin.copy()
    X = thin.X.tocoo()
    place = (np.tile(X.row, 2), np.tile(X.col, 2))
    # As csr, so that nothing adds them up on the way.
    order = np.argsort(place[0], kind="stable")
    starts = 2 * thin.X.indptr
    twice.X = sparse.csr_matrix((np.tile(X.data / 2, 2)[order], place[1][order], starts), shape=thin.shape)
    assert twice.X.nnz == 2 * thin.X.nnz
    np.testing.assert_allclose(_fit(twice).embed(query), _fit(thin).embed(query), rtol=1e-3, atol=1e-3)


def test_too_few_genes_in_common_is_an_error(fitted, query):
    query.var_names = [f"ENSG{i}" if i > 20 else name for i, name in enumerate(query.var_names)]
    with pytest.raises(UserError, match=r"21 of the model's 200 genes \(10%\); at least 50%"):
        fitted.embed(query)


def test_highly_variable_genes_are_chosen_and_kept_in_order(train, query):
    model = _fit(train, n_top_genes=60, max_epochs=8, classifier_max_epochs=12)
    positions = train.var_names.get_indexer(model.genes)
    assert len(positions) == 60
    assert (np.diff(positions) > 0).all()
    # Markers are genes 0 to 59: variable genes hold more of them than a draw by chance.
    assert (positions < 60).sum() > 30
    assert (model.predict(query) == query.obs["label"]).mean() > 0.9


def test_fewer_genes_than_asked_means_all_expressed_genes(train):
    dense = train.X.toarray()
    dense[:, 5] = 0
    train.X = dense
    model = _fit(train, n_top_genes=2000)
    assert "gene5" not in model.genes
    assert len(model.genes) > 190


@pytest.mark.parametrize("batch_key", [None, "batch", ["batch", "lane"], "single"])
def test_no_one_or_several_batch_keys(train, query, batch_key):
    train.obs["lane"] = np.where(np.arange(train.n_obs) % 2, "a", "b")
    train.obs["single"] = "one"
    model = _fit(train, batch_key=batch_key, max_epochs=8, classifier_max_epochs=8)
    first = model.history.epochs[0].train
    if batch_key in (None, "single"):
        assert first["batch"] == 0
        assert first["total"] == pytest.approx(first["type"] + first["centroid"])
    else:
        assert first["batch"] > 0
        weighted = 0.9 * first["type"] + 0.1 * first["batch"] + first["centroid"]
        assert first["total"] == pytest.approx(weighted)
    assert (model.predict(query) == query.obs["label"]).mean() > 0.9


@pytest.mark.parametrize(
    ("loss", "total"),
    [
        ("contrastive", lambda terms: 0.9 * terms["type"] + 0.1 * terms["batch"]),
        ("centroid", lambda terms: terms["centroid"]),
    ],
)
def test_ablations_train_on_their_terms_only(train, loss, total):
    first = _fit(train, loss=loss).history.epochs[0].train
    assert first["total"] == pytest.approx(total(first))


def test_paper_preset_learns_nothing_in_its_first_epoch_but_learns(train, query):
    model = _fit(train, preset="paper", max_epochs=8, classifier_max_epochs=12)
    assert model.history.epochs[0].learning_rate == 0
    assert (model.predict(query) == query.obs["label"]).mean() > 0.9


def test_fewer_cells_than_a_mini_batch(train, query):
    model = _fit(train[:60].copy(), batch_size=256, max_epochs=30, classifier_max_epochs=30)
    assert (model.predict(query) == query.obs["label"]).mean() > 0.6


def test_a_type_with_one_cell_is_a_known_label(train, query):
    rare = np.flatnonzero(train.obs["label"] == "type3")[1:]
    model = _fit(train[np.setdiff1d(np.arange(train.n_obs), rare)].copy())
    assert "type3" in model.label_names
    assert np.isfinite(model.predict_proba(query)).all()


def test_mini_batches_with_one_type(train):
    # Two cells at a time: most mini-batches lack the pairs that a term needs.
    model = _fit(train[:40].copy(), batch_size=2, max_epochs=2)
    assert np.isfinite(model.history.epochs[-1].train["total"])


def test_one_type_only_is_not_applicable(train):
    with pytest.raises(NotApplicableError, match="all cells have the type 'type1'"):
        _fit(train[train.obs["label"] == "type1"].copy())


def test_missing_values_are_counted(train, query, fitted):
    train.X.data[3] = np.nan
    with pytest.raises(UserError, match="X holds 1 values that are NaN or infinite"):
        _fit(train)
    query.X.data[:2] = np.inf
    with pytest.raises(UserError, match="X holds 2 values"):
        fitted.embed(query)


def test_columns_that_are_absent_or_incomplete(train):
    with pytest.raises(UnknownNameError, match=r"label_key: 'labels'.*Did you mean 'label'"):
        Cellular(**QUICK).fit(train, label_key="labels")
    train.obs.loc["cell4", "batch"] = None
    with pytest.raises(UserError, match=r"1 of 600 cells have no value in obs\['batch'\] \(batch_key\)"):
        _fit(train)


def test_names_of_genes_must_be_unique(train):
    train.var_names = ["gene0", *train.var_names[:-1]]
    with pytest.raises(UserError, match="gene names are not unique"):
        _fit(train)


def test_using_a_model_before_fitting(query):
    with pytest.raises(UserError, match="not fitted; call fit"):
        Cellular().embed(query)


def test_unknown_choices_are_named():
    with pytest.raises(UnknownNameError, match=r"contrastiv'.*Did you mean 'contrastive'"):
        Cellular(loss="contrastiv")
    with pytest.raises(UnknownNameError, match=r"kn'.*Did you mean 'knn'"):
        Cellular(novelty_kind="kn")
    with pytest.raises(UserError, match="device 'gpu9' is unknown to torch"):
        Cellular(device="gpu9")


def test_a_loss_that_explodes_stops_training_and_keeps_the_last_good_weights(train, query):
    # The paper's first epoch runs at rate 0, so that it is good; the second leaves the number range.
    with pytest.warns(
        RuntimeWarning, match=r"the \w+ term is not finite in epoch 1; the weights of epoch 0 are kept"
    ):
        model = Cellular(**QUICK, preset="paper", learning_rate=1e30).fit(
            train, label_key="label", batch_key="batch", with_classifier=False
        )
    assert len(model.history.epochs) == 1
    good = Cellular(**{**QUICK, "max_epochs": 1}, preset="paper").fit(
        train, label_key="label", batch_key="batch", with_classifier=False
    )
    np.testing.assert_array_equal(model.embed(query), good.embed(query))


def test_a_loss_that_explodes_at_once_is_explained(train):
    with pytest.raises(NotApplicableError, match="is not finite in epoch 0, before any epoch was complete"):
        _fit(train, learning_rate=1e30)


def test_nothing_warns_on_ordinary_data(train, query):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _fit(train).predict(query)


def test_a_single_batch_column_trains_without_a_batch_term(train, query):
    train.obs["batch"] = "only"
    model = _fit(train)
    assert {epoch.validation["batch"] for epoch in model.history.epochs} == {0.0}
    assert np.isfinite(model.embed(query)).all()


def test_types_with_one_cell_are_learned_from_and_can_be_predicted(train, query):
    label = train.obs["label"].to_numpy()
    keep = (label != "type4") | (np.cumsum(label == "type4") == 1)
    alone = train[keep].copy()
    model = _fit(alone, max_epochs=12, classifier_max_epochs=20)
    assert (alone.obs["label"] == "type4").sum() == 1
    assert "type4" in model.label_names
    assert np.isfinite(model.representations().loc["type4"]).all()
    known = query[query.obs["label"] != "type4"].copy()
    assert (model.predict(known) == known.obs["label"]).mean() > 0.9


def test_mini_batches_of_one_type_train_on_what_is_defined(train, query):
    # Four cells of a rare type among some 120: most mini-batches of 8 hold the frequent one alone.
    label = train.obs["label"].to_numpy()
    rare = np.flatnonzero(label == "type1")[:4]
    two_types = train[np.append(np.flatnonzero(label == "type0"), rare)].copy()
    model = _fit(two_types, batch_size=8)
    assert all(np.isfinite(list(epoch.train.values())).all() for epoch in model.history.epochs)
    assert np.isfinite(model.predict_proba(query)).all()


def test_bf16_trains_nearly_the_same_encoder(train, query):
    full, rounded = (_fit(train, precision=precision).embed(query) for precision in ("float32", "bf16"))
    assert rounded.dtype == np.float32
    change = np.linalg.norm(rounded - full) / np.linalg.norm(full)
    assert 1e-4 < change < 0.2
