"""The harness's classes of scGen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotApplicableError, UnknownNameError
from cellular_bench.core.types import Corrected, MethodSpec
from cellular_bench.methods._session import session
from cellular_bench.methods._support import (
    batches_of,
    labels_of,
    require_batches,
    require_labels,
    require_same_genes,
)
from cellular_bench.methods.scgen.shift import shifted, shifts_to_reference

if TYPE_CHECKING:
    from anndata import AnnData

#: What the means of types are taken from; see :class:`ScGen`.
SHIFTS = ("query", "train", "none")
N_NEIGHBORS = 15
FEWEST_CELLS = 4


class ScGen:
    """scGen, written anew from its description: batch removal with predicted labels of the query.

    An autoencoder of expression is trained on the training cells; neither batch nor label enters it. In
    its latent space the mean of every type in every batch is moved onto the mean of that type in the
    batch that has most of it. The original does so with the labels of the cells it corrects, which are
    the ones it is scored on. Here the query's types are the majority of each cell's 15 nearest training
    cells in the latent space; :class:`ScGenPaper` is the original.

    The corrected expression is what is decoded from the moved cells, and the embedding what is encoded
    from it again, as the CELLULAR study scored it.

    Parameters
    ----------
    shift
        ``"query"``: means of the query's cells, by predicted type; a cell then depends on the others.
        ``"train"``: the shifts found among the training cells, none for a type and batch not seen there.
        ``"none"``: no shift.
    n_hidden, n_latent
        Units of the hidden layers; latent dimensions.
    max_epochs, patience
        Most passes over the training cells, and how many without a better validation loss end training.
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
        description="Autoencoder; types, predicted for the query, are moved onto each other across batches.",
        labels="train",
        inductive=True,
        needs_batches=True,
        is_reimplementation=True,
        doi="10.1038/s41592-019-0494-8",
        url="https://github.com/theislab/scgen",
        license="BSD-3-Clause",
        requires=("torch",),
        check_params={"max_epochs": 25, "n_hidden": 100},
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
        self._network: Any = None

    def fit(self, train: AnnData) -> Self:
        """Train the autoencoder; remember where the training cells lie and what they are."""
        require_batches(train, self.spec.method_id)
        require_labels(labels_of(train), self.spec.method_id)
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
        self._label, self._batch = labels_of(train), batches_of(train)
        return self

    def embed(self, query: AnnData) -> Corrected:
        """Return the corrected expression, and what is encoded from it, (n_obs, n_latent)."""
        if self._network is None:
            raise ContractError(f"{self.spec.method_id}: embed was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        with session(self.seed):
            from cellular_bench.methods.scgen import network

            moved = self._moved(network.encoded(self._network, query.X), query)
            corrected = network.decoded(self._network, moved)
            return Corrected(X=corrected, X_emb=network.encoded(self._network, corrected))

    def query_labels(self, Z: NDArray[np.float32], query: AnnData) -> NDArray[np.str_]:
        """Return the type that most of each cell's nearest training cells have, (n_obs,)."""
        from sklearn.neighbors import KNeighborsClassifier

        voters = KNeighborsClassifier(min(N_NEIGHBORS, len(self._label)))
        return np.asarray(voters.fit(self._latent, self._label).predict(Z), dtype=np.str_)

    def _moved(self, Z: NDArray[np.float32], query: AnnData) -> NDArray[np.floating[Any]]:
        """Return the query's latent coordinates with types moved onto each other."""
        if self.shift == "none":
            return Z
        label, batch = self.query_labels(Z, query), batches_of(query)
        if self.shift == "train":
            return shifted(Z, label, batch, shifts_to_reference(self._latent, self._label, self._batch))
        return shifted(Z, label, batch, shifts_to_reference(Z, label, batch))


class ScGenPaper(ScGen):
    """scGen as the CELLULAR study ran it: batches of the query are removed with its true labels.

    It needs the labels that it is scored on: the mean of every type is then the same in all batches,
    whatever the autoencoder made of them. Such a row says nothing about cells without labels.

    Parameters are those of :class:`ScGen`, without ``shift``.
    """

    spec = MethodSpec(
        method_id="scgen_paper",
        name="scGen (true labels, as in the study)",
        tasks=("integration",),
        description="Autoencoder; types, known from the labels that are scored, are moved onto each other.",
        labels="all",
        inductive=True,
        needs_batches=True,
        is_reimplementation=True,
        variant_of="scgen",
        doi=ScGen.spec.doi,
        url=ScGen.spec.url,
        license=ScGen.spec.license,
        requires=ScGen.spec.requires,
        check_params=ScGen.spec.check_params,
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
