"""scNym for the harness. Nothing heavy is imported before fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._inputs import labels_of, per_million, require_fitted, require_labels
from cellular_bench.methods._predictions import most_probable_by_logits
from cellular_bench.methods._presets import preset_with
from cellular_bench.methods.scnym.settings import CHECKPOINTS, DEFAULT, INPUT_SCALES, PRESETS, Settings

if TYPE_CHECKING:
    from anndata import AnnData


class ScNym:
    """scNym without unlabelled cells, reimplemented from its description: a network with three hidden layers.

    This is what the CELLULAR study ran, because it passed no unlabelled cells to the package. The authors'
    intended use is :class:`ScNymMixMatch`.

    As in the package, a tenth of the training cells is set aside and not used, and a tenth of the others
    selects the epoch. Both are drawn without stratification, so few or no cells of a rare label may be left
    for training.

    Parameters
    ----------
    preset
        ``"default"``: the authors' current package. ``"paper"``: the version and input of the CELLULAR
        study, with one hidden layer applied twice, log-normalised values, 100 epochs and the last epoch
        kept.
    epochs
        Maximum number of epochs. None uses the value of the preset, here and below.
    checkpoint
        ``"best"``: the epoch with the lowest loss on the selection cells. ``"last"``: the last epoch.
    input_scale
        ``"cpm"``: log1p of counts per million, computed from ``X``. ``"as_is"``: ``X``.
    reject_below
        Cells whose highest probability is below this value are rejected; the package rejects none.
    seed
        Seed of all random numbers.

    Raises
    ------
    NotApplicableError
        If there is only one label, or if there are fewer than four training cells.
    """

    spec: ClassVar[MethodSpec] = MethodSpec(
        method_id="scnym",
        name="scNym, supervised",
        tasks=("annotation", "novelty"),
        description="Network with three hidden layers, dropout and batch normalisation, as in the study.",
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        doi="10.1101/gr.268581.120",
        url="https://github.com/calico/scnym",
        license="BSD-3-Clause",
        requires=("torch",),
        version=2,
        check_params={"epochs": 20},
        warm_up=240,
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
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Train the network."""
        from cellular_bench.methods.scnym import training

        label = require_labels(train, self.spec.method_id)
        self._labels, code = np.unique(label, return_inverse=True)
        X = inputs(train, self.settings)
        self._network = training.train(X, code, settings=self.settings, seed=self.seed)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        from cellular_bench.methods.scnym import training

        require_fitted(query, self._genes, self.spec.method_id)
        logits = training.logits(self._network, inputs(query, self.settings))
        return most_probable_by_logits(logits, self._labels.tolist(), reject_below=self.reject_below)


class ScNymMixMatch(TransductiveAnnotator):
    """scNym as intended by its authors, reimplemented: also trained on the unlabelled cells of the query.

    Unlabelled cells get pseudolabels from the network and are mixed with labelled cells (MixMatch); an
    adversary makes the two indistinguishable. The network is trained in :meth:`predict`, on training and
    query cells together, so a cell's label depends on the other cells of the query (transductive).

    Parameters
    ----------
    epochs
        Maximum number of epochs.
    checkpoint
        ``"best"``: the epoch with the lowest loss on the selection cells. ``"last"``: the last epoch.
    min_confidence
        Minimum probability of pseudolabels used for training: 0 if all types of the query are known, 0.9 if
        new types are expected (the two configurations of the authors).
    shared_block
        True: one hidden layer is applied twice, as in versions up to 0.3.2, which is what
        :class:`~cellular_bench.methods.scnym_original.ScNymOriginal` runs.
    reject_below
        Cells whose highest probability is below this value are rejected; the package rejects none.
    seed
        Seed of all random numbers.
    """

    spec = replace(
        ScNym.spec,
        method_id="scnym_mixmatch",
        name="scNym, MixMatch",
        description="scNym's network, trained on labelled and unlabelled cells with a domain adversary.",
        inductive=False,
        expected_failed_checks={
            "cell_order": (
                "It trains on the cells of the query; in another order they form other mini-batches, which "
                "changes probabilities."
            )
        },
    )

    def __init__(
        self,
        *,
        epochs: int = DEFAULT.epochs,
        checkpoint: str = DEFAULT.checkpoint,
        min_confidence: float = DEFAULT.min_confidence,
        shared_block: bool = DEFAULT.shared_block,
        reject_below: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.settings = _checked(
            replace(
                DEFAULT,
                epochs=epochs,
                checkpoint=checkpoint,
                min_confidence=min_confidence,
                shared_block=shared_block,
            )
        )
        self.reject_below = reject_below
        self.seed = seed

    def predict(self, query: AnnData) -> Prediction:
        """Train the network on all cells and predict the labels of the query."""
        from cellular_bench.methods.scnym import training

        train = self.training_cells(query)
        labels, code = np.unique(labels_of(train), return_inverse=True)
        X = inputs(query, self.settings)
        network = training.train(
            inputs(train, self.settings), code, settings=self.settings, seed=self.seed, unlabelled=X
        )
        logits = training.logits(network, X)
        return most_probable_by_logits(logits, labels.tolist(), reject_below=self.reject_below)


def _checked(settings: Settings) -> Settings:
    if settings.checkpoint not in CHECKPOINTS:
        raise UnknownNameError("checkpoint", settings.checkpoint, CHECKPOINTS)
    if settings.input_scale not in INPUT_SCALES:
        raise UnknownNameError("input scale", settings.input_scale, INPUT_SCALES)
    if settings.epochs < 1:
        raise UserError(f"scnym: epochs is {settings.epochs}; it must be at least 1.")
    return settings


def inputs(adata: AnnData, settings: Settings) -> Any:
    """Return the expression that the network reads, sparse float32."""
    from scipy.sparse import csr_matrix

    if settings.input_scale == "as_is":
        return csr_matrix(adata.X, dtype=np.float32)
    scaled = per_million(adata.X)
    np.log1p(scaled.data, out=scaled.data)
    return scaled.astype(np.float32)
