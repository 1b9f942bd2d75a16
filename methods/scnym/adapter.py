"""scNym as the harness runs it. Nothing heavy is imported before fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, UnknownNameError, UserError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._support import (
    labels_of,
    most_probable,
    per_million,
    preset_with,
    require_labels,
    require_same_genes,
)
from cellular_bench.methods.scnym.settings import CHECKPOINTS, DEFAULT, INPUT_SCALES, PRESETS, Settings

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.methods.scnym.model import Network


class ScNym:
    """scNym without unlabelled cells, written anew from its description: a network with three hidden layers.

    This is what the CELLULAR study ran: it gave the package no unlabelled cells. The authors' own way of use
    is :class:`ScNymMixMatch`.

    A tenth of the training cells is set aside as in the package, and a tenth of the others chooses the epoch.
    Both are drawn plainly at random, so that a rare label may be learned from few cells or none.

    Parameters
    ----------
    preset
        ``"default"``: the authors' current package. ``"paper"``: the version and the input of the CELLULAR
        study: one hidden layer passed twice, log-normalised values as they are, 100 epochs, the last kept.
    epochs
        Most epochs. None keeps the preset's, here and below.
    checkpoint
        ``"best"``: the epoch with the lowest loss on the selection cells. ``"last"``: the last one.
    input_scale
        ``"cpm"``: log1p of counts per million, worked out from ``X``. ``"as_is"``: ``X``.
    reject_below
        Cells whose highest probability is below it are rejected; the package sets no limit.
    seed
        Seed of every draw.

    Raises
    ------
    NotApplicableError
        If there is one label, or there are fewer than four training cells.
    """

    spec: ClassVar[MethodSpec] = MethodSpec(
        method_id="scnym",
        name="scNym, supervised",
        tasks=("annotation", "novelty"),
        description="Network with three hidden layers, dropout and batch normalisation, as the study ran it.",
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        doi="10.1101/gr.268581.120",
        url="https://github.com/calico/scnym",
        license="BSD-3-Clause",
        requires=("torch",),
        check_params={"epochs": 20},
    )

    def __init__(
        self,
        *,
        preset: str = "default",
        epochs: int | None = None,
        checkpoint: str | None = None,
        input_scale: str | None = None,
        reject_below: float = 0.0,
        seed: int = 0,
    ) -> None:
        changes = {"epochs": epochs, "checkpoint": checkpoint, "input_scale": input_scale}
        self.settings = _checked(preset_with(PRESETS, preset, **changes))
        self.reject_below = reject_below
        self.seed = seed
        self._network: Network | None = None

    def fit(self, train: AnnData) -> Self:
        """Train the network."""
        from cellular_bench.methods.scnym import training

        label = labels_of(train)
        require_labels(label, self.spec.method_id)
        self._labels, code = np.unique(label, return_inverse=True)
        self._genes = list(train.var_names)
        X = _inputs(train, self.settings)
        self._network = training.train(X, code, settings=self.settings, seed=self.seed)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Name the cells of the query."""
        if self._network is None:
            raise ContractError(f"{self.spec.method_id}: predict was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        X = _inputs(query, self.settings)
        return _prediction(self._network, X, self._labels, reject_below=self.reject_below)


class ScNymMixMatch:
    """scNym as its authors mean it, written anew: it learns from the unlabelled cells of the query too.

    Unlabelled cells get pseudolabels from the network itself, are mixed with labelled ones (MixMatch), and an
    adversary keeps the two from being told apart. The network is trained at :meth:`predict`, on training and
    query cells together; a cell's label depends on the other cells of the query (transductive).

    Parameters
    ----------
    epochs
        Most epochs.
    checkpoint
        ``"best"``: the epoch with the lowest loss on the selection cells. ``"last"``: the last one.
    min_confidence
        Least probability of a pseudolabel that is learned from: 0 where every type of the query is known,
        0.9 where new ones are expected (the authors' two configurations).
    reject_below
        Cells whose highest probability is below it are rejected; the package sets no limit.
    seed
        Seed of every draw.
    """

    spec: ClassVar[MethodSpec] = replace(
        ScNym.spec,
        method_id="scnym_mixmatch",
        name="scNym, MixMatch",
        description="scNym's network, trained on labelled and unlabelled cells with a domain adversary.",
        inductive=False,
        expected_failed_checks={
            "cell_order": (
                "It trains on the query's cells: in another order they come in other mini-batches, and "
                "probabilities shift."
            )
        },
    )

    def __init__(
        self,
        *,
        epochs: int = DEFAULT.epochs,
        checkpoint: str = DEFAULT.checkpoint,
        min_confidence: float = DEFAULT.min_confidence,
        reject_below: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.settings = _checked(
            replace(DEFAULT, epochs=epochs, checkpoint=checkpoint, min_confidence=min_confidence)
        )
        self.reject_below = reject_below
        self.seed = seed
        self._train: AnnData | None = None

    def fit(self, train: AnnData) -> Self:
        """Keep the training cells; the network is trained once the query is there."""
        require_labels(labels_of(train), self.spec.method_id)
        self._train = train
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Train the network on all cells, and name those of the query."""
        if self._train is None:
            raise ContractError(f"{self.spec.method_id}: predict was called before fit. Call fit first.")
        from cellular_bench.methods.scnym import training

        require_same_genes(query, list(self._train.var_names), self.spec.method_id)
        labels, code = np.unique(labels_of(self._train), return_inverse=True)
        X = _inputs(query, self.settings)
        network = training.train(
            _inputs(self._train, self.settings), code, settings=self.settings, seed=self.seed, unlabelled=X
        )
        return _prediction(network, X, labels, reject_below=self.reject_below)


def _checked(settings: Settings) -> Settings:
    if settings.checkpoint not in CHECKPOINTS:
        raise UnknownNameError("checkpoint", settings.checkpoint, CHECKPOINTS)
    if settings.input_scale not in INPUT_SCALES:
        raise UnknownNameError("input scale", settings.input_scale, INPUT_SCALES)
    if settings.epochs < 1:
        raise UserError(f"scnym: epochs is {settings.epochs}; it must be at least 1.")
    return settings


def _inputs(adata: AnnData, settings: Settings) -> Any:
    """Return the expression that the network reads, sparse float32."""
    from scipy.sparse import csr_matrix

    if settings.input_scale == "as_is":
        return csr_matrix(adata.X, dtype=np.float32)
    scaled = per_million(adata.X)
    np.log1p(scaled.data, out=scaled.data)
    return scaled.astype(np.float32)


def _prediction(network: Network, X: Any, labels: NDArray[np.str_], *, reject_below: float) -> Prediction:
    from scipy.special import softmax

    from cellular_bench.methods.scnym import training

    probability = softmax(training.logits(network, X).astype(np.float64), axis=1)
    return most_probable(probability, labels.tolist(), reject_below=reject_below)
