"""How the encoder and the classifier are trained: what each learns from, and with which loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cellular_bench.methods.cellular.centroids import (
    Codes,
    centroid_distances,
    class_shares,
    inverse_frequency,
)
from cellular_bench.methods.cellular.loop import Epoch, History, fit, seeded_torch
from cellular_bench.methods.cellular.loss import LossTerms, cellular_loss
from cellular_bench.methods.cellular.minibatches import (
    MiniBatches,
    Rows,
    chosen_rows,
    even_chunks,
    sparse_pays,
)
from cellular_bench.methods.cellular.model import EncoderWithTemperature, build_classifier, build_encoder
from cellular_bench.methods.cellular.settings import ClassifierSettings, LossWeights, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What the model learns from.

    Attributes
    ----------
    X
        (n_obs, n_vars) log-normalised expression, csr or dense.
    label
        (n_obs,) codes of the cell types, 0 to ``n_labels - 1``.
    batches
        Codes of the batches, one array per batch key.
    """

    X: Any
    label: Codes
    batches: tuple[Codes, ...]
    n_labels: int


def train_encoder(
    cells: Cells,
    train: Rows,
    validation: Rows,
    *,
    settings: Settings,
    loss_weights: LossWeights | None = None,
    seed: int = 0,
    device: torch.device,
) -> tuple[EncoderWithTemperature, History]:
    """Train the encoder on some cells, and keep the epoch that is best on others.

    Parameters
    ----------
    cells
        All training cells.
    train, validation
        Rows that are learned from, and rows that choose the epoch.
    settings
        The recipe.
    loss_weights
        What each term counts; None: the study's full loss.
    seed
        Seed of weights, mini-batches and dropout.
    device
        Where the networks live.
    """
    loss = _encoder_loss(cells, train, settings=settings, weights=loss_weights, seed=seed, device=device)
    by_cell = class_shares(cells.label[validation], n_classes=cells.n_labels)
    judged_by = torch.as_tensor(by_cell, dtype=torch.float32, device=device)
    batches = MiniBatches(train, batch_size=settings.batch_size, seed=seed)
    held_out = even_chunks(validation, batch_size=settings.batch_size, seed=seed)
    with seeded_torch(seed, device):
        encoder = build_encoder(cells.X.shape[1], n_latent=settings.n_latent, dropout=settings.dropout)
        model = EncoderWithTemperature(encoder, temperature=settings.temperature).to(device)

        def keep_in_range() -> None:
            model.temperature.clamp_(*settings.temperature_range)

        history = fit(
            model,
            lambda rows: loss(model, rows)._asdict(),
            batches,
            held_out,
            validation_loss=(
                (lambda rows: loss(model, rows, label_weights=judged_by)._asdict())
                if settings.validation_counts_cells
                else None
            ),
            settings=settings,
            learning_rate=settings.learning_rate,
            max_epochs=settings.max_epochs,
            patience=settings.patience,
            after_step=keep_in_range,
        )
    return model, history


def train_classifier(
    X_emb: NDArray[np.float32],
    label: Codes,
    train: Rows,
    validation: Rows,
    *,
    n_labels: int,
    settings: Settings,
    classifier: ClassifierSettings,
    seed: int = 0,
    device: torch.device,
    after_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[nn.Sequential, History]:
    """Train the classifier on an embedding that stays as it is.

    Parameters are those of :func:`train_encoder`; ``classifier`` holds what tuning varies, and
    ``after_epoch`` hears of every epoch: an exception that it raises ends training.
    """
    embedding = torch.as_tensor(X_emb, device=device)
    target = torch.as_tensor(label, device=device)
    with seeded_torch(seed, device):
        model = build_classifier(
            X_emb.shape[1], n_labels, hidden=classifier.hidden, dropout=classifier.dropout
        ).to(device)

        def loss(rows: Rows) -> dict[str, Tensor]:
            chosen = torch.as_tensor(rows, device=device)
            output = model(embedding[chosen])
            if settings.softmax_before_loss:
                output = output.softmax(dim=1)
            return {"total": functional.cross_entropy(output, target[chosen])}

        history = fit(
            model,
            loss,
            MiniBatches(train, batch_size=settings.batch_size, seed=seed),
            even_chunks(validation, batch_size=settings.batch_size, seed=seed),
            settings=settings,
            learning_rate=classifier.learning_rate,
            max_epochs=settings.classifier_max_epochs,
            patience=settings.classifier_patience,
            after_epoch=after_epoch,
        )
    return model, history


class _EncoderLoss(Protocol):
    def __call__(
        self, model: EncoderWithTemperature, rows: Rows, *, label_weights: Tensor = ...
    ) -> LossTerms: ...


def _encoder_loss(
    cells: Cells,
    train: Rows,
    *,
    settings: Settings,
    weights: LossWeights | None,
    seed: int,
    device: torch.device,
) -> _EncoderLoss:
    """Bind what the loss takes from the training cells: class weights and target distances."""

    def tensor(array: NDArray[Any]) -> Tensor:
        dtype = torch.float32 if array.dtype.kind == "f" else torch.int64
        return torch.as_tensor(array, dtype=dtype, device=device)

    label = tensor(cells.label)
    keys = [tensor(key) for key in cells.batches]
    rare_first = tensor(inverse_frequency(cells.label[train], n_classes=cells.n_labels))
    key_weights = [
        tensor(inverse_frequency(key[train], n_classes=int(key.max()) + 1)) for key in cells.batches
    ]
    target = tensor(
        centroid_distances(
            cells.X[train],
            cells.label[train],
            [key[train] for key in cells.batches],
            n_labels=cells.n_labels,
            n_components=settings.n_components,
            seed=seed,
        )
    )

    rounded = settings.precision == "bf16"
    keep_sparse = sparse_pays(cells.X, device) and not rounded

    def loss(model: EncoderWithTemperature, rows: Rows, *, label_weights: Tensor = rare_first) -> LossTerms:
        chosen = torch.as_tensor(rows, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=rounded):
            embedding = model(chosen_rows(cells.X, rows, device=device, keep_sparse=keep_sparse))
        return cellular_loss(
            embedding.float(),
            label[chosen],
            [key[chosen] for key in keys],
            label_weights=label_weights,
            batch_weights=key_weights,
            centroid_distances=target,
            temperature=model.temperature,
            weights=weights,
        )

    return loss
