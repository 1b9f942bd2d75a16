"""scGen's shift, loss and training against results computed by hand; only scgen_paper reads query labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from cellular_bench.benchmark.conformance.data import neighbor_accuracy, one_batch
from cellular_bench.core.errors import ContractError, NotApplicableError, UnknownNameError
from cellular_bench.methods.scgen import ScGen, ScGenPaper
from cellular_bench.methods.scgen.network import (
    Network,
    cell_losses,
    decoded,
    divergence,
    encoded,
    exhausted,
    mini_batches,
    train,
)
from cellular_bench.methods.scgen.shift import shifted, shifts_to_reference

#: Enough steps for the moving averages of the normalisation, which take a hundredth of every step.
LONG = {"max_epochs": 200, "patience": 200, "n_hidden": 64}
SHORT = {"max_epochs": 2, "n_hidden": 16}


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def batches(adata):
    return np.asarray(adata.obs["batch"]).astype(str)


@pytest.fixture(scope="module")
def fitted(_example):
    return ScGen(**LONG).fit(_example.train.copy())


def test_means_are_moved_onto_the_batch_with_most_cells_of_the_type():
    # Type T: batch b has two cells, mean (3, 1); a has one, at (9, 0). Type B is in one batch alone.
    Z = np.array([[2.0, 0.0], [4.0, 2.0], [9.0, 0.0], [5.0, 5.0]])
    label, batch = np.array(["T", "T", "T", "B"]), np.array(["b", "b", "a", "a"])
    moved = shifted(Z, label, batch, shifts_to_reference(Z, label, batch))
    np.testing.assert_array_equal(moved, [[2, 0], [4, 2], [3, 1], [5, 5]])


def test_of_batches_with_as_many_cells_the_first_by_name_is_the_reference():
    Z = np.array([[0.0], [1.0], [8.0]])
    label, batch = np.array(["T"] * 3), np.array(["b2", "b10", "b9"])
    moved = shifted(Z, label, batch, shifts_to_reference(Z, label, batch))
    np.testing.assert_array_equal(moved, [[1], [1], [1]])


def test_after_the_shift_a_type_has_one_mean_in_all_batches():
    generator = np.random.default_rng(0)
    Z = generator.normal(size=(400, 7)).astype(np.float32) * 5
    label = generator.choice(["B", "NK", "T"], 400)
    batch = generator.choice(["x", "y", "z"], 400, p=[0.2, 0.5, 0.3])
    moved = shifted(Z, label, batch, shifts_to_reference(Z, label, batch))
    for name in np.unique(label):
        sizes = {b: np.sum((label == name) & (batch == b)) for b in np.unique(batch)}
        reference = Z[(label == name) & (batch == max(sizes, key=sizes.get))].mean(axis=0)
        for b in np.unique(batch):
            mean = moved[(label == name) & (batch == b)].mean(axis=0)
            np.testing.assert_allclose(mean, reference, atol=1e-5)


def test_a_type_and_batch_that_were_not_seen_stay():
    shifts = {("T", "a"): np.array([1.0])}
    moved = shifted(np.zeros((3, 1)), np.array(["T", "T", "B"]), np.array(["a", "b", "a"]), shifts)
    np.testing.assert_array_equal(moved, [[1], [0], [0]])


def test_loss_by_hand():
    X, guess = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    mean, variance = torch.tensor([[2.0], [0.0]]), torch.tensor([[np.e], [1.0]])
    # Squared errors 5 and 9; divergences (e + 4 - 1 - 1) / 2 and 0.
    expected = [2.5 + 0.5 * 5e-5 * (np.e + 2) / 2, 4.5]
    error = ((X - guess) ** 2).sum(dim=1)
    np.testing.assert_allclose(cell_losses(error, divergence(mean, variance)), expected, rtol=1e-6)


def test_the_validation_loss_gives_the_divergence_its_full_weight(monkeypatch):
    torch.manual_seed(0)
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    net = Network(5, n_hidden=8, n_latent=2)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    losses = train(net, X, max_epochs=3, patience=3, seed=0)
    rows = np.random.default_rng(0).permutation(60)[:6]
    mean, variance = net.encode(torch.from_numpy(X[rows]))
    error = ((torch.from_numpy(X[rows]) - net.decode(mean)) ** 2).sum(dim=1)
    assert losses[-1] == pytest.approx((error + divergence(mean, variance)).mean().item(), rel=1e-5)


def test_layers_have_the_sizes_of_the_original():
    net = Network(2000, n_hidden=800, n_latent=100)
    per_layer = [2000 * 800, 800 * 800, 800 * 100, 800 * 100, 100 * 800, 800 * 800, 800 * 2000]
    assert [p.numel() for p in net.parameters() if p.ndim == 2] == per_layer
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert [(norm.num_features, norm.momentum, norm.eps) for norm in norms] == [(800, 0.01, 1e-3)] * 4
    assert sum(isinstance(module, torch.nn.Dropout) and module.p == 0.2 for module in net.modules()) == 4
    _, variance = net.eval().encode(torch.full((1, 2000), -1e3))
    assert variance.min() >= 1e-4


def test_training_ends_where_patience_does():
    assert not exhausted([], patience=1)
    assert [exhausted([5, 4, 4, 4][:n], patience=2) for n in (1, 2, 3, 4)] == [False, False, False, True]
    torch.manual_seed(0)
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    losses = train(Network(5, n_hidden=8, n_latent=2), X, max_epochs=200, patience=3, seed=0)
    assert len(losses) < 200
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    assert len(train(Network(5, n_hidden=8, n_latent=2), X, max_epochs=2, patience=3, seed=0)) == 2


def test_a_last_mini_batch_of_fewer_than_three_cells_is_left_out():
    assert [len(part) for part in mini_batches(np.arange(258))] == [128, 128]
    assert [len(part) for part in mini_batches(np.arange(259))] == [128, 128, 3]
    assert sorted(np.concatenate(mini_batches(np.arange(999)))) == list(range(999))


def test_sparse_parts_are_encoded_as_the_whole():
    torch.manual_seed(1)
    net = Network(6, n_hidden=8, n_latent=2).eval()
    X = np.random.default_rng(1).poisson(1.0, size=(1500, 6)).astype(np.float32)
    with torch.no_grad():
        whole = net.encode(torch.from_numpy(X))[0].numpy()
    np.testing.assert_allclose(encoded(net, csr_matrix(X)), whole, atol=1e-6)
    assert decoded(net, whole).shape == (1500, 6)


def test_training_learns_to_reconstruct(fitted, query):
    X = query.X.toarray()
    guess = decoded(fitted._network, encoded(fitted._network, query.X))
    assert np.mean((X - guess) ** 2) < 0.6 * np.mean((X - X.mean(axis=0)) ** 2)
    losses = fitted.validation_losses
    assert losses[-1] < 0.1 * losses[0]


def test_the_query_is_moved_by_predicted_labels(fitted, query):
    Z = encoded(fitted._network, query.X)
    assert np.mean(fitted.query_labels(Z, query) == labels(query)) > 0.97
    moved = fitted._moved(Z, query)
    predicted = fitted.query_labels(Z, query)
    for name in np.unique(predicted):
        means = [
            moved[(predicted == name) & (batches(query) == b)].mean(axis=0) for b in ("donor1", "donor2")
        ]
        np.testing.assert_allclose(means[0], means[1], atol=1e-5)
    returned = fitted.embed(query)
    assert returned.X.shape == query.shape
    np.testing.assert_allclose(returned.X, decoded(fitted._network, moved), atol=1e-6)
    np.testing.assert_allclose(returned.X_emb, encoded(fitted._network, returned.X), atol=1e-6)
    assert neighbor_accuracy(returned.X_emb, labels(query)) > 0.95


def test_shifts_of_training_cells_leave_each_cell_by_itself(train, query):
    method = ScGen(shift="train", **SHORT).fit(train)
    together, alone = method.embed(query), method.embed(query[:1].copy())
    np.testing.assert_allclose(together.X_emb[:1], alone.X_emb, atol=1e-5)
    Z = encoded(method._network, query.X)
    expected = shifts_to_reference(encoded(method._network, train.X), labels(train), batches(train))
    key = method.query_labels(Z, query)[0], batches(query)[0]
    np.testing.assert_allclose(method._moved(Z, query)[0] - Z[0], expected[key], atol=1e-5)


def test_without_a_shift_cells_are_only_encoded_and_decoded(train, query):
    method = ScGen(shift="none", **SHORT).fit(train)
    expected = decoded(method._network, encoded(method._network, query.X))
    np.testing.assert_array_equal(method.embed(query).X, expected)


def test_only_the_studys_version_reads_the_labels_of_the_query(train, query):
    wrong = query.copy()
    wrong.obs["label"] = pd.Categorical(np.roll(labels(query), 1))
    honest, paper = (method(**SHORT).fit(train) for method in (ScGen, ScGenPaper))
    np.testing.assert_array_equal(honest.embed(wrong).X, honest.embed(query).X)
    Z = encoded(paper._network, query.X)
    for shown in (query, wrong):
        expected = shifted(
            Z, labels(shown), batches(shown), shifts_to_reference(Z, labels(shown), batches(shown))
        )
        np.testing.assert_array_equal(paper._moved(Z, shown), expected)
    assert not np.allclose(paper._moved(Z, wrong), paper._moved(Z, query), atol=1e-3)
    assert (ScGen.spec.labels, ScGenPaper.spec.labels) == ("train", "all")
    assert ScGenPaper.spec.variant_of == "scgen"


def test_what_it_cannot_do_has_a_reason(train, query):
    with pytest.raises(NotApplicableError, match="all 240 cells that it sees come from one batch"):
        ScGen().fit(one_batch(train.copy()))
    with pytest.raises(UnknownNameError, match=r"Unknown shift 'both'\. Known: none, query, train"):
        ScGen(shift="both")
    with pytest.raises(ContractError, match="embed or predict was called before fit"):
        ScGen().embed(query)


def test_the_network_gives_the_originals_outputs_with_the_same_weights(fidelity):
    values = fidelity.network_values()
    model = Network(7, n_hidden=6, n_latent=3).eval()
    layer = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches")
    encoder, decoder = (
        [f"{part}.fc_layers.Layer {number}.{name}" for number in (0, 1) for name in layer]
        for part in ("z_encoder.encoder", "decoder.decoder")
    )
    heads = [f"z_encoder.{of}_encoder.{kind}" for of in ("mean", "var") for kind in ("weight", "bias")]
    names = [*encoder, *heads, *decoder, "decoder.linear_out.weight", "decoder.linear_out.bias"]
    for name, value in zip(names, model.state_dict().values(), strict=True):
        if not name.endswith("num_batches"):
            value.copy_(torch.from_numpy(values.drawn(name, tuple(value.shape))))
    X = torch.from_numpy(values.expression(5, 7)).float()
    original = fidelity.network_outputs("scgen_network")
    with torch.no_grad():
        mean, variance = model.encode(X)
        decoded = model.decode(mean)
        found = {"mean": mean, "variance": variance, "decoded": decoded}
        error = ((X - decoded) ** 2).sum(dim=1)
        found["loss"] = cell_losses(error, divergence(mean, variance))[:, None]
    assert found.keys() == original.keys()
    worst = max(fidelity.largest_difference(found[name], original[name]) for name in found)
    fidelity.assert_recorded("scgen", "small", "network", difference=worst)
