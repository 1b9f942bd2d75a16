"""Majority vote of other methods."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError, UnknownNameError, UserError
from cellular_bench.core.keys import HIGHLY_VARIABLE
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods import built_in
from cellular_bench.methods._inputs import require_fitted, require_labels
from cellular_bench.methods._predictions import most_frequent

if TYPE_CHECKING:
    from anndata import AnnData


class Ensemble:
    """Majority vote of other annotators, following the idea of popV.

    Every member sees the same data as in its own run: the labels of the training cells, and the genes
    that it asks for. A member that rejects a cell still votes with its best label. Ties go to the member
    that is listed first.

    ``label_proba`` holds shares of votes. The consensus of a cell is the share of members that voted for
    its label. Novelty is 1 - consensus, which takes at most as many values as there are members.

    Parameters
    ----------
    methods
        Annotators of this package, each run with its default parameters.
    reject_below
        Cells with a lower consensus are rejected; 0 rejects none.
    seed
        Seed of every member.

    Raises
    ------
    UserError
        If a member is unknown or is not an annotator.
    NotApplicableError
        If a member is not applicable: a vote without it would be a different method.
    """

    spec = MethodSpec(
        method_id="ensemble",
        name="Ensemble",
        tasks=("annotation", "novelty"),
        description="Majority vote of other annotators; confidence is their consensus.",
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
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Fit every member."""
        labels = require_labels(train, self.spec.method_id)
        self._labels = np.unique(labels)
        self._variable = highly_variable(train)
        self._members: list[Any] = []
        for factory in member_classes(self.methods):
            member = factory(seed=self.seed)
            member.fit(self._seen(train, factory.spec))
            self._members.append(member)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label with the most votes for each cell."""
        require_fitted(query, self._genes, self.spec.method_id)
        given = np.column_stack(
            [
                np.asarray(member.predict(self._seen(query, member.spec)).label_pred, dtype=np.str_)
                for member in self._members
            ]
        )
        return vote(given, self._labels, reject_below=self.reject_below)

    def _seen(self, adata: AnnData, spec: MethodSpec) -> AnnData:
        """Return a copy with the genes that a member asks for; members may write to it."""
        return adata[:, self._variable].copy() if spec.features == "hvg" else adata.copy()


def highly_variable(train: AnnData) -> NDArray[np.bool_]:
    """Return a mask of the highly variable genes; all genes if the data do not mark any."""
    if HIGHLY_VARIABLE not in train.var:
        return np.ones(train.n_vars, dtype=np.bool_)
    return np.asarray(train.var[HIGHLY_VARIABLE], dtype=np.bool_)


def vote(given: NDArray[np.str_], labels: NDArray[np.str_], *, reject_below: float = 0.0) -> Prediction:
    """Count the votes of members, (n_obs, n_members); ties go to the earlier member.

    ``labels`` are sorted. Cells whose winning label has a smaller share of the votes than ``reject_below``
    are rejected; 0 rejects none.
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
    """Return the classes of members; raise if a package that one of them needs is not installed."""
    known = _candidates()
    return [_available(known[name]) for name in method_ids]


def _check_members(method_ids: Sequence[str]) -> None:
    if isinstance(method_ids, str) or not method_ids or len(set(method_ids)) < len(method_ids):
        raise UserError(
            f"methods is {method_ids!r}; expected one or more different methods, such as "
            '["celltypist", "knn"].'
        )
    known = _candidates()
    for name in method_ids:
        if name not in known:
            raise UnknownNameError("member of the ensemble", name, known)


def _candidates() -> dict[str, Any]:
    return {factory.spec.method_id: factory for factory in built_in() if _may_vote(factory.spec)}


def _may_vote(spec: MethodSpec) -> bool:
    """Return whether a method annotates in this process, without parameters and without query labels."""
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
