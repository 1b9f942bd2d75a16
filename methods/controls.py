"""Controls: the scores of chance and of perfect knowledge on the same data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.keys import COUNTS, HIGHLY_VARIABLE, TARGET_SUM
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._components import pca_scores
from cellular_bench.methods._inputs import batches_of, labels_of, require_labels, sparse_rows

if TYPE_CHECKING:
    from anndata import AnnData

_BY_POSITION = "random draws depend on the position of a cell, as intended for a random control"
_BY_CHANCE = "uses no information on the cells, as intended for this control"


class Shuffled:
    """Principal components assigned to the wrong cells: the low end of bio-conservation.

    Batches are mixed perfectly, but no biology is left.

    Parameters
    ----------
    n_components
        Number of dimensions of the embedding; fewer if the data have fewer.
    seed
        Seed of the permutation.
    """

    spec = MethodSpec(
        method_id="shuffled",
        name="Control: shuffled",
        tasks=("integration",),
        description="PCA whose rows are permuted over all cells.",
        is_control=True,
        requires=("sklearn",),
        expected_failed_checks={
            "cell_order": _BY_POSITION,
            "other_order_and_names": _BY_POSITION,
            "beats_chance": _BY_CHANCE,
        },
    )

    def __init__(self, *, n_components: int = 50, seed: int = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return permuted principal components, (n_obs, n_components)."""
        scores = pca_scores(adata.X, n_components=self.n_components, seed=self.seed)
        return scores[self._permutation(adata, np.random.default_rng(self.seed))]

    def _permutation(self, adata: AnnData, generator: np.random.Generator) -> NDArray[np.int64]:
        return generator.permutation(adata.n_obs)


class ShuffledWithinBatch(Shuffled):
    """Principal components permuted within each batch: the low end of both aspects.

    Cell types are lost, but batch effects remain. Parameters are those of :class:`Shuffled`.
    """

    spec = replace(
        Shuffled.spec,
        method_id="shuffled_within_batch",
        name="Control: shuffled within batch",
        description="PCA whose rows are permuted among the cells of each batch.",
    )

    def _permutation(self, adata: AnnData, generator: np.random.Generator) -> NDArray[np.int64]:
        batch = batches_of(adata)
        source: NDArray[np.int64] = np.arange(adata.n_obs)
        for name in np.unique(batch):
            cells = np.flatnonzero(batch == name)
            source[cells] = generator.permutation(cells)
        return source


class DisturbedPCA(ABC):
    """Principal components that the second of two calls computes from poorer data: what noise alone harms.

    A method that harms more than these controls does more than fewer molecules, or fewer genes, would do.

    Parameters
    ----------
    kept
        Share of the molecules of each cell, or of the genes, that the second call keeps.
    n_components
        Number of dimensions of the embedding; fewer if the data have fewer.
    seed
        Seed of what is kept.
    """

    #: Set by the harness, for controls alone.
    is_second = False

    def __init__(self, *, kept: float = 0.9, n_components: int = 50, seed: int = 0) -> None:
        if not 0 < kept <= 1:
            raise UserError(f"kept is {kept!r}; it must be a share above 0, at most 1.")
        self.kept = kept
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return principal components, (n_obs, n_components)."""
        matrix = self._disturbed(adata) if self.is_second else adata.X[:, self._genes(adata)]
        return pca_scores(matrix, n_components=self.n_components, seed=self.seed)

    def _genes(self, adata: AnnData) -> Any:
        """Return which genes of the cells the components are of."""
        return slice(None)

    @abstractmethod
    def _disturbed(self, adata: AnnData) -> Any:
        """Return the expression that the second call sees."""


class PCAThinned(DisturbedPCA):
    """Principal components of counts of which a tenth of the molecules is missing in the second call.

    Each molecule is kept with the probability ``kept``; the cells are then normalised again. Parameters are
    those of :class:`DisturbedPCA`.
    """

    spec = MethodSpec(
        method_id="pca_thinned",
        name="Control: PCA, a tenth of the molecules missing",
        tasks=("harm",),
        description="PCA whose second call has lost each molecule with a probability of 10 %.",
        reads="counts",
        features="all",
        is_control=True,
        requires=("sklearn",),
    )

    def _genes(self, adata: AnnData) -> Any:
        if HIGHLY_VARIABLE not in adata.var:
            return slice(None)
        return np.asarray(adata.var[HIGHLY_VARIABLE], dtype=bool)

    def _disturbed(self, adata: AnnData) -> Any:
        counts = sparse_rows(adata.layers[COUNTS]).astype(np.float64)
        rng = np.random.default_rng(self.seed)
        counts.data = rng.binomial(np.rint(counts.data).astype(np.int64), self.kept).astype(np.float64)
        totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
        counts.data *= np.repeat(TARGET_SUM / totals, np.diff(counts.indptr))
        return counts.log1p()[:, self._genes(adata)]


class PCAFewerGenes(DisturbedPCA):
    """Principal components of the highly variable genes without a tenth of them in the second call.

    Parameters are those of :class:`DisturbedPCA`.
    """

    spec = MethodSpec(
        method_id="pca_fewer_genes",
        name="Control: PCA, a tenth of the genes missing",
        tasks=("harm",),
        description="PCA whose second call lacks a tenth of the highly variable genes, drawn at random.",
        is_control=True,
        requires=("sklearn",),
    )

    def _disturbed(self, adata: AnnData) -> Any:
        n_kept = max(1, round(self.kept * adata.n_vars))
        return adata.X[:, np.sort(np.random.default_rng(self.seed).permutation(adata.n_vars)[:n_kept])]


class PerfectLabels:
    """The true labels as an embedding: the high end of both aspects.

    There is one axis per label. Without noise, all cells of a type would be one point and their nearest
    neighbours would depend on the order of cells.

    Parameters
    ----------
    jitter
        Standard deviation of the noise on each axis; types are sqrt(2) apart.
    seed
        Seed of the noise.
    """

    spec = MethodSpec(
        method_id="perfect_labels",
        name="Control: perfect labels",
        tasks=("integration",),
        description="One axis per true label, plus slight noise.",
        labels="all",
        is_control=True,
        canary="islands",
    )

    def __init__(self, *, jitter: float = 0.01, seed: int = 0) -> None:
        self.jitter = jitter
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return indicators of the labels plus noise, (n_obs, n_labels)."""
        label = labels_of(adata)
        indicator = (label[:, None] == np.unique(label)[None, :]).astype(np.float64)
        noise = np.random.default_rng(self.seed).normal(scale=self.jitter, size=indicator.shape)
        return np.asarray(indicator + noise, dtype=np.float32)


