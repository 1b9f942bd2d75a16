"""The public class: fit on labelled cells, then embed, annotate and score the novelty of unseen cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError, UnknownNameError, UserError
from cellular_bench.core.genes import variable_genes
from cellular_bench.core.types import GeneSelection, Prediction
from cellular_bench.methods._session import available_device
from cellular_bench.methods.cellular import inputs, persistence
from cellular_bench.methods.cellular.centroids import RepresentationKind, type_means, type_representations
from cellular_bench.methods.cellular.minibatches import embed_rows, inner_split
from cellular_bench.methods.cellular.novelty import (
    SCORES,
    Evidence,
    NoveltyKind,
    log_softmax,
    novelty_score,
)
from cellular_bench.methods.cellular.settings import LOSS_TERMS, settings_for
from cellular_bench.methods.cellular.state import Fitted
from cellular_bench.methods.cellular.training import Cells, train_classifier, train_encoder

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class Cellular:
    """CELLULAR: an embedding that separates cell types and mixes batches, and a classifier on it.

    Parameters
    ----------
    preset
        ``"default"``, or ``"paper"`` for the settings of the study, including its peculiarities.
    n_top_genes
        Number of highly variable genes to select in :meth:`fit`; None uses all genes of the data.
    loss
        ``"full"``, ``"contrastive"`` (type and batch terms only) or ``"centroid"`` (centroid term only).
    n_trials
        Number of trials of the search for the classifier's shape and learning rate; 0: no search. None: the
        number of the preset, which is 0 for ``"default"`` and 100 for ``"paper"``.
    tuning_storage
        File that stores the trials, from which an interrupted search resumes; None keeps them in memory.
    progress
        Whether to print a line after every tenth trial of the search.
    novelty_kind
        Default score of :meth:`novelty`; None: ``"max_logit"``, or ``"likelihood"`` for the preset
        ``"paper"``. See :func:`~cellular_bench.methods.cellular.novelty.novelty_score`.
    min_gene_share
        Minimum share of the model's genes that a query must have, 0 to 1.
    device
        ``"auto"``: a GPU if there is one, else the CPU. Otherwise the name of a torch device.
    seed
        Seed of all random numbers. The same data, seed, machine and number of threads give the same result.
    settings
        Further settings to change, such as ``max_epochs``; see
        :class:`~cellular_bench.methods.cellular.settings.Settings`.

    Attributes
    ----------
    history
        Loss terms of every epoch of the encoder.
    classifier_history
        Loss of every epoch of the classifier.

    Examples
    --------
    >>> model = Cellular(n_top_genes=2000, seed=1)  # doctest: +SKIP
    >>> model.fit(reference, label_key="cell_type", batch_key="donor")  # doctest: +SKIP
    >>> query.obs["cell_type"] = model.predict(query)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        preset: str = "default",
        n_top_genes: int | None = None,
        loss: str = "full",
        n_trials: int | None = None,
        tuning_storage: str | Path | None = None,
        progress: bool = False,
        novelty_kind: NoveltyKind | None = None,
        min_gene_share: float = 0.5,
        device: str = "auto",
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self.settings = settings_for(preset, novelty_kind=novelty_kind, n_trials=n_trials, **settings)
        if loss not in LOSS_TERMS:
            raise UnknownNameError("loss", loss, LOSS_TERMS)
        if self.settings.novelty_kind not in SCORES:
            raise UnknownNameError("novelty score", self.settings.novelty_kind, SCORES)
        self.n_top_genes = n_top_genes
        self.loss = loss
        self.tuning_storage = None if tuning_storage is None else Path(tuning_storage)
        self.progress = progress
        self.min_gene_share = min_gene_share
        self.device = _device(device)
        self.seed = seed
        self._fitted: Fitted | None = None

    def fit(
        self,
        adata: AnnData,
        *,
        label_key: str,
        batch_key: str | Sequence[str] | None = None,
        with_classifier: bool = True,
    ) -> Self:
        """Train the model on labelled cells.

        Parameters
        ----------
        adata
            Cells with log-normalised expression in ``X``.
        label_key
            Column of ``obs`` with the cell types.
        batch_key
            Column or columns of ``obs`` with the batches; None for a single batch.
        with_classifier
            False postpones training of the classifier until it is first needed.

        Raises
        ------
        UserError
            If a column is missing or incomplete, or if ``X`` holds NaN or infinite values.
        NotApplicableError
            If there are fewer than two cell types, or if no type has two cells.
        """
        label, labels = inputs.codes_of(adata, label_key, role="label_key")
        if len(labels) < 2:
            raise NotApplicableError(
                f"cellular: all cells have the type {labels[0]!r}; at least two types are needed."
            )
        keys = [batch_key] if isinstance(batch_key, str) else list(batch_key or ())
        batches = tuple(inputs.codes_of(adata, key, role="batch_key")[0] for key in keys)
        split_seed = self.seed if self.settings.split_seed is None else self.settings.split_seed
        train, validation = inner_split(label, n_folds=self.settings.n_inner_folds, seed=split_seed)
        X, genes = self._select_genes(adata, train)
        cells = Cells(X=X, label=label, batches=_informative(batches), n_labels=len(labels))
        model, history = train_encoder(
            cells,
            train,
            validation,
            settings=self.settings,
            loss_weights=None if self.loss == "full" else LOSS_TERMS[self.loss],
            seed=self.seed,
            device=self.device,
        )
        self._fitted = Fitted(
            genes=genes,
            labels=labels,
            encoder=model,
            encoder_history=history,
            train_emb=embed_rows(model, X, device=self.device),
            train_label=label,
            train_rows=train,
            validation_rows=validation,
        )
        if with_classifier:
            self._ensure_classifier()
        return self

    def embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the embedding of cells, (n_obs, n_latent).

        Genes are matched by name, and missing genes are taken as 0; see ``min_gene_share``.
        """
        fitted = self._require_fitted()
        X = inputs.align_genes(adata, fitted.genes, min_share=self.min_gene_share)
        return embed_rows(fitted.encoder, X, device=self.device)

    def predict(self, adata: AnnData) -> NDArray[Any]:
        """Return the most probable type of each cell, (n_obs,)."""
        return self.annotate(adata).label_pred

    def predict_proba(self, adata: AnnData) -> NDArray[np.float64]:
        """Return the probability of each type, (n_obs, n_labels), columns as in ``label_names``."""
        return np.exp(log_softmax(self.evidence(adata).logits))

    def novelty(self, adata: AnnData, *, kind: NoveltyKind | None = None) -> NDArray[np.float64]:
        """Return how different each cell is from the training cells, (n_obs,); higher = more novel.

        Parameters
        ----------
        adata
            The query.
        kind
            Score; None: the one set in the constructor.
        """
        return novelty_score(self.evidence(adata), kind=kind or self.settings.novelty_kind)

    def annotate(self, adata: AnnData) -> Prediction:
        """Return predicted types, probabilities and novelty of all cells in one pass."""
        evidence = self.evidence(adata)
        proba = np.exp(log_softmax(evidence.logits))
        return Prediction(
            label_pred=self.label_names[proba.argmax(axis=1)],
            label_proba=proba,
            labels=self._require_fitted().labels,
            novelty=novelty_score(evidence, kind=self.settings.novelty_kind),
        )

    def evidence(self, adata: AnnData) -> Evidence:
        """Return the classifier output and the embeddings that predictions and novelty are computed from."""
        X_emb = self.embed(adata)
        self._ensure_classifier()
        fitted = self._require_fitted()
        centroids, _ = type_means(fitted.train_emb, fitted.train_label, n_labels=len(fitted.labels))
        logits = fitted.logits(X_emb, device=self.device)
        return Evidence(logits=logits, X_emb=X_emb, train_emb=fitted.train_emb, centroids=centroids)

    def representations(self, kind: RepresentationKind = "centroid") -> pd.DataFrame:
        """Return one vector per cell type, (n_labels, n_latent), from the embedded training cells.

        Parameters
        ----------
        kind
            ``"centroid"``, ``"median"`` or ``"medoid"``.
        """
        import pandas as pd

        fitted = self._require_fitted()
        vectors = type_representations(
            fitted.train_emb, fitted.train_label, n_labels=len(fitted.labels), kind=kind
        )
        return pd.DataFrame(vectors, index=pd.Index(fitted.labels, name="label"))

    @property
    def label_names(self) -> NDArray[Any]:
        """Sorted cell types, which are the columns of :meth:`predict_proba`."""
        return np.asarray(self._require_fitted().labels, dtype=object)

    @property
    def genes(self) -> tuple[str, ...]:
        """Names of the genes that the encoder reads, in order."""
        return self._require_fitted().genes

    @property
    def history(self) -> Any:
        """Loss terms of every epoch of the encoder."""
        return self._require_fitted().encoder_history

    @property
    def classifier_history(self) -> Any:
        """Loss of every epoch of the classifier; None before it is trained."""
        return self._require_fitted().classifier_history

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a new folder: ``model.json`` and ``weights.pt`` (tensors only)."""
        self._ensure_classifier()
        names = ("n_top_genes", "loss", "min_gene_share", "seed")
        arguments = {**{name: getattr(self, name) for name in names}, **asdict(self.settings)}
        persistence.save(arguments, self._require_fitted(), Path(path))

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Self:
        """Read a model written by :meth:`save`.

        Raises
        ------
        UserError
            If the folder does not hold a model, or was written in another format version.
        """
        arguments, fitted = persistence.load(Path(path), device=_device(device))
        model = cls(device=device, **arguments)
        model._fitted = fitted
        return model

    def _select_genes(self, adata: AnnData, train: NDArray[np.int64]) -> tuple[Any, tuple[str, ...]]:
        if not adata.var_names.is_unique:
            raise UserError("cellular: gene names are not unique; call adata.var_names_make_unique() first.")
        X, genes = inputs.expression(adata), tuple(map(str, adata.var_names))
        if self.n_top_genes is not None:
            chosen = variable_genes(X[train], GeneSelection(n_top_genes=self.n_top_genes))
            X, genes = X[:, chosen], tuple(map(str, adata.var_names[chosen]))
        if len(genes) < 4:
            raise UserError(f"cellular: the data have {len(genes)} genes; at least 4 are needed.")
        return X, genes

    def _ensure_classifier(self) -> None:
        fitted = self._require_fitted()
        if fitted.classifier is not None:
            return
        classifier = self.settings.classifier
        if self.settings.n_trials > 0:
            from cellular_bench.methods.cellular.tuning import tune_classifier

            classifier = tune_classifier(
                fitted,
                settings=self.settings,
                seed=self.seed,
                device=self.device,
                storage=self.tuning_storage,
                progress=self.progress,
            )
        fitted.classifier, fitted.classifier_history = train_classifier(
            fitted, settings=self.settings, classifier=classifier, seed=self.seed, device=self.device
        )
        fitted.classifier_settings = classifier

    def _require_fitted(self) -> Fitted:
        if self._fitted is None:
            raise UserError("cellular: the model is not fitted; call fit(adata, label_key=...) first.")
        return self._fitted


def _informative(batches: tuple[NDArray[np.int64], ...]) -> tuple[NDArray[np.int64], ...]:
    """Leave out keys with a single batch, for which there is nothing to mix."""
    return tuple(key for key in batches if key.max() > 0)


def _device(name: str) -> torch.device:
    if name == "auto":
        return available_device()
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"cellular: device {name!r} is unknown to torch; use 'auto', 'cpu' or 'cuda'."
        ) from error
