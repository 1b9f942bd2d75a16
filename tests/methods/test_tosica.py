"""TOSICA's parts against their definitions: gene sets, tokens, blocks, attention, training, adapter."""

import gzip

import numpy as np
import pytest
import torch

from cellular_bench.core.errors import ContractError, NotApplicableError, UnknownNameError, UserError
from cellular_bench.methods.tosica import Tosica
from cellular_bench.methods.tosica.gene_sets import at_random, from_gmt, read_gmt
from cellular_bench.methods.tosica.model import Block, GeneSetTokens, halved, with_identity
from cellular_bench.methods.tosica.model import Tosica as Network
from cellular_bench.methods.tosica.training import balanced_rows, learning_rate_factor

SHORT = Tosica.spec.check_params
MEMBERS = (np.array([0, 2, 5]), np.array([1]), np.array([0, 1, 2, 3, 4, 5, 6]), np.array([3, 6]))
N_VARS = 7


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def network(layout="set", members=MEMBERS, n_vars=N_VARS):
    return Network(members, n_vars=n_vars, n_labels=3, layout=layout)


def masked_layer(tokens):
    """The weights as one dense layer whose output units come set by set: (n_units, n_vars), (n_units,)."""
    weights = []
    for found, weight in zip(MEMBERS, tokens.weight.detach(), strict=True):
        whole = torch.zeros(48, N_VARS)
        whole[:, found] = weight[: len(found)].T
        weights.append(whole)
    weights.append(tokens.all_genes.weight.detach())
    biases = [*tokens.bias.detach()[:, 0], tokens.all_genes.bias.detach()]
    return torch.cat(weights), torch.cat(biases)


def test_tokens_are_a_masked_layer_read_set_by_set():
    tokens, X = GeneSetTokens(MEMBERS, n_vars=N_VARS, layout="set"), torch.rand(4, N_VARS)
    weight, bias = masked_layer(tokens)
    units = X @ weight.T + bias
    torch.testing.assert_close(tokens(X), units.view(4, 5, 48))


def test_published_tokens_take_each_value_from_another_set():
    tokens, X = GeneSetTokens(MEMBERS, n_vars=N_VARS, layout="published"), torch.rand(4, N_VARS)
    weight, bias = masked_layer(tokens)
    units, n_tokens = X @ weight.T + bias, 5
    found = tokens(X)
    for token in range(n_tokens):
        for dimension in range(48):
            torch.testing.assert_close(found[:, token, dimension], units[:, dimension * n_tokens + token])


@pytest.mark.parametrize("layout", ["set", "published"])
def test_masked_weights_stay_zero_in_training(layout):
    model = network(layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    before = model.tokens.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.rand(6, N_VARS)), torch.arange(6) % 3).backward()
        optimizer.step()
    for weight, old, found in zip(model.tokens.weight, before, MEMBERS, strict=True):
        assert torch.all(weight[len(found) :] == 0)
        assert torch.all(weight[: len(found)] != old[: len(found)])


def test_initial_weights_have_the_bounds_of_a_layer_of_all_genes():
    tokens = GeneSetTokens([np.arange(100)], n_vars=400, layout="set")
    for weight in (tokens.weight, tokens.all_genes.weight):
        assert 0.049 < weight.abs().max() <= 0.05
    assert network().head.weight.abs().max() < 0.05
    assert torch.all(network().head.bias == 0)


def test_a_block_by_its_definition():
    block, x = Block(drop_path=0.5).eval(), torch.randn(2, 5, 48)
    norm = torch.nn.functional.layer_norm(x, (48,), eps=1e-6)
    q, k, v = block.qkv(norm).chunk(3, dim=2)
    heads = []
    for head in range(4):
        part = slice(12 * head, 12 * head + 12)
        weights = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / 12**0.5, dim=-1)
        heads.append(weights @ v[..., part])
    y = x + block.project(torch.cat(heads, dim=2))
    inner = torch.nn.functional.layer_norm(y, (48,), eps=1e-6)
    expected = y + block.narrow(torch.nn.functional.gelu(block.widen(inner)))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(block(x, n_queries=1), expected[:, :1], atol=1e-5, rtol=1e-5)


def test_attention_is_rolled_out_over_both_blocks():
    model, X = network().eval(), torch.rand(3, N_VARS)
    found = model.attention(X)
    assert found.shape == (3, len(MEMBERS))
    x = model._with_class_token(X)
    rolled = torch.eye(6).expand(3, 6, 6)
    for block in (model.first, model.second):
        weights = block.attention_weights(x).mean(dim=1) + torch.eye(6)
        rolled = weights / weights.sum(dim=2, keepdim=True) @ rolled
        x = block(x)
    torch.testing.assert_close(found, rolled[:, 0, 1:-1])
    # Rows of the whole matrix sum to 1; the class token keeps at least the identity's quarter.
    torch.testing.assert_close(rolled.sum(dim=2), torch.ones(3, 6))
    assert torch.all(rolled[:, 0, 0] > 0.25)


