"""Classification along a tree: the tree of a file or of the data, and products of probabilities."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cellular_bench.core.errors import UserError
from cellular_bench.methods.hierarchical import (
    Hierarchical,
    TreeClassifier,
    learned_tree,
    read_parents,
    tree_of,
)

PARENTS = {
    "CD4": "T",
    "CD8": "T",
    "T": "lymphocyte",
    "B": "lymphocyte",
    "lymphocyte": "cell",
    "monocyte": "cell",
    "platelet": "other",
}


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_nodes_without_labels_or_with_one_branch_are_left_out():
    assert tree_of(PARENTS, ["B", "CD4", "CD8", "monocyte"], source="x") == ((0, (1, 2)), 3)
    assert tree_of(PARENTS, ["B", "CD4"], source="x") == (0, 1)
    assert tree_of(PARENTS, ["B", "CD4", "platelet"], source="x") == ((0, 1), 2)


def test_a_label_above_others_is_a_branch_beside_theirs():
    assert tree_of(PARENTS, ["B", "CD4", "CD8", "T"], source="x") == (0, (1, 2, 3))
    assert tree_of(PARENTS, ["CD4", "lymphocyte"], source="x") == (0, 1)


def test_the_learned_tree_joins_the_labels_that_rank_genes_most_alike():
    # Spearman: 0.8 for the first and third, -1 and -0.8 with the second.
    means = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 1.0, 2.0]])
    assert learned_tree(means) == (1, (0, 2))


def test_probabilities_are_products_of_those_of_classifiers_fitted_by_hand(train, query):
    X, code = train.X.toarray(), np.unique(labels(train), return_inverse=True)[1]
    ours = TreeClassifier((2, (0, 1)), np.unique(labels(train)), LogisticRegression()).fit(X, code)
    first = LogisticRegression().fit(X, code != 2).predict_proba(query.X.toarray())
    below = LogisticRegression().fit(X[code != 2], code[code != 2]).predict_proba(query.X.toarray())
    expected = np.column_stack([first[:, 1] * below[:, 0], first[:, 1] * below[:, 1], first[:, 0]])
    np.testing.assert_allclose(ours.predict_proba(query.X.toarray()), expected, atol=1e-5)


def test_a_tree_with_one_fork_is_logistic_regression(tmp_path, train, query):
    flat = written(tmp_path / "tree.csv", "child,parent\nacinar,cell\nbeta,cell\ndelta,cell\n")
    prediction = Hierarchical(tree=str(flat)).fit(train).predict(query)
    reference = LogisticRegression(max_iter=1000).fit(train.X.toarray(), labels(train))
    np.testing.assert_allclose(prediction.label_proba, reference.predict_proba(query.X.toarray()), atol=1e-5)


def test_cells_between_labels_are_rejected_at_the_fork(tmp_path, train, query):
    tree = written(
        tmp_path / "tree.csv", "child,parent\nacinar,cell\nendocrine,cell\nbeta,endocrine\ndelta,endocrine\n"
    )
    strict = Hierarchical(tree=str(tree), reject_below=0.999).fit(train).predict(query)
    np.testing.assert_array_equal(strict.rejected, strict.label_proba.max(axis=1) < 0.999)
    assert 0 < strict.rejected.mean() < 1
    assert Hierarchical(reject_below=0.0).fit(train).predict(query).rejected is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "child,parent\nbeta,islet\nislet,beta\nacinar,cell\ndelta,cell\n",
            "has a cycle: beta -> islet -> beta",
        ),
        ("child,parent\nacinar,cell\nbeta,cell\n", r"has no node for the label\(s\) delta"),
        ("child,parent\nbeta,cell\nbeta,islet\n", "line 3 of .* gives 'beta' a second parent"),
        ("child;parent\nbeta;cell\n", "line 2 of .* lacks a child or a parent"),
    ],
)
def test_a_file_that_is_no_tree_of_the_labels_is_refused(tmp_path, train, text, message):
    tree = written(tmp_path / "tree.csv", text)
    with pytest.raises(UserError, match=message):
        Hierarchical(tree=str(tree)).fit(train)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.csv cannot be read"):
        read_parents(tmp_path / "absent.csv")
