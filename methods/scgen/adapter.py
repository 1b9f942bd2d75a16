"""scGen for the harness. torch is imported on fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError, UnknownNameError
from cellular_bench.core.types import Corrected, MethodSpec
from cellular_bench.methods._inputs import (
    batches_of,
    labels_of,
    require_batches,
    require_fitted,
    require_labels,
)
from cellular_bench.methods._predictions import nearest_voters
from cellular_bench.methods._session import session
from cellular_bench.methods.scgen.shift import shifted, shifts_to_reference

if TYPE_CHECKING:
    from anndata import AnnData

#: Values of the parameter ``shift``; see :class:`ScGen`.
SHIFTS = ("query", "train", "none")
N_NEIGHBORS = 15
FEWEST_CELLS = 4


class ScGen:
    """scGen, reimplemented from its description: batch removal with predicted labels of the query.

    An autoencoder of expression is trained on the training cells, without batches and labels. In its latent
    space, the mean of every type in every batch is moved onto the mean of that type in the batch with most
    of its cells. The original uses the labels of the cells that it corrects, which are those it is scored
    on. Here the type of a query cell is predicted by its 15 nearest training cells in the latent space;
    :class:`ScGenPaper` is the original.

    The corrected expression is decoded from the moved cells, and the embedding is encoded from the
    corrected expression, which is what the CELLULAR study scored.

    Parameters
    ----------
    shift
        ``"query"``: shifts computed from the query, by predicted type; the embedding of a cell then
        depends on the other cells. ``"train"``: shifts computed from the training cells; no shift for pairs
        of type and batch that they lack. ``"none"``: no shift.
    n_hidden
        Number of units in each hidden layer.
    n_latent
        Number of latent dimensions.
    max_epochs
        Maximum number of passes over the training cells.
    patience
        Number of epochs without a better validation loss after which training ends.
    seed
        Seed of weights, dropout, mini-batches and the cells held out for validation.

    Raises
    ------
    NotApplicableError
        If the training cells come from one batch, have one label, or are fewer than 4.
    """

    spec = MethodSpec(
        method_id="scgen",
        name="scGen (predicted labels)",
        tasks=("integration",),
        description="Autoencoder; types predicted for the query are aligned across batches.",
        labels="train",
        inductive=True,
        needs_batches=True,
        is_reimplementation=True,
        doi="10.1038/s41592-019-0494-8",
        url="https://github.com/theislab/scgen",
        license="BSD-3-Clause",
        requires=("torch",),
        version=2,
        check_params={"max_epochs": 25, "n_hidden": 100},
        warm_up=240,
    )

    def __init__(
        self,
        *,
        shift: str = "query",
        n_hidden: int = 800,
        n_latent: int = 100,
        max_epochs: int = 100,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        if shift not in SHIFTS:
            raise UnknownNameError("shift", shift, SHIFTS)
        self.shift = shift
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.max_epochs = max_epochs
        self.patience = patience
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Train the autoencoder; keep latent coordinates, labels and batches of the training cells."""
        require_batches(train, self.spec.method_id)
        label = require_labels(train, self.spec.method_id)
        if train.n_obs < FEWEST_CELLS:
            raise NotApplicableError(
                f"scgen: needs at least {FEWEST_CELLS} training cells, got {train.n_obs}."
            )
        with session(self.seed):
            from cellular_bench.methods.scgen import network

            net = network.Network(train.n_vars, n_hidden=self.n_hidden, n_latent=self.n_latent)
            epochs = {"max_epochs": self.max_epochs, "patience": self.patience}
            self.validation_losses = network.train(net, train.X, seed=self.seed, **epochs)
            self._latent = network.encoded(net, train.X)
        self._network, self._genes = net, list(train.var_names)
        self._label, self._batch = label, batches_of(train)
        return self

    def embed(self, query: AnnData) -> Corrected:
        """Return the corrected expression, and the embedding encoded from it, (n_obs, n_latent)."""
        require_fitted(query, self._genes, self.spec.method_id)
        with session(self.seed):
            from cellular_bench.methods.scgen import network

            moved = self._moved(network.encoded(self._network, query.X), query)
            corrected = network.decoded(self._network, moved)
            return Corrected(X=corrected, X_emb=network.encoded(self._network, corrected))

    def query_labels(self, Z: NDArray[np.float32], query: AnnData) -> NDArray[np.str_]:
        """Return the most frequent type among each cell's nearest training cells, (n_obs,)."""
        voters = nearest_voters(self._latent, self._label, n_neighbors=N_NEIGHBORS)
        return np.asarray(voters.predict(Z), dtype=np.str_)

    def _moved(self, Z: NDArray[np.float32], query: AnnData) -> NDArray[np.floating[Any]]:
        """Return latent coordinates of the query with types aligned across batches."""
        if self.shift == "none":
            return Z
        label, batch = self.query_labels(Z, query), batches_of(query)
        if self.shift == "train":
            return shifted(Z, label, batch, shifts_to_reference(self._latent, self._label, self._batch))
        return shifted(Z, label, batch, shifts_to_reference(Z, label, batch))


class ScGenPaper(ScGen):
    """scGen as in the CELLULAR study: batches of the query are removed with its true labels.

    It needs the labels that it is scored on. The mean of every type is then the same in all batches,
    regardless of the autoencoder, so its scores say nothing about cells without labels.

    Parameters are those of :class:`ScGen`, without ``shift``.
    """

    spec = replace(
        ScGen.spec,
        method_id="scgen_paper",
        name="scGen (true labels, as in the study)",
        description="Autoencoder; types, taken from the labels that are scored, are aligned across batches.",
        labels="all",
        variant_of="scgen",
    )

    def __init__(
        self,
        *,
        n_hidden: int = 800,
        n_latent: int = 100,
        max_epochs: int = 100,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_hidden=n_hidden, n_latent=n_latent, max_epochs=max_epochs, patience=patience, seed=seed
        )

    def query_labels(self, Z: NDArray[np.float32], query: AnnData) -> NDArray[np.str_]:
        """Return the query's labels."""
        return labels_of(query)
