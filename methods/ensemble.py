"""Majority vote of other methods."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotApplicableError, UnknownNameError, UserError
from cellular_bench.core.keys import HIGHLY_VARIABLE
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods import built_in
from cellular_bench.methods._support import labels_of, most_frequent, require_labels, require_same_genes

if TYPE_CHECKING:
    from anndata import AnnData


class Ensemble:
    """The label that most of some other methods give, after popV's idea.

    Every member sees what it would see alone: the labels of the training cells, and the genes that it asks
    for. A member that rejects a cell still votes with its best label. Among labels with as many votes, that
    of the member named first wins.

    ``label_proba`` holds shares of votes. The consensus of a cell is the share of members that gave its
    label, and novelty is 1 - consensus, so that it has no more different values than there are members.

    Parameters
    ----------
    methods
        Methods that ship with this package, each with its default parameters.
    reject_below
        Cells with a lower consensus are rejected; 0 rejects none.
    seed
        Seed of every member.

    Raises
    ------
    UserError
        If a member is unknown or annotates nothing.
    NotApplicableError
        If a member is: without it, the vote would be another method's.
    """

    spec = MethodSpec(
        method_id="ensemble",
        name="Ensemble",
        tasks=("annotation", "novelty"),
        description="Majority vote of other annotators, with their consensus.",
        labels="train",
        features="all",
        inductive=True,
        doi="10.1038/s41588-024-01993-3",
        method_params=("methods",),
        check_params={"methods": ["knn", "nearest_centroid", "logistic_regression"]},
    )

    def __init__(
        self,
        *,
        methods: Sequence[str] = ("linear_svm", "nearest_centroid", "scibet", "singler", "symphony_knn"),
        reject_below: float = 0.0,
        seed: int = 0,
    ) -> None:
        _check_members(methods)
        self.methods = tuple(methods)
        self.reject_below = reject_below
        self.seed = seed
        self._members: list[Any] = []

    def fit(self, train: AnnData) -> Self:
        """Fit every member."""
        labels = labels_of(train)
        require_labels(labels, self.spec.method_id)
        self._genes = list(train.var_names)
        self._labels = np.unique(labels)
        self._variable = highly_variable(train)
        self._members = []
        for factory in member_classes(self.methods):
            member = factory(seed=self.seed)
            member.fit(self._seen(train, factory.spec))
            self._members.append(member)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Let the members vote."""
        if not self._members:
            raise ContractError("ensemble: predict was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        given = np.column_stack(
            [
                np.asarray(member.predict(self._seen(query, member.spec)).label_pred, dtype=np.str_)
                for member in self._members
            ]
        )
        return vote(given, self._labels, reject_below=self.reject_below)

    def _seen(self, adata: AnnData, spec: MethodSpec) -> AnnData:
        """Return the genes that a member asks for, as a copy that it may write to."""
        return adata[:, self._variable].copy() if spec.features == "hvg" else adata.copy()


def highly_variable(train: AnnData) -> NDArray[np.bool_]:
    """Tell which genes vary highly among the training cells: all where nothing says so."""
    if HIGHLY_VARIABLE not in train.var:
        return np.ones(train.n_vars, dtype=np.bool_)
    return np.asarray(train.var[HIGHLY_VARIABLE], dtype=np.bool_)


def vote(given: NDArray[np.str_], labels: NDArray[np.str_], *, reject_below: float = 0.0) -> Prediction:
    """Count the votes of members.

    Parameters
    ----------
    given
        (n_obs, n_members) labels; an earlier member's wins among equals.
    labels
        (n_labels,) sorted names of all labels.
    reject_below
        Cells whose winner has a smaller share of the votes are rejected; 0 rejects none.
    """
    code = np.searchsorted(labels, given)
    shares = (code[:, :, None] == np.arange(labels.size)).mean(axis=1)
    consensus = shares.max(axis=1)
    return Prediction(
        label_pred=labels[most_frequent(code)],
        label_proba=shares,
        labels=tuple(labels.tolist()),
        novelty=1.0 - consensus,
        rejected=consensus < reject_below if reject_below > 0 else None,
    )


def member_classes(method_ids: Sequence[str]) -> list[Any]:
    """Look members up.

    Raises
    ------
    NotApplicableError
        If one needs what is not installed.
    """
    known = _candidates()
    return [_available(known[name]) for name in method_ids]


def _check_members(method_ids: Sequence[str]) -> None:
    if isinstance(method_ids, str) or not method_ids or len(set(method_ids)) < len(method_ids):
        raise UserError(
            f"methods is {method_ids!r}; wanted are one or more different methods, such as "
            '["celltypist", "knn"].'
        )
    known = _candidates()
    for name in method_ids:
        if name not in known:
            raise UnknownNameError("member of the ensemble", name, known)


def _candidates() -> dict[str, Any]:
    return {factory.spec.method_id: factory for factory in built_in() if _may_vote(factory.spec)}


def _may_vote(spec: MethodSpec) -> bool:
    """Tell annotators that run as they are, in this process and without labels of the cells to be named."""
    return (
        "annotation" in spec.tasks
        and spec.labels == "train"
        and spec.environment is None
        and not spec.needs_params
        and spec.method_id != Ensemble.spec.method_id
    )


def _available(factory: Any) -> Any:
    missing = [name for name in factory.spec.requires if importlib.util.find_spec(name) is None]
    if missing:
        raise NotApplicableError(
            f"ensemble: member '{factory.spec.method_id}' needs {', '.join(missing)}, which is not installed."
        )
    return factory
