"""SciBet: gene selection by an entropy test, then a multinomial model of each label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._inputs import per_million, require_fitted, require_labels
from cellular_bench.methods._predictions import log_error_probability
from cellular_bench.methods._presets import preset_with

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    n_genes: int = 1000
    input_scale: str = "cpm"


PRESETS: Final = {"default": _Settings(), "paper": _Settings(n_genes=2000, input_scale="log1p")}
INPUT_SCALES: Final = ("cpm", "log1p")
#: Number of genes that count in the confidence score.
N_BACKGROUND_GENES: Final = 500


class SciBet:
    """SciBet, reimplemented from its description: entropy test and multinomial model.

    Genes are selected for which the logarithm of the mean over labels is far above the mean of the
    logarithms, which means that few labels express them. Each label is a composition of the selected genes,
    without prior; a cell gets the label under which its expression is most likely.

    Nearly all probabilities round to 0 or 1. Novelty is therefore the natural logarithm of (1 - the highest
    probability), computed without rounding. The authors instead compare each cell with a broad
    ``background`` of tissues, which is available only on their web site. If it is given, novelty is 1 -
    their confidence score, and cells below ``reject_below`` are rejected.

    Parameters
    ----------
    preset
        ``"default"``: the authors' package, 1,000 genes, counts per million. ``"paper"``: the CELLULAR
        study, 2,000 genes, log-normalised values that the model treats as linear ones.
    n_genes
        Number of genes to select; all genes if there are fewer. None uses the value of the preset.
    input_scale
        ``"cpm"``: counts per million, from ``X``. ``"log1p"``: ``X`` unchanged. None uses the value of the
        preset.
    background
        Text file with one gene per line and its mean log2(x + 1) over many tissues, separated by a tab; x
        is on the scale of ``input_scale``.
    reject_below
        Confidence (0 to 1) below which a cell is rejected; without a background no cell is.
    seed
        Not used; there is no randomness.
    """

    spec = MethodSpec(
        method_id="scibet",
        name="SciBet",
        tasks=("annotation", "novelty"),
        description="Gene selection by an entropy test, then a multinomial model of each label.",
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        doi="10.1038/s41467-020-15523-2",
        url="https://github.com/PaulingLiu/scibet",
        license="BSD-3-Clause",
        file_params=("background",),
    )

    def __init__(
        self,
        *,
        preset: str = "default",
        n_genes: int | None = None,
        input_scale: str | None = None,
        background: str | None = None,
        reject_below: float = 0.4,
        seed: int = 0,
    ) -> None:
        self.settings = preset_with(PRESETS, preset, n_genes=n_genes, input_scale=input_scale)
        if self.settings.input_scale not in INPUT_SCALES:
            raise UnknownNameError("input scale", self.settings.input_scale, INPUT_SCALES)
        if self.settings.n_genes < 1:
            raise UserError(f"scibet: n_genes is {self.settings.n_genes}; it must be at least 1.")
        self.background = background
        self.reject_below = reject_below
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Select genes and estimate the composition of each label."""
        labels = require_labels(train, self.spec.method_id)
        linear = self._linear(train)
        self._labels, members = _members(labels)
        per_label = np.asarray(members.sum(axis=1))
        score = entropy_gap(np.asarray((members @ linear).todense()) / per_label)
        self._selected = np.sort(np.argsort(-score, kind="stable")[: self.settings.n_genes])
        log2 = _log2_plus_1(linear)
        self._weights = log2_composition(np.asarray((members @ log2[:, self._selected]).todense()))
        genes = list(train.var_names)
        if self.background is not None:
            means = np.asarray((members @ log2).todense()) / per_label
            self._confidence = _Confidence(means.mean(axis=0), genes, path=Path(self.background))
            self._confidence.calibrate(log2)
        self._genes = genes
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        from scipy.special import softmax

        require_fitted(query, self._genes, self.spec.method_id)
        log2 = _log2_plus_1(self._linear(query))
        log_likelihood = np.log(2) * (log2[:, self._selected] @ self._weights.T)
        novelty, rejected = log_error_probability(log_likelihood), None
        if self.background is not None:
            confidence = self._confidence.of(log2)
            novelty, rejected = 1.0 - confidence, confidence < self.reject_below
        return Prediction(
            label_pred=self._labels[log_likelihood.argmax(axis=1)],
            label_proba=softmax(log_likelihood, axis=1),
            labels=tuple(self._labels.tolist()),
            novelty=novelty,
            rejected=rejected,
        )

    def _linear(self, adata: AnnData) -> Any:
        from scipy.sparse import csr_matrix

        if self.settings.input_scale == "log1p":
            return csr_matrix(adata.X, dtype=np.float64)
        return per_million(adata.X)


