"""Hierarchical classification: a classifier at every fork of a tree of labels."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._annotators import ClassifierAnnotator
from cellular_bench.methods.chetah import label_tree

#: A fork: its branches, two or more.
Fork: TypeAlias = "tuple[Tree, ...]"
#: A label, as its position among the sorted labels, or a fork.
Tree: TypeAlias = "int | Fork"


class Hierarchical(ClassifierAnnotator):
    """A logistic regression at every fork of a tree of labels, trained on the cells of the labels below it.

    The probability of a label is the product of the probabilities of the branches that lead to it. The tree
    is read from a file, or else learned as in CHETAH: average linkage of the Spearman distances between the
    mean profiles of the labels in training.

    Parameters
    ----------
    tree
        Path of a CSV file with the columns ``child`` and ``parent``: one line per node, such as a term of an
        ontology and its parent. Labels are nodes of it, by name. A label that has other labels below it is a
        branch beside theirs. Nodes without training cells are left out. None: the tree is learned.
    reject_below
        Cells whose most probable label has a lower probability are rejected: they stop at an inner node.
    C
        Inverse strength of the ridge penalty of each classifier.
    max_iter
        Maximum number of iterations of the solver.
    seed
        Not used; there is no randomness.

    Raises
    ------
    UserError
        If the file is no such table, has a cycle or lacks a label.
    """

    spec = MethodSpec(
        method_id="hierarchical",
        name="Hierarchical classification",
        tasks=("annotation", "novelty"),
        description="A logistic regression at every fork of a given or learned tree of labels.",
        labels="train",
        inductive=True,
        doi="10.1007/s10618-010-0175-9",
        license="BSD-3-Clause",
        requires=("sklearn", "scipy"),
        file_params=("tree",),
    )

    def __init__(
        self,
        *,
        tree: str | None = None,
        reject_below: float = 0.5,
        C: float = 1.0,
        max_iter: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.tree = tree
        self.reject_below = reject_below
        self.C = C
        self.max_iter = max_iter
        self.seed = seed

    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Fit the classifiers of all forks."""
        from sklearn.linear_model import LogisticRegression

        names, code = np.unique(labels, return_inverse=True)
        if self.tree is None:
            tree = learned_tree(np.stack([X[code == k].mean(axis=0) for k in range(names.size)]))
        else:
            tree = tree_of(read_parents(Path(self.tree)), names.tolist(), source=self.tree)
        local = LogisticRegression(C=self.C, max_iter=self.max_iter)
        return TreeClassifier(tree, names, local).fit(X, code)


class TreeClassifier:
    """A multi-class classifier at every fork of a tree; probabilities are multiplied along the path."""

    def __init__(self, tree: Tree, classes: NDArray[np.str_], local: Any) -> None:
        self.tree = tree
        self.classes_ = classes
        self.local = local
        self._fitted: dict[Fork, Any] = {}

    def fit(self, X: Any, code: NDArray[np.int64]) -> Self:
        """Fit the classifier of each fork on the cells of the labels below it."""
        from sklearn.base import clone

        for fork in forks(self.tree):
            branch = np.full(self.classes_.size, -1)
            for number, below in enumerate(fork):
                branch[leaves(below)] = number
            cells = branch[code] >= 0
            self._fitted[fork] = clone(self.local).fit(X[cells], branch[code[cells]])
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each label, (n_obs, n_labels)."""
        probability = np.ones((X.shape[0], self.classes_.size))
        for fork, classifier in self._fitted.items():
            for below, of_branch in zip(fork, classifier.predict_proba(X).T, strict=True):
                probability[:, leaves(below)] *= of_branch[:, None]
        return probability


def learned_tree(means: NDArray[np.floating[Any]]) -> Tree:
    """Return the tree of labels with the given means (n_labels, n_vars), as in CHETAH."""

    def nested(node: Any) -> Tree:
        return int(node.id) if node.is_leaf() else (nested(node.left), nested(node.right))

    return nested(label_tree(means.astype(np.float64)))


def tree_of(parents: Mapping[str, str], labels: Sequence[str], *, source: str) -> Tree:
    """Return the part of a tree that leads to labels; nodes with a single branch are left out.

    Examples
    --------
    >>> parents = {"B": "lymphocyte", "T": "lymphocyte", "lymphocyte": "cell", "monocyte": "cell"}
    >>> tree_of(parents, ["B", "T", "monocyte"], source="example")
    ((0, 1), 2)
    """
    known = {*parents, *parents.values()}
    missing = [label for label in labels if label not in known]
    if missing:
        raise UserError(
            f"hierarchical: {source} has no node for the label(s) {', '.join(missing)}. Add a line "
            "'child,parent' for each, or leave out the parameter 'tree' to learn the tree."
        )
    return _grouped({code: _path(label, parents, source) for code, label in enumerate(labels)}, depth=0)


def _grouped(paths: Mapping[int, tuple[str, ...]], depth: int) -> Tree:
    if len(paths) == 1:
        return next(iter(paths))
    groups = defaultdict[str, dict[int, tuple[str, ...]]](dict)
    for code, path in paths.items():
        # A label that has others below it ends here and is a branch with an empty name.
        groups[path[depth] if depth < len(path) else ""][code] = path
    branches = tuple(_grouped(group, depth + 1) for group in groups.values())
    return branches if len(branches) > 1 else branches[0]


def _path(label: str, parents: Mapping[str, str], source: str) -> tuple[str, ...]:
    path = [label]
    while path[-1] in parents:
        above = parents[path[-1]]
        if above in path:
            raise UserError(f"hierarchical: {source} has a cycle: {' -> '.join([*path, above])}.")
        path.append(above)
    return tuple(reversed(path))


def read_parents(path: Path) -> dict[str, str]:
    """Read the parent of each node from a CSV file with the columns ``child`` and ``parent``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"hierarchical: the tree {path} cannot be read: {error}.") from error
    parents: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        child, parent = row.get("child"), row.get("parent")
        if not child or not parent:
            raise UserError(f"hierarchical: line {number} of {path} lacks a child or a parent.")
        if parents.setdefault(child, parent) != parent:
            raise UserError(f"hierarchical: line {number} of {path} gives '{child}' a second parent.")
    return parents


def forks(tree: Tree) -> list[Fork]:
    """Return all forks of a tree, the root first.

    Examples
    --------
    >>> forks(((0, 1), 2))
    [((0, 1), 2), (0, 1)]
    """
    return [] if isinstance(tree, int) else [tree, *(fork for branch in tree for fork in forks(branch))]


def leaves(tree: Tree) -> list[int]:
    """Return the labels below a node.

    Examples
    --------
    >>> leaves(((0, 1), 2))
    [0, 1, 2]
    """
    return [tree] if isinstance(tree, int) else [leaf for branch in tree for leaf in leaves(branch)]
