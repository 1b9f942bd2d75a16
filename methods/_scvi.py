"""What the adapters of models made on scvi-tools share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotApplicableError
from cellular_bench.core.keys import BATCH, LABEL
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._session import session
from cellular_bench.methods._support import batches_of, require_counts, require_same_genes

if TYPE_CHECKING:
    from anndata import AnnData

#: Share of the cells that are learned from; the library looks at its loss on the others.
TRAIN_SHARE = 0.9
BATCH_SIZE = 128
#: Normalisation over a mini-batch fails on one cell, and says little on two.
FEWEST_CELLS = 3
QUIET = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


class VariationalIntegrator(ABC):
    """Train an autoencoder of scvi-tools on the training cells; embed cells by the mean of its encoder.

    A child defines ``spec`` and :meth:`build`. Where the encoder does not read the batch, cells of unseen
    batches are embedded like any others.
    """

    spec: MethodSpec
    encoder_reads_batch: bool = False

    def __init__(self, *, max_epochs: int | None, accelerator: str, seed: int) -> None:
        self.max_epochs = max_epochs
        self.accelerator = accelerator
        self.seed = seed
        self._model: Any = None
        self._genes: list[str] = []
        self._batches: list[str] = []

    @abstractmethod
    def build(self, data: AnnData) -> Any:
        """Register the data and return a model that is not trained yet."""

    def fit(self, train: AnnData) -> Self:
        """Train on the training cells."""
        data = self.data(train)
        with self.session():
            self._model = self.trained(self.build(data), data.n_obs)
        return self

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the mean of each cell's latent distribution, (n_obs, n_latent)."""
        model, data = self.asked(query)
        with self.session():
            return np.asarray(model.get_latent_representation(data), dtype=np.float32)

    def asked(self, query: AnnData) -> tuple[Any, AnnData]:
        """Return the model to be asked about the cells of a query, and these as it wants them.

        Raises
        ------
        NotApplicableError
            If the encoder reads the batch, and has not seen it.
        """
        self.require_fitted(query)
        batch = batches_of(query)
        if not self.encoder_reads_batch:  # it checks the name all the same
            batch = np.full(query.n_obs, self._batches[0])
        unknown = sorted(set(batch.tolist()) - set(self._batches))
        if unknown:
            raise NotApplicableError(
                f"{self.spec.method_id}: its encoder reads the batch, and has not seen {', '.join(unknown)}. "
                "Use a split whose batches are all in training."
            )
        return self._model, bare(self.matrix(query), query, batch=batch, label=self.no_labels(query))

    def trained(self, model: Any, n_obs: int) -> Any:
        """Train a model, which is returned."""
        model.train(max_epochs=self.max_epochs, **self.options, **split_options(n_obs, seed=self.seed))
        return model

    def session(self) -> AbstractContextManager[None]:
        """Return a silent and seeded session with the libraries; see :func:`session`."""
        return session(self.seed, self.spec.requires)

    @property
    def options(self) -> dict[str, Any]:
        """Options of every training."""
        return {"accelerator": self.accelerator, **QUIET}

    def data(self, train: AnnData, *, label: NDArray[np.str_] | None = None) -> AnnData:
        """Return the training cells as the library wants them; remember what a query must look like."""
        self._genes, self._batches = list(train.var_names), np.unique(batches_of(train)).tolist()
        return bare(self.matrix(train), train, batch=batches_of(train), label=label)

    def no_labels(self, query: AnnData) -> NDArray[np.str_] | None:
        """Return what a model of labels is told of cells whose labels are not shown."""
        return None

    def require_fitted(self, query: AnnData) -> None:
        """Raise where there is no model yet, or the query has other genes."""
        if self._model is None:
            raise ContractError(f"{self.spec.method_id}: it was asked before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)

    def matrix(self, adata: AnnData) -> Any:
        """Return what the model reads, (n_obs, n_vars)."""
        return require_counts(adata, self.spec.method_id) if self.spec.reads == "counts" else adata.X


def bare(
    X: Any, adata: AnnData, *, batch: NDArray[np.str_], label: NDArray[np.str_] | None = None
) -> AnnData:
    """Return data with one matrix, the batches and the labels: the library writes into what it is given."""
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    obs = pd.DataFrame({BATCH: pd.Categorical(batch)}, index=adata.obs_names.copy())
    if label is not None:
        obs[LABEL] = pd.Categorical(label)
    var = pd.DataFrame(index=adata.var_names.copy())
    return AnnData(csr_matrix(X, dtype=np.float32, copy=True), obs=obs, var=var)


def split_options(
    n_obs: int, *, seed: int, label: NDArray[np.str_] | None = None, per_label: int = 0
) -> dict[str, Any]:
    """Return options of ``train``: the cells to learn from, and a mini-batch size that leaves no tiny rest.

    Parameters
    ----------
    label, per_label
        With labels, up to ``per_label`` cells of each are drawn in every epoch, in mini-batches too.

    Raises
    ------
    NotApplicableError
        If there are too few cells for a mini-batch.

    Examples
    --------
    >>> split_options(1000, seed=0)["batch_size"]  # 900 = 7 x 128 + 4
    128
    >>> split_options(1282, seed=0)["batch_size"]  # 1154 = 9 x 128 + 2, but 8 x 129 + 122
    129
    """
    order = np.random.default_rng(seed).permutation(n_obs)
    n_train = int(np.ceil(TRAIN_SHARE * n_obs))
    sizes = [n_train]
    if label is not None:
        _, of_label = np.unique(label[order[:n_train]], return_counts=True)
        sizes.append(int(np.minimum(of_label, per_label).sum()))
    if min(sizes) < FEWEST_CELLS:
        raise NotApplicableError(f"Needs {FEWEST_CELLS} cells to learn from; there are {min(sizes)}.")
    fitting = (size for size in count(BATCH_SIZE) if all(n % size not in (1, 2) for n in sizes))
    return {
        "batch_size": next(fitting),
        "datasplitter_kwargs": {"external_indexing": [order[:n_train], order[n_train:]]},
    }
