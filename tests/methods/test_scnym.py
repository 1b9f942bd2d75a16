"""scNym's parts against their definitions: network, schedules, mixtures, losses, training, adapter."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch.nn import functional

from cellular_bench.core.errors import NotApplicableError, UnknownNameError, UserError
from cellular_bench.methods.scnym import ScNym, ScNymMixMatch
from cellular_bench.methods.scnym.adapter import inputs
from cellular_bench.methods.scnym.mixmatch import (
    adversary_weight,
    domain_loss,
    mixed,
    mixmatch_loss,
    pseudolabel_weight,
    pseudolabels,
    sharpened,
    with_dropped_counts,
)
from cellular_bench.methods.scnym.model import Adversary, Network
from cellular_bench.methods.scnym.settings import DEFAULT, PRESETS, Settings
from cellular_bench.methods.scnym.training import BestWeights, mini_batches, split_cells
from cellular_bench.methods.scnym.training import train as train_network


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def network(*, shared_block=False, n_vars=6):
    return Network(n_vars=n_vars, n_labels=3, shared_block=shared_block)


def test_the_shared_block_is_one_layer_passed_twice():
    block = 256 * 256 + 256 + 2 * 256
    apart, shared = (
        sum(p.numel() for p in network(shared_block=flag).parameters()) for flag in (False, True)
    )
    assert apart - shared == block
    model = network(shared_block=True).eval()
    x = torch.rand(4, 6)
    first, second, third = model.hidden
    assert second is third
    torch.testing.assert_close(model(x), model.head(second(second(first(x)))))


def test_the_adversary_gets_its_gradient_and_the_network_the_reverse():
    adversary, hidden = Adversary(), torch.rand(5, 256, requires_grad=True)
    domain = torch.tensor([0, 1, 0, 1, 1])
    functional.cross_entropy(adversary.layers(hidden), domain).backward()
    plain, own = hidden.grad.clone(), adversary.layers[0].weight.grad.clone()
    hidden.grad = adversary.layers[0].weight.grad = None
    functional.cross_entropy(adversary(hidden, weight=0.3), domain).backward()
    torch.testing.assert_close(hidden.grad, -0.3 * plain)
    torch.testing.assert_close(adversary.layers[0].weight.grad, own)


def test_weights_rise_as_described():
    assert [pseudolabel_weight(epoch) for epoch in (0, 25, 100, 200)] == [0.0, 0.25, 1.0, 1.0]
    assert adversary_weight(0) == pytest.approx(0.1 * math.exp(-5))
    assert adversary_weight(15) == pytest.approx(0.1 * math.exp(-5 / 16))
    assert adversary_weight(20) == adversary_weight(99) == 0.1


def test_sharpening_by_hand():
    q = torch.tensor([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0]])
    expected = torch.tensor([[36.0, 9.0, 1.0], [46.0, 0.0, 0.0]]) / 46
    torch.testing.assert_close(sharpened(q), expected)


def test_dropped_counts_leave_a_million_and_a_tenth_fewer_genes():
    X = torch.log1p(torch.full((50, 400), 1e6 / 400))
    dropped = with_dropped_counts(X)
    torch.testing.assert_close(torch.expm1(dropped).sum(dim=1), torch.full((50,), 1e6), rtol=1e-4, atol=0)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert torch.all(with_dropped_counts(torch.zeros(2, 5)) == 0)


def test_mixtures_keep_at_least_half_and_mix_labels_alike():
    from scipy.stats import beta

    n = 2000
    soft_X, soft = mixed(torch.eye(n)[:, :1000], torch.eye(n))
    own = soft.diagonal()
    assert own.min() >= 0.5
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(n))
    torch.testing.assert_close(soft_X, soft[:, :1000])
    # The mean of max(b, 1 - b) for b ~ Beta(.3, .3), over a grid of quantiles.
    quantiles = beta.ppf((np.arange(20000) + 0.5) / 20000, 0.3, 0.3)
    assert own.mean().item() == pytest.approx(np.maximum(quantiles, 1 - quantiles).mean(), abs=0.015)


def test_pseudolabels_come_from_the_network_in_use_without_dropout():
    model, X = network().train(), torch.rand(40, 6)
    limit = model.eval()(X).softmax(dim=1).amax(dim=1).median().item()
    found, confident = pseudolabels(model.train(), X, min_confidence=limit)
    assert model.training
    probability = model.eval()(X).softmax(dim=1).detach()
    torch.testing.assert_close(found, sharpened(probability))
    torch.testing.assert_close(confident, probability.amax(dim=1) >= limit)
    assert 0 < confident.sum() < 40


def expected_loss(model, adversary, labelled, target, unlabelled, *, epoch, min_confidence):
    """The loss from its definition, drawing in the same order."""
    q = model.eval()(unlabelled).softmax(dim=1).detach()
    model.train()
    sure = q.amax(dim=1) >= min_confidence
    q = q**2 / (q**2).sum(dim=1, keepdim=True)
    linear = functional.dropout(labelled.expm1(), 0.1)
    labelled = (1e6 * linear / linear.sum(dim=1, keepdim=True)).log1p()
    X, y = torch.cat([unlabelled[sure], labelled]), torch.cat([q[sure], target])
    order = torch.randperm(len(X))
    share = torch.distributions.Beta(torch.full((len(X), 1), 0.3), torch.full((len(X), 1), 0.3)).sample()
    share = torch.maximum(share, 1 - share)
    X, y = share * X + (1 - share) * X[order], share * y + (1 - share) * y[order]
    n = int(sure.sum())
    guess = model(torch.cat([X[:n], unlabelled[~sure]])).softmax(dim=1)[:n]
    of_pseudo = (guess - y[:n]).square().sum(dim=1).sum() / len(unlabelled)
    of_labels = -(y[n:] * model(X[n:]).log_softmax(dim=1)).sum(dim=1).mean()
    seen = unlabelled if min_confidence == 0 else unlabelled[sure]
    domain = torch.tensor([0] * len(labelled) + [1] * len(seen))
    logits = adversary.layers(model.hidden(torch.cat([labelled, seen])))
    return of_labels + epoch / 100 * of_pseudo + functional.cross_entropy(logits, domain)


@pytest.mark.parametrize("min_confidence", [0.0, 0.36])
def test_the_mixmatch_loss_equals_its_definition(min_confidence):
    labelled, unlabelled = 5 + 5 * torch.rand(12, 6), 5 + 5 * torch.rand(10, 6)
    target = functional.one_hot(torch.arange(12) % 3).float()
    losses = []
    for function in (mixmatch_loss, expected_loss):
        torch.manual_seed(4)
        model, adversary = network().train(), Adversary()
        cells = (labelled, target, unlabelled)
        losses.append(function(model, adversary, *cells, epoch=30, min_confidence=min_confidence).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_domains_are_labelled_cells_and_others():
    model, adversary = network().eval(), Adversary()
    X = torch.rand(7, 6)
    loss = domain_loss(model, adversary, X[:3], X[3:], weight=0.1)
    logits = adversary.layers(model.hidden(X))
    expected = functional.cross_entropy(logits, torch.tensor([0, 0, 0, 1, 1, 1, 1]))
    torch.testing.assert_close(loss, expected)


def test_cells_are_split_81_9_10():
    learned, selection = split_cells(1000, share=0.1, generator=np.random.default_rng(0))
    assert (len(learned), len(selection)) == (810, 90)
    assert not set(learned) & set(selection)
    # The package keeps floor(.9 n) = 94 of 105 cells, and of these floor(.9 n) = 84.
    assert [len(part) for part in split_cells(105, share=0.1, generator=np.random.default_rng(0))] == [84, 10]
    with pytest.raises(NotApplicableError, match="3 training cells are too few"):
        split_cells(3, share=0.1, generator=np.random.default_rng(0))
    assert len(split_cells(4, share=0.1, generator=np.random.default_rng(0))[0]) == 2


@pytest.mark.parametrize(
    ("n", "keep", "sizes"),
    [(600, False, [256, 256]), (600, True, [256, 256, 88]), (513, True, [256, 256]), (40, False, [40])],
)
def test_mini_batches(n, keep, sizes):
    settings = Settings(keep_partial=keep)
    found = list(mini_batches(np.arange(n), settings=settings, generator=np.random.default_rng(0)))
    assert [len(batch) for batch in found] == sizes
    assert len(np.unique(np.concatenate(found))) == sum(sizes)


def test_the_best_epoch_is_kept_from_the_first_allowed_and_patience_counts_from_it():
    kept, model = BestWeights(Settings(patience=2), first=2), network()
    for epoch, loss in enumerate([0.1, 0.2, 0.9, 0.5, 0.6, 0.7]):
        with torch.no_grad():
            model.head.bias.fill_(epoch)
        kept.note(epoch, loss, model)
    assert (kept.best_epoch, kept.best_loss) == (3, 0.5)
    assert torch.all(kept.weights["head.bias"] == 3)
    assert not kept.is_hopeless(5)
    assert kept.is_hopeless(6)
    assert not BestWeights(Settings(patience=None), first=0).is_hopeless(1000)


@pytest.mark.parametrize(("epochs", "first"), [(23, 21), (8, 8)])
def test_unlabelled_cells_are_used_for_twenty_epochs_before_weights_are_kept(epochs, first, capsys):
    generator = np.random.default_rng(0)
    X = csr_matrix(generator.random((40, 6), dtype=np.float32))
    train_network(X, generator.integers(3, size=40), settings=Settings(epochs=epochs), seed=0, unlabelled=X)
    assert first <= int(capsys.readouterr().out.split()[-1]) <= epochs


def test_best_and_last_epoch_differ_in_training(capsys):
    generator = np.random.default_rng(0)
    X = csr_matrix(generator.random((60, 6), dtype=np.float32))
    label = generator.integers(3, size=60)  # nothing to learn: the selection loss soon rises
    last = train_network(X, label, settings=Settings(epochs=30, checkpoint="last"), seed=0)
    best = train_network(X, label, settings=Settings(epochs=30, checkpoint="best"), seed=0)
    assert not torch.equal(last.head.weight, best.head.weight)
    assert capsys.readouterr().out.count("scnym: 30 epochs, the best of which was") == 2


def test_the_presets_read_other_scales(train):
    per_million = np.expm1(inputs(train, DEFAULT).toarray())
    np.testing.assert_allclose(per_million, np.expm1(train.X.toarray()) * 100, rtol=1e-4)
    np.testing.assert_array_equal(inputs(train, PRESETS["paper"]).toarray(), train.X.toarray())


def test_cells_below_the_limit_are_rejected(train, query):
    highest = ScNym(epochs=8).fit(train).predict(query).label_proba.max(axis=1)
    limit = float(np.median(highest))
    prediction = ScNym(epochs=8, reject_below=limit).fit(train).predict(query)
    np.testing.assert_array_equal(prediction.rejected, highest < limit)
    assert prediction.rejected.sum() == 60
    assert ScNym(epochs=1).fit(train).predict(query).rejected is None


def test_mixmatch_learns_from_the_query(train, query):
    few = query[:60].copy()
    method = ScNymMixMatch(epochs=3).fit(train)
    together, alone = method.predict(query).label_proba[:60], method.predict(few).label_proba
    assert np.abs(together - alone).max() > 1e-3
    method = ScNym(epochs=3).fit(train)
    together, alone = method.predict(query).label_proba[:60], method.predict(few).label_proba
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_wrong_settings_are_clear_errors():
    with pytest.raises(UnknownNameError, match="Unknown checkpoint 'first'"):
        ScNym(checkpoint="first")
    with pytest.raises(UnknownNameError, match="Unknown input scale 'log1p'"):
        ScNym(input_scale="log1p")
    with pytest.raises(UserError, match="epochs is 0"):
        ScNymMixMatch(epochs=0)
