"""Controls: rows that mark what chance and what perfect knowledge score on the same data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._support import batches_of, labels_of, principal_components, require_labels

if TYPE_CHECKING:
    from anndata import AnnData

_BY_POSITION = "draws by the position of a cell, which is the point of a random control"
_BY_CHANCE = "knows nothing of the cells, which is the point of this control"
_RANDOM_EMBEDDING = {"cell_order": _BY_POSITION, "beats_chance": _BY_CHANCE}


class Shuffled:
    """Principal components handed to the wrong cells: the low end of bio-conservation.

    Batches are mixed perfectly and nothing else is left.

    Parameters
    ----------
    n_components
        Dimensions of the embedding; fewer where the data have no more.
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
        expected_failed_checks=_RANDOM_EMBEDDING,
    )

    def __init__(self, *, n_components: int = 50, seed: int = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return permuted principal components, (n_obs, n_components)."""
        scores = principal_components(adata.X, n_components=self.n_components, seed=self.seed)
        source = np.random.default_rng(self.seed).permutation(adata.n_obs)
        return scores[source]


class ShuffledWithinBatch:
    """Principal components permuted within each batch: the low end of both aspects.

    Cell types are lost while batch effects stay as they are.

    Parameters
    ----------
    n_components
        Dimensions of the embedding; fewer where the data have no more.
    seed
        Seed of the permutations.
    """

    spec = MethodSpec(
        method_id="shuffled_within_batch",
        name="Control: shuffled within batch",
        tasks=("integration",),
        description="PCA whose rows are permuted among the cells of each batch.",
        is_control=True,
        requires=("sklearn",),
        expected_failed_checks=_RANDOM_EMBEDDING,
    )

    def __init__(self, *, n_components: int = 50, seed: int = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return principal components permuted within batches, (n_obs, n_components)."""
        scores = principal_components(adata.X, n_components=self.n_components, seed=self.seed)
        generator = np.random.default_rng(self.seed)
        batch = batches_of(adata)
        source: NDArray[np.int64] = np.arange(adata.n_obs)
        for name in np.unique(batch):
            cells = np.flatnonzero(batch == name)
            source[cells] = generator.permutation(cells)
        return scores[source]


class PerfectLabels:
    """The true labels as an embedding: the high end of both aspects.

    One axis per label. Without some jitter all cells of a type would be one point, and nearest
    neighbours among them a matter of cell order.

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
    )

    def __init__(self, *, jitter: float = 0.01, seed: int = 0) -> None:
        self.jitter = jitter
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return jittered indicators of the labels, (n_obs, n_labels)."""
        label = labels_of(adata)
        indicator = (label[:, None] == np.unique(label)[None, :]).astype(np.float64)
        noise = np.random.default_rng(self.seed).normal(scale=self.jitter, size=indicator.shape)
        return np.asarray(indicator + noise, dtype=np.float32)


class MajorityLabel:
    """The most frequent training label for every cell: what accuracy is worth on unequal types.

    Its probabilities are the shares of the training labels. It is silent on novelty, where it would
    repeat ``random_label``.

    Parameters
    ----------
    seed
        Accepted for uniformity; nothing is drawn.
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
        label = labels_of(train)
        require_labels(label, self.spec.method_id, at_least=1)
        self._labels, self._counts = np.unique(label, return_counts=True)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Give every cell the same label."""
        share = self._counts / self._counts.sum()
        return Prediction(
            label_pred=np.repeat(self._labels[share.argmax()], query.n_obs),
            label_proba=np.tile(share, (query.n_obs, 1)),
            labels=tuple(self._labels.tolist()),
        )


class RandomLabel:
    """Labels drawn with the frequencies of the training cells, and random novelty.

    Novelty is uniform noise rather than a constant, so that no metric can profit from how it breaks
    ties.

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
        expected_failed_checks={"cell_order": _BY_POSITION, "beats_chance": _BY_CHANCE},
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, train: AnnData) -> Self:
        """Keep the labels to draw from."""
        self._pool = labels_of(train)
        require_labels(self._pool, self.spec.method_id, at_least=1)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Draw a label and a novelty for each cell."""
        generator = np.random.default_rng(self.seed)
        drawn = generator.choice(self._pool, size=query.n_obs)
        return Prediction(label_pred=drawn, novelty=generator.random(query.n_obs))


class TrueLabels:
    """The true labels as prediction: the high end of annotation and of novelty.

    Novelty is 1 where the true label is absent from the training cells and 0 elsewhere. A cell of an
    unseen type gets its true label, which no honest annotator can give.

    Parameters
    ----------
    seed
        Accepted for uniformity; nothing is drawn.
    """

    spec = MethodSpec(
        method_id="true_labels",
        name="Control: true labels",
        tasks=("annotation", "novelty"),
        description="The true label of every cell; novelty 1 for labels unseen in training.",
        labels="all",
        inductive=True,
        is_control=True,
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, train: AnnData) -> Self:
        """Remember which labels were seen."""
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