def entropy_gap(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Score how unevenly labels express each gene: 0 if all labels express it equally, else above 0.

    The score is ``log(mean over labels + 1) - mean over labels of log(mean of the label + 1)``, of linear
    means (n_labels, n_vars). All labels have equal weight.

    Examples
    --------
    >>> round(float(entropy_gap(np.array([[0.0], [np.exp(2) - 1]]))[0]), 4)
    0.4338
    """
    return np.asarray(np.log1p(mean.mean(axis=0)) - np.log1p(mean).mean(axis=0))


def log2_composition(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log2 shares of genes from summed log expression (n_labels, n_genes), with a pseudocount of 1."""
    n_genes = total.shape[1]
    return np.asarray(np.log2(total + 1) - np.log2(total.sum(axis=1, keepdims=True) + n_genes))


class _Confidence:
    """Confidence that a cell resembles the reference more than a broad background, 0 to 1."""

    def __init__(self, mean: NDArray[np.float64], genes: list[str], *, path: Path) -> None:
        background = _read_background(path)
        self._common = np.array([i for i, gene in enumerate(genes) if gene in background], dtype=np.int64)
        if self._common.size < 2:
            raise UserError(
                f"scibet: of the {len(background)} genes in {path}, {self._common.size} are among the "
                f"{len(genes)} genes of the data; at least 2 are needed. Use the same kind of gene names in "
                "both."
            )
        null = np.array([background[genes[i]] for i in self._common])
        self._weights = confidence_weights(mean[self._common], null)
        self._highest = 0.0

    def calibrate(self, log2: Any) -> None:
        """Scale confidence so that the highest score of the reference cells is 1."""
        self._highest = float(self._score(log2).max())
        if self._highest <= 0:
            raise UserError("scibet: no reference cell differs from the background. Use another background.")

    def of(self, log2: Any) -> NDArray[np.float64]:
        """Return the confidence of each cell, (n_obs,)."""
        return np.clip(self._score(log2) / self._highest, 0.0, 1.0)

    def _score(self, log2: Any) -> NDArray[np.float64]:
        return np.asarray(log2[:, self._common] @ self._weights)


def confidence_weights(
    mean: NDArray[np.float64], null: NDArray[np.float64], *, n_top: int = N_BACKGROUND_GENES
) -> NDArray[np.float64]:
    """Weight genes by the log ratio of their shares in reference and background, from mean log2 expression.

    Only the ``n_top`` genes with the largest ratio count. Other genes get weight 0.
    """
    top = np.argsort(np.log1p(null) - np.log1p(mean), kind="stable")[:n_top]
    share = np.log((mean + 1) / (mean.sum() + mean.size))
    null_share = np.log((null + 1) / (null.sum() + null.size))
    weights = np.zeros(mean.size)
    weights[top] = (share - null_share)[top]
    return weights


def _read_background(path: Path) -> dict[str, float]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"scibet: background {path} cannot be read: {error.strerror}.") from error
    return dict(
        _gene_and_mean(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1)
    )


def _gene_and_mean(line: str, where: str) -> tuple[str, float]:
    try:
        gene, value = line.split("\t")
        return gene, float(value)
    except ValueError as error:
        raise UserError(
            f"scibet: {where} is {line!r}; expected a gene and a number, separated by a tab."
        ) from error


def _members(labels: NDArray[np.str_]) -> tuple[NDArray[np.str_], Any]:
    """Return the sorted labels and sparse indicators (n_labels, n_obs) of the label of each cell."""
    from scipy.sparse import csr_matrix

    names, code = np.unique(labels, return_inverse=True)
    return names, csr_matrix((np.ones(code.size), (code, np.arange(code.size))))


def _log2_plus_1(linear: Any) -> Any:
    result = linear.copy()
    np.log1p(result.data, out=result.data)
    result.data /= np.log(2)
    return result