class MajorityLabel:
    """The most frequent training label for every cell: what accuracy means for unequal type sizes.

    Probabilities are the shares of the training labels. There is no novelty score, because it would repeat
    that of ``random_label``.

    Parameters
    ----------
    seed
        Not used; there is no randomness.
    """

    spec = MethodSpec(
        method_id="majority_label",
        name="Control: majority label",
        tasks=("annotation",),
        description="The most frequent label of the training cells.",
        labels="train",
        inductive=True,
        is_control=True,
        expected_failed_checks={"beats_chance": _BY_CHANCE},
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, train: AnnData) -> Self:
        """Count the labels."""
        label = require_labels(train, self.spec.method_id, at_least=1)
        self._labels, self._counts = np.unique(label, return_counts=True)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the same label for every cell."""
        share = self._counts / self._counts.sum()
        return Prediction(
            label_pred=np.repeat(self._labels[share.argmax()], query.n_obs),
            label_proba=np.tile(share, (query.n_obs, 1)),
            labels=tuple(self._labels.tolist()),
        )


class RandomLabel:
    """Labels drawn with the frequencies of the training cells, and random novelty.

    Novelty is uniform noise and not a constant, so that no metric depends on how it breaks ties.

    Parameters
    ----------
    seed
        Seed of labels and novelty.
    """

    spec = MethodSpec(
        method_id="random_label",
        name="Control: random label",
        tasks=("annotation", "novelty"),
        description="Labels drawn with the frequencies of the training cells; novelty is noise.",
        labels="train",
        inductive=True,
        is_control=True,
        expected_failed_checks={
            "cell_order": _BY_POSITION,
            "other_order_and_names": _BY_POSITION,
            "beats_chance": _BY_CHANCE,
        },
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, train: AnnData) -> Self:
        """Keep the training labels to draw from."""
        self._pool = require_labels(train, self.spec.method_id, at_least=1)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Draw a label and a novelty score for each cell."""
        generator = np.random.default_rng(self.seed)
        drawn = generator.choice(self._pool, size=query.n_obs)
        return Prediction(label_pred=drawn, novelty=generator.random(query.n_obs))


class TrueLabels:
    """The true labels as prediction: the high end of annotation and of novelty.

    Novelty is 1 if the true label is absent from the training cells, else 0. Cells of an unseen type get
    their true label, which no annotator can know.

    Parameters
    ----------
    seed
        Not used; there is no randomness.
    """

    spec = MethodSpec(
        method_id="true_labels",
        name="Control: true labels",
        tasks=("annotation", "novelty"),
        description="The true label of every cell; novelty 1 for labels absent from training.",
        labels="all",
        inductive=True,
        is_control=True,
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, train: AnnData) -> Self:
        """Remember which labels occur in training."""
        self._seen = np.unique(labels_of(train))
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Return the query's own labels."""
        label = labels_of(query)
        labels = np.union1d(self._seen, label)
        return Prediction(
            label_pred=label,
            label_proba=(label[:, None] == labels[None, :]).astype(np.float64),
            labels=tuple(labels.tolist()),
            novelty=(~np.isin(label, self._seen)).astype(np.float64),
        )