def test_identity_is_added_before_rows_are_normalised():
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    torch.testing.assert_close(with_identity(weights), torch.tensor([[0.625, 0.375], [0.25, 0.75]]))
    torch.testing.assert_close(with_identity(weights[:1]), torch.tensor([[0.625, 0.375]]))


def test_halved_keeps_half_at_twice_the_value_and_their_gradient():
    x = torch.ones(1000, 33, requires_grad=True)
    dropped = halved(x)
    assert set(dropped.detach().unique().tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped.detach())
    # Bits of neighbours have nothing to do with each other.
    kept = (dropped.detach() > 0).float()
    assert torch.corrcoef(kept.T).fill_diagonal_(0).abs().max() < 0.2


def test_training_drops_in_both_blocks_and_skips_whole_samples_in_the_second_alone():
    x = torch.randn(400, 3, 48)
    first, second = Block(drop_path=0.0).train(), Block(drop_path=0.5).train()
    unchanged = [(block(x) == x).flatten(1).all(dim=1).float().mean().item() for block in (first, second)]
    assert unchanged[0] == 0.0
    # Attention and small network are skipped independently: a quarter of the samples skips both.
    assert unchanged[1] == pytest.approx(0.25, abs=0.07)


def test_learning_rate_falls_along_half_a_cosine_to_a_hundredth():
    factors = [learning_rate_factor(epoch, epochs=10) for epoch in range(11)]
    assert (factors[0], factors[5], factors[10]) == pytest.approx((1.0, 0.505, 0.01))
    assert factors[1] == pytest.approx((1 + np.cos(np.pi / 10)) / 2 * 0.99 + 0.01)


def test_rows_are_drawn_as_often_from_each_class():
    label = np.repeat([0, 1, 2], [1000, 100, 1])
    rows = balanced_rows(label, generator=np.random.default_rng(0))
    assert len(rows) == 2100
    np.testing.assert_allclose(np.bincount(label[rows]), 700, atol=60)
    assert len(np.unique(rows[label[rows] == 0])) < 600


GMT = (
    "tiny\tx\tg0\tg1\nsome\tx\tg0\tg1\tg2\tg3\tg4\nlarge\tx\t{}\n"
    "other\tx\tg9\tg8\tg7\tg6\tg5\telsewhere\nmost\tx\t{}\n"
)
GENES = [f"g{number}" for number in range(10)]


def gmt(tmp_path, *, zipped=False):
    text = GMT.format("\t".join(f"h{i}" for i in range(301)), "\t".join(GENES[:7]))
    path = tmp_path / ("sets.gmt.gz" if zipped else "sets.gmt")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_gene_sets_are_those_with_most_genes_in_the_order_of_the_file(tmp_path, zipped):
    found = from_gmt(gmt(tmp_path, zipped=zipped), GENES, max_sets=10, max_set_size=300)
    assert found.names == ("some", "other", "most")
    np.testing.assert_array_equal(found.members[1], [5, 6, 7, 8, 9])
    # "some" and "other" hold five genes each: the first is taken.
    found = from_gmt(gmt(tmp_path), GENES, max_sets=2, max_set_size=300)
    assert found.names == ("some", "most")
    # The size in the file counts, not the genes found: "other" has six there.
    assert from_gmt(gmt(tmp_path), GENES, max_sets=10, max_set_size=5).names == ("some",)


def test_gene_sets_of_no_use_are_clear_errors(tmp_path):
    with pytest.raises(NotApplicableError, match="at least 5 of the 1 genes of the data"):
        from_gmt(gmt(tmp_path), ["Ins1"], max_sets=10, max_set_size=300)
    broken = tmp_path / "broken.gmt"
    broken.write_text("a set\tdescription\n")
    with pytest.raises(UserError, match=r"line 1 of .* has 2 fields"):
        list(read_gmt(broken))
    with pytest.raises(UserError, match="cannot be read"):
        list(read_gmt(tmp_path / "absent.gmt"))


def test_random_sets_hold_their_share_of_genes():
    drawn = at_random(2000, n_sets=299, seed=3)
    assert len(drawn.members) == 299
    assert np.mean([len(found) for found in drawn.members]) == pytest.approx(30, abs=1)
    assert [m.tolist() for m in drawn.members] == [
        m.tolist() for m in at_random(2000, n_sets=299, seed=3).members
    ]


