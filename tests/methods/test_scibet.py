"""SciBet's formulas by hand: chosen genes, compositions, probabilities, confidence."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.methods.scibet import SciBet, confidence_weights, entropy_gap, log2_composition


def cells(X, label=("a", "b")):
    """Cells whose linear values are X where read as ``log1p`` scale: as they are."""
    obs = pd.DataFrame({"label": pd.Categorical(label)}, index=[f"cell{i}" for i in range(len(X))])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(len(X[0]))])
    return AnnData(csr_matrix(np.asarray(X, dtype=np.float64)), obs=obs, var=var)


def test_entropy_gap_by_hand():
    # Means (0, 0) and (3, 3) tell nothing; (0, e^2 - 1): log((e^2 - 1) / 2 + 1) - (0 + 2) / 2.
    mean = np.array([[0.0, 3.0, 0.0], [0.0, 3.0, np.exp(2) - 1]])
    expected = [0.0, 0.0, np.log((np.exp(2) - 1) / 2 + 1) - 1]
    np.testing.assert_allclose(entropy_gap(mean), expected, atol=1e-15)
    assert entropy_gap(mean)[2] == pytest.approx(0.4338, abs=1e-4)


def test_labels_weigh_the_same_in_the_entropy_gap_whatever_their_size():
    few = cells([[4, 1], [0, 3]])
    many = cells([[4, 1], [4, 1], [4, 1], [0, 3]], label=["a", "a", "a", "b"])
    chosen = [SciBet(n_genes=1, input_scale="log1p").fit(data)._selected for data in (few, many)]
    np.testing.assert_array_equal(chosen, [[0], [0]])


def test_composition_by_hand():
    # (3 + 1) / (3 + 1 + 2) and (1 + 1) / 6; an empty label is even.
    expected = np.log2([[4 / 6, 2 / 6], [1 / 2, 1 / 2]])
    np.testing.assert_allclose(log2_composition(np.array([[3.0, 1.0], [0.0, 0.0]])), expected)


def test_probabilities_by_hand():
    # Linear 1 and 3 are 1 and 2 in log2(x + 1). Sums: a = (1 + 2, 0), b = (0, 2).
    train = cells([[1, 0], [3, 0], [0, 3]], label=["a", "a", "b"])
    # Shares: a = (4/5, 1/5), b = (1/4, 3/4). The query is 2 of gene 0 and 1 of gene 1 in log2.
    prediction = SciBet(input_scale="log1p").fit(train).predict(cells([[3, 1]], label=["a"]))
    likelihood = np.array([(4 / 5) ** 2 * (1 / 5), (1 / 4) ** 2 * (3 / 4)])
    np.testing.assert_allclose(prediction.label_proba[0], likelihood / likelihood.sum())
    np.testing.assert_allclose(prediction.novelty, np.log(likelihood[1] / likelihood.sum()))
    assert prediction.label_pred.tolist() == ["a"]
    assert prediction.rejected is None


def test_the_presets_read_other_scales(train, query):
    # log1p of counts per 10,000: a value of log(3) is 2 per 10,000, so 200 per million.
    model = SciBet()
    np.testing.assert_allclose(
        model._linear(cells([[np.log(3), 0], [0, np.log(11)]])).toarray(), [[200, 0], [0, 1000]]
    )
    paper = SciBet(preset="paper")
    np.testing.assert_allclose(paper._linear(train).toarray(), train.X.toarray())
    assert (model.settings.n_genes, paper.settings.n_genes) == (1000, 2000)
    assert paper.fit(train)._selected.size == train.n_vars


def test_a_label_has_as_many_genes_as_asked_for_and_ties_go_to_the_first():
    train = cells([[5, 1, 5, 1], [0, 1, 0, 1]])
    np.testing.assert_array_equal(SciBet(n_genes=1, input_scale="log1p").fit(train)._selected, [0])
    np.testing.assert_array_equal(SciBet(n_genes=3, input_scale="log1p").fit(train)._selected, [0, 1, 2])


def test_novelty_keeps_cells_apart_where_probabilities_round_to_one():
    train = cells([[3, 0], [0, 3]])
    rows = np.array([[2.0**500 - 1, 0], [2.0**400 - 1, 0]])
    prediction = SciBet(input_scale="log1p").fit(train).predict(cells(rows, label=["a", "a"]))
    np.testing.assert_array_equal(prediction.label_proba.max(axis=1), [1.0, 1.0])
    # Shares (3/4, 1/4) against (1/4, 3/4): a factor of 3 per unit.
    np.testing.assert_allclose(prediction.novelty, [-500 * np.log(3), -400 * np.log(3)])


def test_confidence_weights_by_hand():
    mean, null = np.array([3.0, 1.0, 0.0]), np.array([1.0, 1.0, 2.0])
    # Ratios (mean + 1) / (null + 1) are 2, 1, 1/3; sums + genes are 7 and 7.
    expected = [np.log(4 / 7) - np.log(2 / 7), np.log(2 / 7) - np.log(2 / 7), 0.0]
    np.testing.assert_allclose(confidence_weights(mean, null, n_top=2), expected, atol=1e-15)


def test_cells_like_the_background_are_rejected(tmp_path, train, query):
    log2 = np.log2(train.X.toarray() + 1)
    background = tmp_path / "background.tsv"
    null = log2[train.obs["label"].to_numpy() == "acinar"].mean(axis=0)
    background.write_text(
        "".join(f"{gene}\t{value}\n" for gene, value in zip(train.var_names, null, strict=True))
    )
    model = SciBet(input_scale="log1p", background=str(background)).fit(train)
    reference = model.predict(train)
    assert reference.novelty.min() == pytest.approx(0.0, abs=1e-12)
    prediction = model.predict(query)
    np.testing.assert_array_equal(prediction.rejected, 1 - prediction.novelty < 0.4)
    acinar = query.obs["label"].to_numpy() == "acinar"
    assert prediction.novelty[acinar].mean() > prediction.novelty[~acinar].mean() + 0.05
    assert (
        not SciBet(input_scale="log1p", background=str(background), reject_below=0.0)
        .fit(train)
        .predict(query)
        .rejected.any()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("GENE1 3.0\n", r"line 1 of .*background.tsv is 'GENE1 3.0'; expected a gene and a number"),
        ("elsewhere\t3.0\n", "0 are among the 80 genes of the data"),
        (None, "cannot be read"),
    ],
)
def test_a_background_of_no_use_is_a_clear_error(tmp_path, train, text, message):
    path = tmp_path / "background.tsv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        SciBet(background=str(path)).fit(train)


def test_unknown_names_are_clear_errors():
    with pytest.raises(UnknownNameError, match="Did you mean 'paper'"):
        SciBet(preset="papr")
    with pytest.raises(UnknownNameError, match=r"Unknown input scale 'cmp'\. Did you mean 'cpm'"):
        SciBet(input_scale="cmp")
    with pytest.raises(UserError, match="n_genes is 0"):
        SciBet(n_genes=0)
