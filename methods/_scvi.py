"""Base class of the adapters of models built on scvi-tools."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError, UnknownNameError
from cellular_bench.core.keys import BATCH, LABEL
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._inputs import batches_of, require_counts, require_fitted
from cellular_bench.methods._session import session

if TYPE_CHECKING:
    from anndata import AnnData

#: Share of the cells used for training; the library monitors its loss on the others.
TRAIN_SHARE = 0.9
BATCH_SIZE = 128
#: Batch normalisation fails on one cell and is very noisy on two.
FEWEST_CELLS = 3
#: ``max_epochs`` that stands for the rule of :func:`has_converged`, and for at most the library's number.
CONVERGED = "converged"
#: Number of epochs over which the rule averages the loss.
WINDOW = 10
#: The rule ends the training if a window gains no more than this share of the fall since the first epoch.
LEAST_GAIN = 0.001
QUIET = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


class VariationalIntegrator(ABC):
    """Train an autoencoder of scvi-tools on the training cells; embed cells by the mean of its encoder.

    A subclass defines ``spec`` and :meth:`build`. If the encoder does not read the batch, cells of unseen
    batches are embedded like any others.

    Attributes
    ----------
    artifacts
        Folder for ``history.json``, the loss (negative ELBO) of every epoch. The harness sets it before
        :meth:`fit`; None writes no file.
    """

    spec: MethodSpec
    encoder_reads_batch: bool = False
    artifacts: Path | None = None

    def __init__(self, *, max_epochs: int | str | None, accelerator: str, seed: int) -> None:
        if isinstance(max_epochs, str) and max_epochs != CONVERGED:
            raise UnknownNameError("max_epochs", max_epochs, [CONVERGED])
        self.max_epochs = max_epochs
        self.accelerator = accelerator
        self.seed = seed
        self._model: Any = None
        self._genes: list[str] = []
        self._batches: list[str] = []

    @abstractmethod
    def build(self, data: AnnData) -> Any:
        """Register the data and return an untrained model."""

    def fit(self, train: AnnData) -> Self:
        """Train on the training cells."""
        data = self.data(train)
        with self.session():
            self._model = self.trained(self.build(data), data.n_obs)
        self._genes = list(train.var_names)
        return self

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the mean of each cell's latent distribution, (n_obs, n_latent)."""
        model, data = self.model_for(query)
        with self.session():
            return np.asarray(model.get_latent_representation(data), dtype=np.float32)

    def model_for(self, query: AnnData) -> tuple[Any, AnnData]:
        """Return the model to apply to a query, and the cells of the query in the form that it reads.

        A batch that was not in training is not applicable if the encoder reads the batch.
        """
        require_fitted(query, self._genes, self.spec.method_id)
        batch = batches_of(query)
        if not self.encoder_reads_batch:  # the library checks batch names nevertheless
            batch = np.full(query.n_obs, self._batches[0])
        unknown = sorted(set(batch.tolist()) - set(self._batches))
        if unknown:
            raise NotApplicableError(
                f"{self.spec.method_id}: its encoder reads the batch, and was not trained on "
                f"{', '.join(unknown)}. Use a split whose batches are all in training."
            )
        return self._model, bare(self.matrix(query), query, batch=batch, label=self.no_labels(query))

    def trained(self, model: Any, n_obs: int) -> Any:
        """Train a model for the given number of epochs or until the held-out loss converges; return it."""
        by_rule = self.max_epochs == CONVERGED
        losses: dict[str, list[float]] = {}
        model.train(
            max_epochs=None if by_rule else self.max_epochs,
            callbacks=[loss_recorder(losses, by_rule=by_rule)],
            check_val_every_n_epoch=1 if by_rule else None,
            **self.options,
            **split_options(n_obs, seed=self.seed),
        )
        if self.artifacts is not None:
            (self.artifacts / "history.json").write_text(json.dumps(losses), encoding="utf-8")
        return model

    def session(self) -> AbstractContextManager[None]:
        """Return a silent and seeded session with the libraries; see :func:`session`."""
        return session(self.seed, self.spec.requires)

    @property
    def options(self) -> dict[str, Any]:
        """Options of every call of ``train``."""
        return {"accelerator": self.accelerator, **QUIET}

    def data(self, train: AnnData, *, label: NDArray[np.str_] | None = None) -> AnnData:
        """Return the training cells in the form that the library reads, and remember their batches."""
        self._batches = np.unique(batches_of(train)).tolist()
        return bare(self.matrix(train), train, batch=batches_of(train), label=label)

    def no_labels(self, query: AnnData) -> NDArray[np.str_] | None:
        """Return the label column for query cells; None for models without labels."""
        return None

    def matrix(self, adata: AnnData) -> Any:
        """Return the matrix that the model reads, (n_obs, n_vars)."""
        return require_counts(adata, self.spec.method_id) if self.spec.reads == "counts" else adata.X


def has_converged(losses: Sequence[float], *, window: int = WINDOW, least_gain: float = LEAST_GAIN) -> bool:
    """Say whether a loss has converged: one value per epoch, the first epoch first.

    It has if the mean of the last ``window`` epochs is lower than the mean of the ``window`` epochs before
    by no more than ``least_gain`` of its fall since the first epoch. Neither a factor nor a constant in the
    loss, such as the normalisation of a likelihood, changes the answer.

    Examples
    --------
    >>> has_converged([9.0, 3.0, 2.0, 1.0], window=2, least_gain=0.1)
    False
    >>> has_converged([9.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0], window=2, least_gain=0.1)
    True
    """
    if len(losses) < 2 * window:
        return False
    before, last = np.mean(losses[-2 * window : -window]), np.mean(losses[-window:])
    return bool(before - last <= least_gain * (losses[0] - last))


def loss_recorder(losses: dict[str, list[float]], *, by_rule: bool) -> Any:
    """Return a callback that appends the losses of every epoch; with the rule, it ends a converged training.

    The loss on the held-out cells is known only if it is computed in every epoch, as the rule needs.
    """
    from lightning.pytorch.callbacks import LambdaCallback

    def on_train_epoch_end(trainer: Any, _: Any) -> None:
        for name in ("elbo_train", "elbo_validation"):
            if name in trainer.callback_metrics:
                losses.setdefault(name, []).append(float(trainer.callback_metrics[name]))
        if by_rule and has_converged(losses["elbo_validation"]):
            trainer.should_stop = True

    return LambdaCallback(on_train_epoch_end=on_train_epoch_end)


def bare(
    X: Any, adata: AnnData, *, batch: NDArray[np.str_], label: NDArray[np.str_] | None = None
) -> AnnData:
    """Return a copy of one matrix with batches and labels, because the library modifies its input."""
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
    """Return options of ``train``: the training cells, and a mini-batch size without a tiny last batch.

    With labels, up to ``per_label`` cells of each are also drawn in every epoch, in mini-batches of the same
    size. Fewer than 3 cells for a mini-batch are not applicable.

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
    sizes_without_rest = (size for size in count(BATCH_SIZE) if all(n % size not in (1, 2) for n in sizes))
    return {
        "batch_size": next(sizes_without_rest),
        "datasplitter_kwargs": {"external_indexing": [order[:n_train], order[n_train:]]},
    }
