"""Model, weights, target distances, schedule, splits, mini-batches and novelty scores: known numbers."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse

from cellular_bench.core.errors import NotApplicableError, UnknownNameError, UserError
from cellular_bench.methods._session import seeded_torch
from cellular_bench.methods.cellular.centroids import (
    centroid_distances,
    inverse_frequency,
    type_representations,
)
from cellular_bench.methods.cellular.first_layer import NormalisedLinear
from cellular_bench.methods.cellular.loop import History, learning_rate_factor
from cellular_bench.methods.cellular.minibatches import (
    MiniBatches,
    even_chunks,
    full_chunks,
    inner_split,
    sparse_pays,
)
from cellular_bench.methods.cellular.model import EncoderWithTemperature, build_classifier, build_encoder
from cellular_bench.methods.cellular.novelty import Evidence, novelty_score
from cellular_bench.methods.cellular.settings import DEFAULT, PAPER, ClassifierSettings, settings_for
from cellular_bench.methods.cellular.state import Fitted
from cellular_bench.methods.cellular.training import train_classifier


def _n_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_encoder_has_the_published_number_of_parameters():
    assert _n_parameters(build_encoder(2000)) == 2_558_600


def test_classifier_widths():
    # BatchNorm 2 x 100; 100 x 512 + 512, BatchNorm 2 x 512; 512 x 512 + 512, BatchNorm; 512 x 14 + 14.
    assert _n_parameters(build_classifier(100, 14)) == 200 + 51_712 + 1024 + 262_656 + 1024 + 7182


def test_inverse_frequency_ignores_absent_classes():
    weights = inverse_frequency(np.array([0, 0, 2, 2, 2, 2]), n_classes=3)
    np.testing.assert_allclose(weights, [2 / 3, 0, 1 / 3])


def test_centroid_distances_by_hand():
    # Batch 0 holds types 0 and 1, 3 apart; batch 1 holds them 5 apart, and type 2 six from type 0.
    # The means are 4, 6 and, for types 1 and 2, sqrt(5^2 + 6^2). The offset of batch 1 is no matter.
    X = np.array([[0.0, 0.0], [3.0, 0.0], [10.0, 10.0], [15.0, 10.0], [10.0, 16.0]])
    label, batch = np.array([0, 1, 0, 1, 2]), np.array([0, 0, 1, 1, 1])
    largest = math.sqrt(61)
    expected = np.array([[0, 4, 6], [4, 0, largest], [6, largest, 0]]) / largest
    got = centroid_distances(X, label, [batch], n_labels=3)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_types_that_share_no_batch_have_no_target():
    X = np.array([[0.0, 0.0], [3.0, 1.0], [9.0, 2.0]])
    got = centroid_distances(X, np.array([0, 1, 2]), [np.array([0, 0, 1])], n_labels=3)
    np.testing.assert_allclose(got, [[0, 1, 0], [1, 0, 0], [0, 0, 0]], atol=1e-12)


def test_sparse_and_dense_expression_give_the_same_distances():
    rng = np.random.default_rng(0)
    X = rng.poisson(0.7, (120, 40)).astype(float)
    label, batch = rng.integers(4, size=120), rng.integers(2, size=120)
    dense = centroid_distances(X, label, [batch], n_labels=4, n_components=10)
    from_sparse = centroid_distances(sparse.csr_matrix(X), label, [batch], n_labels=4, n_components=10)
    np.testing.assert_allclose(from_sparse, dense, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"), [("centroid", [2.0, 0.5]), ("median", [1.0, 0.0]), ("medoid", [1.0, 0.0])]
)
def test_representations_by_hand(kind, expected):
    X_emb = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 1.5], [7.0, 7.0]], dtype=np.float32)
    got = type_representations(X_emb, np.array([0, 0, 0, 1]), n_labels=2, kind=kind)
    np.testing.assert_allclose(got, [expected, [7.0, 7.0]])


def test_an_unknown_representation_is_named():
    with pytest.raises(UnknownNameError, match=r"medoit.*Did you mean 'medoid'"):
        type_representations(np.ones((1, 2)), np.array([0]), n_labels=1, kind="medoit")


def test_schedule_of_the_study():
    factors = [learning_rate_factor(epoch, settings=PAPER) for epoch in (0, 2, 25)]
    np.testing.assert_allclose(factors, [0, 0.5 * 0.5 * (1 + math.cos(math.pi / 25)), 0.5], atol=1e-12)


def test_the_default_learns_from_the_first_epoch():
    assert learning_rate_factor(0, settings=DEFAULT) == pytest.approx(0.2)


def test_presets_differ_only_where_documented():
    differing = {
        name for name in PAPER.__dataclass_fields__ if getattr(PAPER, name) != getattr(DEFAULT, name)
    }
    assert differing == {
        "warmup_from_zero",
        "split_seed",
        "validation_drops_rest",
        "validation_counts_cells",
        "softmax_before_loss",
        "n_trials",
        "tuning_widths",
        "prune_trials",
        "novelty_kind",
    }


def test_settings_say_what_is_wrong():
    with pytest.raises(UnknownNameError, match=r"papr.*Did you mean 'paper'"):
        settings_for("papr")
    with pytest.raises(UnknownNameError, match=r"max_epoch'.*Did you mean 'max_epochs'"):
        settings_for("paper", max_epoch=3)
    with pytest.raises(UserError, match="batch_size is 1; it must be at least 2"):
        settings_for("paper", batch_size=1)
    with pytest.raises(UnknownNameError, match=r"bf61.*Did you mean 'bf16'"):
        settings_for("default", precision="bf61")
    with pytest.raises(UserError, match=r"n_trials is -1; it must be 0 \(no search\) or more"):
        settings_for("paper", n_trials=-1)
    for widths in ((512, 64), (0, 64), (64, 100)):
        with pytest.raises(UserError, match=r"tuning_widths is .* expected two multiples of 64"):
            settings_for("default", tuning_widths=widths)


def test_inner_split_is_stratified_and_complete():
    label = np.repeat([0, 1], [50, 20])
    train, validation = inner_split(label, n_folds=5, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(70))
    np.testing.assert_array_equal(np.bincount(label[validation]), [10, 4])


@pytest.mark.parametrize("seed", range(8))
def test_a_type_with_one_cell_is_learned_from(seed):
    label = np.repeat([0, 1, 2], [10, 1, 3])
    train, validation = inner_split(label, n_folds=5, seed=seed)
    assert set(label[train]) == {0, 1, 2}
    assert 1 not in label[validation]


def test_nothing_can_be_held_out_of_single_cells():
    with pytest.raises(NotApplicableError, match="every cell type has a single cell"):
        inner_split(np.arange(4), n_folds=5, seed=0)


def test_mini_batches_drop_the_rest_and_differ_between_epochs():
    batches = MiniBatches(np.arange(10, 20), batch_size=4, seed=0)
    first, second = list(batches), list(batches)
    assert [len(rows) for rows in first] == [4, 4]
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    assert len(set(np.concatenate(first))) == 8


def test_few_cells_make_one_mini_batch():
    (rows,) = MiniBatches(np.array([3, 5, 7]), batch_size=256, seed=0)
    assert sorted(rows.tolist()) == [3, 5, 7]


def test_even_chunks_hold_every_row_once():
    chunks = even_chunks(np.arange(577), batch_size=256, seed=1)
    assert [len(chunk) for chunk in chunks] == [193, 192, 192]
    np.testing.assert_array_equal(np.sort(np.concatenate(chunks)), np.arange(577))


def test_full_chunks_keep_the_order_and_drop_the_rest():
    chunks = full_chunks(np.arange(10, 20), batch_size=4)
    assert [chunk.tolist() for chunk in chunks] == [[10, 11, 12, 13], [14, 15, 16, 17]]
    (few,) = full_chunks(np.array([7, 3, 5]), batch_size=4)
    assert few.tolist() == [7, 3, 5]


def test_seeding_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    with seeded_torch(4, torch.device("cpu")):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_best_epoch_is_kept():
    # A rate far too high: the validation loss goes up and down, and the last epoch is not the best.
    rng = np.random.default_rng(0)
    X_emb, label = rng.normal(size=(100, 8)).astype(np.float32), rng.integers(2, size=100)
    validation = np.arange(60, 100)
    embedded = Fitted(
        genes=(),
        labels=("first", "second"),
        encoder=EncoderWithTemperature(build_encoder(4), temperature=0.25),
        encoder_history=History(),
        train_emb=X_emb,
        train_label=label,
        train_rows=np.arange(60),
        validation_rows=validation,
    )
    model, history = train_classifier(
        embedded,
        settings=DEFAULT,
        classifier=ClassifierSettings(hidden=(16, 16), learning_rate=0.1),
        device=torch.device("cpu"),
    )
    logits = model(torch.tensor(X_emb[validation]))
    kept = torch.nn.functional.cross_entropy(logits, torch.tensor(label[validation])).item()
    totals = [epoch.validation["total"] for epoch in history.epochs]
    assert kept == pytest.approx(min(totals), rel=1e-5)
    assert totals[-1] > 1.05 * min(totals)


@pytest.fixture
def evidence() -> Evidence:
    return Evidence(
        logits=np.log([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]) + np.array([[2.0], [0.0]]),
        X_emb=np.array([[0.0, 0.0], [0.0, 2.0]]),
        train_emb=np.array([[3.0, 0.0], [5.0, 0.0]]),
        centroids=np.array([[0.0, 1.0], [4.0, 0.0], [9.0, 9.0]]),
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("likelihood", [0.75, 1.0]),
        ("max_logit", [-(math.log(0.5) + 2), math.log(3)]),
        ("energy", [-2.0, 0.0]),
        ("centroid", [1.0, 1.0]),
        ("knn", [4.0, (math.sqrt(13) + math.sqrt(29)) / 2]),
    ],
)
def test_novelty_scores_by_hand(evidence, kind, expected):
    np.testing.assert_allclose(novelty_score(evidence, kind=kind), expected, atol=1e-7)


def test_an_unknown_novelty_score_is_named(evidence):
    with pytest.raises(UnknownNameError, match=r"enrgy.*Did you mean 'energy'"):
        novelty_score(evidence, kind="enrgy")


@pytest.mark.parametrize("layout", [torch.as_tensor, sparse.csr_matrix, sparse.csr_array])
def test_the_first_layer_gives_the_values_and_gradients_of_plain_layers(layout) -> None:
    torch.manual_seed(0)
    layer = NormalisedLinear(30, 7)
    plain = torch.nn.Sequential(torch.nn.LayerNorm(30), torch.nn.Linear(30, 7))
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 2)
        layer.norm.bias.uniform_(-1, 1)
        plain[0].load_state_dict(layer.norm.state_dict())
        plain[1].weight.copy_(layer.weight.T)
        plain[1].bias.copy_(layer.bias)
    X = np.random.default_rng(0).poisson(0.5, (9, 30)).astype(np.float32) * 1.7
    X[2] = 0  # a cell without any value
    towards = torch.rand(9, 7)

    output, plainly = layer(layout(X)), plain(torch.as_tensor(X))
    got = torch.autograd.grad((output * towards).sum(), [*layer.norm.parameters(), layer.weight, layer.bias])
    wanted = list(torch.autograd.grad((plainly * towards).sum(), list(plain.parameters())))
    wanted[2] = wanted[2].T

    torch.testing.assert_close(output, plainly, rtol=1e-5, atol=1e-6)
    for name, ours, theirs in zip(("scale", "shift", "weight", "bias"), got, wanted, strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_the_first_layer_starts_from_the_weights_that_torch_draws() -> None:
    torch.manual_seed(3)
    plain = torch.nn.Linear(8, 5)
    torch.manual_seed(3)
    assert torch.equal(NormalisedLinear(8, 5).weight.T, plain.weight)


def test_sparse_products_are_chosen_by_share_of_values_and_threads() -> None:
    cpu, before = torch.device("cpu"), torch.get_num_threads()
    X = sparse.random_array((100, 50), density=0.1, format="csr", rng=0)
    try:
        torch.set_num_threads(1)
        assert sparse_pays(X, cpu)
        assert not sparse_pays(X.toarray(), cpu)
        assert not sparse_pays(sparse.csr_array(np.ones((4, 4))), cpu)
        assert not sparse_pays(X, torch.device("cuda"))
        torch.set_num_threads(4)
        assert not sparse_pays(X, cpu)
    finally:
        torch.set_num_threads(before)


def test_the_first_layer_still_gives_the_gradient_of_its_input() -> None:
    X = torch.rand(5, 8, requires_grad=True)
    NormalisedLinear(8, 3)(X).sum().backward()
    assert X.grad is not None
    assert X.grad.abs().sum() > 0