@pytest.mark.filterwarnings("ignore:tosica. no gene_sets given")
def test_the_embedding_has_a_column_per_gene_set(train, query):
    fitted = Tosica(**SHORT).fit(train)
    emb = fitted.embed(query)
    assert emb.shape == (120, 29)
    assert np.all(emb > 0)
    assert np.all(emb.sum(axis=1) < 0.75)
    prediction = fitted.predict(query)
    np.testing.assert_allclose(prediction.novelty, 1 - prediction.label_proba.max(axis=1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:tosica. no gene_sets given")
def test_types_are_told_apart_once_training_leaves_its_plateau(train, query):
    fitted = Tosica(max_gene_sets=12, epochs=100, batch_size=32, learning_rate=0.05).fit(train)
    accuracy = np.mean(fitted.predict(query).label_pred == query.obs["label"].to_numpy())
    assert accuracy > 0.8


def test_random_sets_are_warned_of_and_files_are_not(tmp_path, train, recwarn):
    with pytest.warns(UserWarning, match="29 random sets of genes, not pathways"):
        Tosica(**{**SHORT, "epochs": 1}).fit(train)
    path = tmp_path / "sets.gmt"
    path.write_text(
        "first\tx\t" + "\t".join(train.var_names[:6]) + "\nsecond\tx\t" + "\t".join(train.var_names[9:20])
    )
    recwarn.clear()
    fitted = Tosica(gene_sets=str(path), epochs=1).fit(train)
    assert fitted.tokens.names == ("first", "second")
    assert not [warning for warning in recwarn if "random" in str(warning.message)]


def test_the_default_is_the_authors_code():
    default, sets = Tosica().settings, Tosica(preset="sets").settings
    assert default == Tosica(preset="paper").settings
    assert (default.layout, default.batch_size, default.learning_rate) == ("published", 8, 0.001)
    assert (sets.layout, sets.batch_size, sets.learning_rate) == ("set", 64, 0.008)
    assert (default.epochs, default.max_gene_sets, default.max_set_size) == (10, 300, 300)


def test_wrong_settings_are_clear_errors(train):
    with pytest.raises(UnknownNameError, match="Unknown layout 'sets'"):
        Tosica(layout="sets")
    with pytest.raises(UserError, match="epochs is 0"):
        Tosica(epochs=0)
    with pytest.raises(ContractError, match="predict was called before fit"):
        Tosica().embed(train)


def test_the_network_gives_the_originals_outputs_with_the_same_weights(fidelity):
    values = fidelity.network_values()
    members = [np.array(found) for found in ([0, 2, 5], [1], [0, 1, 2, 3, 4, 5, 6], [3, 6])]
    model = Network(members, n_vars=7, n_labels=3, layout="published").eval()
    of_tokens = values.drawn("feature_embed.fe.weight", (5 * 48, 7)).reshape(5, 48, 7)
    of_biases = values.drawn("feature_embed.fe.bias", (5 * 48,)).reshape(5, 48)
    given = {"tokens.all_genes.weight": of_tokens[4], "tokens.all_genes.bias": of_biases[4]}
    given["tokens.bias"] = of_biases[:4, None]
    weight = np.zeros((4, 7, 48))
    for row, positions, of_set in zip(weight, members, of_tokens, strict=False):
        row[: len(positions)] = of_set[:, positions].T
    given["tokens.weight"] = weight
    names = {"class_token": "cls_token", "norm": "norm", "head": "head"}
    parts = {"norm": "norm1", "qkv": "attn.qkv", "project": "attn.proj"}
    parts |= {"mlp_norm": "norm2", "widen": "mlp.fc1", "narrow": "mlp.fc2"}
    for number, block in enumerate(("first", "second")):
        names |= {f"{block}.{ours}": f"blocks.{number}.{theirs}" for ours, theirs in parts.items()}
    for name, value in model.state_dict().items():
        stem, _, kind = name.rpartition(".")
        if name in given:
            value.copy_(torch.from_numpy(given[name]))
        elif name != "tokens.genes":
            theirs = names[stem] + f".{kind}" if stem else names[name]
            value.copy_(torch.from_numpy(values.drawn(theirs, tuple(value.shape))))
    X = torch.from_numpy(values.expression(5, 7)).float()
    original = fidelity.network_outputs("tosica_network")
    with torch.no_grad():
        found = {"logits": model(X), "attention": model.attention(X)}
    assert found.keys() == original.keys()
    worst = max(fidelity.largest_difference(found[name], original[name]) for name in found)
    fidelity.assert_recorded("tosica", "small", scores=worst)
